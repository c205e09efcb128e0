//! External triggers as KEDA hands them on: read, failed, or replaced by the fallback
//! (`keda-core.md` 2.6).

use neap_units::{MilliValue, Timestamp};

use crate::observation::{Failure, FailureCause, Observation, Reading, ValueReading};
use crate::pods::ready_pods;
use crate::spec::{
    Fallback, FallbackBehavior, MetricSpec, ModifierMetricType, ScalingSpec, TriggerSpec,
    ValueTarget,
};
use crate::state::{DecisionState, TriggerHealth};

/// What stands for one external trigger.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Not an external trigger, or one of a plain HPA, which is taken as it was read.
    AsRead,
    /// It was read.
    Read(ValueReading<'a>),
    /// It failed.
    Failed { failure: Failure<'a>, failures: u32 },
    /// It failed too often: this value stands in.
    Fallback {
        failure: Failure<'a>,
        failures: u32,
        replicas: i32,
        value: MilliValue,
    },
    /// It failed too often: the formula sees nil.
    Nil { failure: Failure<'a>, failures: u32 },
}

/// The reading of trigger `index`, or the failure that it has none. An answer without any number is
/// a failure too: absent is not zero.
pub(crate) fn reading<'a>(seen: &Observation<'a>, index: usize, now: Timestamp) -> Reading<'a> {
    match seen.readings.get(index) {
        None => Reading::Failed(Failure::not_read_yet(now)),
        Some(Reading::Values(values)) if values.values.is_empty() => Reading::Failed(Failure {
            cause: FailureCause::Empty,
            message: "no metrics returned from external metrics API",
            counts_for_fallback: true,
            at: values.at,
        }),
        Some(reading) => *reading,
    }
}

/// Brings the failure counters up to date. Each attempt counts once, by its time.
pub(crate) fn update_health(
    spec: &ScalingSpec,
    state: &mut DecisionState,
    seen: &Observation<'_>,
    now: Timestamp,
) {
    if !state.health.is_empty() {
        let triggers = &spec.triggers;
        state
            .health
            .retain(|name, _| triggers.iter().any(|trigger| trigger.metric_name == *name));
    }
    for (index, trigger) in spec.triggers.iter().enumerate() {
        if !matches!(trigger.metric, MetricSpec::External { .. }) {
            continue;
        }
        match reading(seen, index, now) {
            Reading::Failed(failure) if failure.counts_for_fallback => {
                count_failure(state, trigger, failure.at);
            }
            Reading::Values(_) => {
                state.health.remove(&trigger.metric_name);
            }
            Reading::Failed(_) | Reading::Pods(_) => {}
        }
    }
}

fn count_failure(state: &mut DecisionState, trigger: &TriggerSpec, at: Timestamp) {
    match state.health.get_mut(&trigger.metric_name) {
        Some(health) if health.last < at => {
            *health = TriggerHealth {
                failures: health.failures.saturating_add(1),
                last: at,
            };
        }
        Some(_) => {}
        None => {
            let first = TriggerHealth {
                failures: 1,
                last: at,
            };
            state.health.insert(trigger.metric_name.clone(), first);
        }
    }
}

/// What stands for trigger `index`.
pub(crate) fn source<'a>(
    spec: &ScalingSpec,
    state: &DecisionState,
    seen: &Observation<'a>,
    index: usize,
    now: Timestamp,
) -> Source<'a> {
    let trigger = &spec.triggers[index];
    let MetricSpec::External { target, .. } = trigger.metric else {
        return Source::AsRead;
    };
    let failure = match reading(seen, index, now) {
        Reading::Values(values) => return Source::Read(values),
        Reading::Failed(failure) => failure,
        Reading::Pods(_) => Failure {
            message: WRONG_READING,
            ..Failure::not_read_yet(now)
        },
    };
    let failures = state
        .health
        .get(&trigger.metric_name)
        .map_or(0, |health| health.failures);
    let failed = Source::Failed { failure, failures };
    let Some(fallback) = spec.fallback else {
        return failed;
    };
    if i64::from(failures) <= i64::from(fallback.failure_threshold) {
        return failed;
    }
    if fallback.behavior == FallbackBehavior::ScalingModifiers {
        // Without a formula there is nothing that could see the nil.
        let has_formula = spec.scaling_modifiers.is_some();
        return if has_formula {
            Source::Nil { failure, failures }
        } else {
            failed
        };
    }
    let replicas = stand_in_replicas(&fallback, seen.spec_replicas);
    match stand_in_value(spec, target, replicas, seen) {
        Some(value) => Source::Fallback {
            failure,
            failures,
            replicas,
            value,
        },
        None => failed,
    }
}

/// A reading of the wrong shape; the caller's mistake, said as such.
pub(crate) const WRONG_READING: &str = "the reading does not fit the metric";

fn stand_in_replicas(fallback: &Fallback, current: i32) -> i32 {
    match fallback.behavior {
        FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => fallback.replicas,
        FallbackBehavior::CurrentReplicas => current,
        FallbackBehavior::CurrentReplicasIfHigher => current.max(fallback.replicas),
        FallbackBehavior::CurrentReplicasIfLower => current.min(fallback.replicas),
    }
}

/// The value that makes the HPA propose `replicas`: target x replicas, for a `Value` target divided
/// by the ready pods. `None` if there are none, as in KEDA.
fn stand_in_value(
    spec: &ScalingSpec,
    target: ValueTarget,
    replicas: i32,
    seen: &Observation<'_>,
) -> Option<MilliValue> {
    let (target, is_value) = match (&spec.scaling_modifiers, target) {
        (Some(modifiers), _) => (
            modifiers.target,
            modifiers.metric_type == ModifierMetricType::Value,
        ),
        (None, ValueTarget::Value(target)) => (target, true),
        (None, ValueTarget::AverageValue(target)) => (target, false),
    };
    let product = i128::from(target.get()) * i128::from(replicas);
    let value = if is_value {
        let ready = seen
            .ready_replicas
            .map_or_else(|| ready_pods(seen.pods), |n| Some(n.into()));
        product / i128::from(ready.filter(|ready| *ready > 0)?)
    } else {
        product
    };
    Some(MilliValue::new(i64::try_from(value).unwrap_or(i64::MAX)))
}
