//! However often it is evaluated, no change goes beyond the policies: over the period of a policy
//! that ends with a change, the replicas differ by no more than it allows.

use neap_engine::{
    MetricSpec, PolicyKind, ScalingPolicy, ScalingRules, ScalingSpec, SelectPolicy, TriggerSpec,
    ValueTarget, ZeroHandling,
};
use neap_units::{MilliValue, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::player::Player;
use crate::scenes::{PodScene, ReadingScene, Scene};
use crate::specs::{behavior, settings};

const MIN: i32 = 1;
const MAX: i32 = 200;

/// A target that asks for as many replicas as its value says. Policies are what is shown, so windows
/// and bounds play no part.
fn specs() -> impl Strategy<Value = ScalingSpec> {
    let zero = prop_oneof![Just(ZeroHandling::Disabled), Just(ZeroHandling::Triggers)];
    (behavior(), settings(), zero).prop_map(|(behavior, settings, zero)| ScalingSpec {
        min_replicas: MIN,
        max_replicas: MAX,
        triggers: vec![TriggerSpec {
            metric_name: "s0-queue".to_owned(),
            name: None,
            kind: "any".to_owned(),
            metric: MetricSpec::External {
                selector: None,
                target: ValueTarget::AverageValue(MilliValue::from_units(1)),
                activation: MilliValue::ZERO,
            },
        }],
        behavior: Some(behavior),
        zero,
        settings,
        ..ScalingSpec::default()
    })
}

fn wanted() -> impl Strategy<Value = Scene> {
    let after = prop_oneof![2 => 1..50_i64, 2 => 50..2000_i64, 1 => 2000..90_000_i64];
    let wanted = prop_oneof![1..20_i64, 1..250_i64];
    (after, wanted, prop::bool::weighted(0.1)).prop_map(|(after, wanted, refused)| Scene {
        after,
        pods: vec![PodScene::Ready],
        surplus: 0,
        readings: vec![ReadingScene::Values {
            series: vec![wanted * 1000],
            active: None,
        }],
        manual: None,
        refused,
    })
}

/// All numbers there were, each with the time from which it was so.
struct Past(Vec<(Timestamp, i32)>);

impl Past {
    /// The number at the start of a period that ends now. A change as old as the period lies before
    /// its start.
    fn at_start_of(&self, policy: &ScalingPolicy, now: Timestamp) -> i32 {
        let start = now - policy.period;
        let before = self.0.iter().rev().find(|(at, _)| *at <= start);
        before.unwrap_or(&self.0[0]).1
    }
}

/// Whether the rules let the number go to `to`.
fn allows(rules: &ScalingRules, past: &Past, to: i32, up: bool, now: Timestamp) -> bool {
    let fits = |policy: &ScalingPolicy| {
        let start = past.at_start_of(policy, now);
        let share = f64::from(policy.value) / 100.0;
        match (policy.kind, up) {
            (PolicyKind::Pods, true) => to <= start + policy.value,
            (PolicyKind::Pods, false) => to >= start - policy.value,
            (PolicyKind::Percent, true) => to <= (f64::from(start) * (1.0 + share)).ceil() as i32,
            (PolicyKind::Percent, false) => to >= (f64::from(start) * (1.0 - share)) as i32,
        }
    };
    match rules.select_policy {
        SelectPolicy::Max => rules.policies.iter().any(fits),
        SelectPolicy::Min => rules.policies.iter().all(fits),
        SelectPolicy::Disabled => false,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_change_goes_beyond_the_policies(
        spec in specs(),
        start in MIN..MAX,
        scenes in vec(wanted(), 1..30),
    ) {
        let mut player = Player::new(&spec, start);
        let mut past = Past(vec![(Timestamp::MIN, start)]);
        let behavior = spec.behavior.as_ref().unwrap();
        for scene in &scenes {
            let before = player.replicas;
            let evaluation = player.step(scene);
            let (after, now) = (player.replicas, player.now);
            if after == before {
                continue;
            }
            let up = after > before;
            let rules = if up { &behavior.scale_up } else { &behavior.scale_down };
            prop_assert!(
                allows(rules, &past, after, up, now),
                "{} of {rules:?} after {:?}",
                evaluation.why,
                past.0
            );
            past.0.push((now, after));
        }
    }
}
