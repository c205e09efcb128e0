//! What does not change with the number of steps or the pace.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests by clippy

mod support;

use std::time::Duration;

use neap_engine::{
    Behavior, DecisionState, MetricSpec, PolicyKind, ScalingPolicy, Step, ValueTarget,
};
use neap_units::{MilliValue, Timestamp};
use support::{Target, external, spec, value};

const STEPS: i64 = 1_000_000;

/// Every thousandth up to a thousand: the proposal is that of whole numbers at each of them.
#[test]
fn a_million_steps_of_a_thousandth_propose_what_whole_numbers_do() {
    let mut spec = spec(vec![external("queue", 1)]);
    spec.min_replicas = 1;
    spec.max_replicas = 10_000;
    spec.triggers[0].metric = MetricSpec::External {
        selector: None,
        target: ValueTarget::AverageValue(MilliValue::new(7)),
        activation: MilliValue::ZERO,
    };
    spec.settings.reversal_hold = Duration::ZERO;
    spec.settings.tolerance = 0.0;
    // One replica and no writes: everything is far outside the tolerance.
    let target = Target::new(spec, 1);
    for thousandths in 8..STEPS {
        let load = MilliValue::new(thousandths);
        let now = Timestamp::from_millis(thousandths);
        let evaluation = target.look(&[value(std::slice::from_ref(&load), now)], now);
        let wanted = (thousandths + 6) / 7;
        let proposed = evaluation.why.steps.iter().find_map(|step| match step {
            Step::Aggregated { replicas, .. } => Some(i64::from(*replicas)),
            _ => None,
        });
        assert_eq!(proposed, Some(wanted), "{load}");
    }
}

/// Up and down again, a million times: the policies end where they began.
#[test]
fn a_million_changes_leave_no_trace_in_the_limits() {
    let mut spec = spec(vec![external("queue", 1)]);
    spec.min_replicas = 1;
    let mut behavior = Behavior::default();
    behavior.scale_down.stabilization_window = Some(Duration::ZERO);
    behavior.scale_up.policies = vec![ScalingPolicy {
        kind: PolicyKind::Percent,
        value: 33,
        period: Duration::from_secs(60),
    }];
    spec.behavior = Some(behavior);
    spec.settings.reversal_hold = Duration::ZERO;
    spec.settings.sync_period = Duration::ZERO;
    let mut target = Target::new(spec, 9);
    let mut longest = 0;
    for step in 0..STEPS {
        let load = MilliValue::from_units(if step % 2 == 0 { 100 } else { 9 });
        let now = Timestamp::from_millis(step * 61_000);
        target.step(&[value(std::slice::from_ref(&load), now)], now);
        let replicas = if step % 2 == 0 { 12 } else { 9 };
        assert_eq!(target.replicas, replicas, "step {step}");
        longest = longest.max(target.state.encode().len());
    }
    assert!(longest < 100, "{longest} bytes");
}

/// The same load, looked at once or fifty times a second: as large a state.
#[test]
fn the_size_of_the_state_does_not_grow_with_the_rate_of_evaluation() {
    let largest = |per_second: i64| {
        let mut spec = spec(vec![external("queue", 1)]);
        spec.min_replicas = 1;
        spec.max_replicas = 500;
        let mut behavior = Behavior::default();
        behavior.scale_up.stabilization_window = Some(Duration::from_secs(60));
        behavior.scale_down.stabilization_window = Some(Duration::from_secs(600));
        spec.behavior = Some(behavior);
        let mut target = Target::new(spec, 100);
        let (mut seed, mut bytes, mut entries) = (1_u32, 0, 0);
        for second in 0..900 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let load = MilliValue::from_units(100 + i64::from(seed >> 16) % 40);
            for part in 0..per_second {
                let now = Timestamp::from_millis(second * 1000 + part * 1000 / per_second);
                target.step(&[value(std::slice::from_ref(&load), now)], now);
            }
            bytes = bytes.max(target.state.encode().len());
            entries = entries.max(target.state.recommendations().len());
        }
        (bytes, entries)
    };
    let (once, often) = (largest(1), largest(50));
    println!("{once:?} at 1 Hz, {often:?} at 50 Hz");
    assert!(often.1 <= once.1 + once.1 / 20, "{often:?}, {once:?}");
    assert!(often.0 <= once.0 + once.0 / 20, "{often:?}, {once:?}");
    assert!(DecisionState::default().encode().len() < 16);
}
