//! What must hold for any bytes. Panics where it does not.

use std::time::Duration;

use neap_engine::{
    Behavior, CapacityFloor, DecisionState, Formula, MetricSpec, Observation, PodReadings, Reading,
    Sample, ScalingSpec, TriggerSpec, ValueReading, ValueTarget, evaluate,
};
use neap_units::{MilliValue, Timestamp};

/// A formula is refused or gives numbers, nil or errors; never anything else, and the same again.
pub fn formula(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(formula) = Formula::parse(source) else {
        return;
    };
    assert_eq!(formula.source(), source);
    let names: Vec<&str> = formula.variables().collect();
    let checked = formula.check(&names);
    for value in [0.0, 1.0, -1.5, 1e18, f64::MIN_POSITIVE] {
        let values: [fn(f64) -> Option<f64>; 2] = [Some, |_| None];
        for value_of in values {
            let run = || formula.evaluate(|_| value_of(value));
            let found = run();
            assert_eq!(found, run(), "{source}");
            if let Ok(Some(number)) = found {
                assert!(number.is_finite(), "{source}: {number}");
            }
        }
    }
    if let Err(error) = checked {
        assert!(!error.to_string().is_empty());
    }
}

/// A state is refused or can be stored again and decided from.
pub fn state(data: &[u8]) {
    let Ok(state) = DecisionState::decode(data) else {
        return;
    };
    assert_eq!(DecisionState::decode(&state.encode()).as_ref(), Ok(&state));
    let latest = state.recommendations().iter().map(|entry| entry.at).max();
    let times = [
        Timestamp::from_millis(0),
        latest.unwrap_or_default() + Duration::from_secs(20),
        Timestamp::MAX,
    ];
    for spec in specs() {
        for now in times {
            decide(&spec, &state, now);
        }
    }
}

fn decide(spec: &ScalingSpec, state: &DecisionState, now: Timestamp) {
    let mut state = state.clone();
    let mut replicas = 7;
    for (step, units) in [40, 3, 0, 90].into_iter().enumerate() {
        let now = now + Duration::from_secs(16 * step as u64);
        let value = MilliValue::from_units(units);
        let sample = Sample {
            value,
            at: now,
            window: Duration::from_secs(15),
        };
        let readings = [
            Reading::Values(ValueReading {
                values: &[value],
                active: None,
                at: now,
            }),
            Reading::Pods(PodReadings {
                samples: &[],
                unknown: &[sample.value],
                arrival_rate: Some(value),
            }),
        ];
        let seen = Observation {
            spec_replicas: replicas,
            status_replicas: replicas,
            ready_replicas: Some(replicas),
            pods: &[],
            selector_problem: None,
            readings: &readings[..spec.triggers.len()],
        };
        let evaluation = evaluate(spec, &state, &seen, now);
        assert!((0..=spec.max_replicas).contains(&evaluation.desired));
        assert!(evaluation.deadline.is_none_or(|deadline| deadline > now));
        assert!(!evaluation.why.to_string().is_empty());
        assert_eq!(evaluation, evaluate(spec, &state, &seen, now));
        replicas = evaluation.desired;
        state = evaluation.state;
    }
}

fn specs() -> [ScalingSpec; 2] {
    let trigger = |metric_name: &str, metric| TriggerSpec {
        metric_name: metric_name.to_owned(),
        name: None,
        kind: "any".to_owned(),
        metric,
    };
    let queue = trigger(
        "s0-queue",
        MetricSpec::External {
            selector: None,
            target: ValueTarget::AverageValue(MilliValue::from_units(2)),
            activation: MilliValue::ZERO,
        },
    );
    let delay = trigger(
        "delay",
        MetricSpec::Pods {
            average_value: MilliValue::from_units(50),
            capacity_floor: Some(CapacityFloor::default()),
        },
    );
    [
        ScalingSpec {
            triggers: vec![queue.clone()],
            ..ScalingSpec::default()
        },
        ScalingSpec {
            triggers: vec![queue, delay],
            min_replicas: 1,
            behavior: Some(Behavior::default()),
            ..ScalingSpec::default()
        },
    ]
}
