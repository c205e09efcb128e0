//! What is said of each trigger.

use neap_units::{MilliValue, Timestamp};

use super::Sources;
use super::trigger::Computed;
use crate::evaluation::MetricStatus;
use crate::fallback::{Source, reading};
use crate::messages::MetricError;
use crate::observation::{Observation, Reading};
use crate::replica_calculator::{self as calculator, Calculation};
use crate::spec::{MetricSpec, ScalingSpec, TriggerSpec, ValueTarget};
use crate::why::{Proposal, TriggerOutcome, TriggerWhy};

/// The status, the reasons and the bare result of one trigger.
pub(super) fn settle(
    trigger: &TriggerSpec,
    source: Source<'_>,
    computed: Computed,
) -> (
    Option<MetricStatus>,
    TriggerOutcome,
    Result<i32, MetricError>,
) {
    match computed {
        Ok((calculation, value, target, raised_by_floor)) => {
            let status = status_of(trigger, &calculation);
            let outcome = if let Source::Fallback {
                failure,
                failures,
                replicas,
                ..
            } = source
            {
                TriggerOutcome::Fallback {
                    message: failure.message.to_owned(),
                    failures,
                    replicas,
                    proposal: calculation.replicas,
                }
            } else {
                TriggerOutcome::Proposed(Proposal {
                    replicas: calculation.replicas,
                    value,
                    target,
                    // From zero there is nothing to compare with; and JSON has no word for infinity.
                    ratio: Some(calculation.ratio)
                        .filter(|ratio| ratio.is_finite())
                        .unwrap_or(0.0),
                    pods: calculation.pods,
                    within_tolerance: calculation.within_tolerance,
                    raised_by_floor,
                    saturated: calculation.saturated,
                })
            };
            (Some(status), outcome, Ok(calculation.replicas))
        }
        Err(error) => {
            let failures = match source {
                Source::Failed { failures, .. } | Source::Nil { failures, .. } => failures,
                _ => 0,
            };
            let outcome = TriggerOutcome::Failed {
                message: error.message.clone(),
                failures,
            };
            (None, outcome, Err(error))
        }
    }
}

fn status_of(trigger: &TriggerSpec, calculation: &Calculation) -> MetricStatus {
    let is_value = matches!(
        trigger.metric,
        MetricSpec::Object {
            target: ValueTarget::Value(_),
            ..
        } | MetricSpec::External {
            target: ValueTarget::Value(_),
            ..
        }
    );
    MetricStatus {
        value: is_value.then_some(calculation.usage),
        average_value: (!is_value).then_some(calculation.usage),
        average_utilization: calculation.utilization,
    }
}

/// A trigger that proposes nothing itself.
pub(super) fn not_proposing(source: Source<'_>) -> TriggerOutcome {
    match source {
        Source::AsRead => TriggerOutcome::NotComputed { value: None },
        Source::Read(read) => TriggerOutcome::Formula {
            value: Some(calculator::total(read.values)),
        },
        Source::Nil { .. } => TriggerOutcome::Formula { value: None },
        Source::Failed { failure, failures } => TriggerOutcome::Failed {
            message: failure.message.to_owned(),
            failures,
        },
        Source::Fallback {
            failure,
            failures,
            replicas,
            ..
        } => TriggerOutcome::Fallback {
            message: failure.message.to_owned(),
            failures,
            replicas,
            proposal: replicas,
        },
    }
}

/// Triggers that nobody computed, for decisions that need none.
pub(crate) fn not_computed(
    spec: &ScalingSpec,
    sources: &Sources<'_, '_>,
    seen: impl Fn(usize) -> Option<MilliValue>,
) -> Vec<TriggerWhy> {
    let triggers = spec.triggers.iter().enumerate().map(|(index, trigger)| {
        let source = sources
            .triggers
            .get(index)
            .copied()
            .unwrap_or(Source::AsRead);
        let outcome = match source {
            Source::Read(_) | Source::AsRead => TriggerOutcome::NotComputed { value: seen(index) },
            other => not_proposing(other),
        };
        TriggerWhy {
            metric_name: trigger.metric_name.clone(),
            kind: trigger.kind.clone(),
            active: sources.active.get(index).copied().flatten(),
            outcome,
        }
    });
    triggers.collect()
}

/// The plain value of a trigger, where it is one number.
pub(crate) fn plain_value(
    seen: &Observation<'_>,
    index: usize,
    now: Timestamp,
) -> Option<MilliValue> {
    match reading(seen, index, now) {
        Reading::Values(values) => Some(calculator::total(values.values)),
        Reading::Pods(_) | Reading::Failed(_) => None,
    }
}
