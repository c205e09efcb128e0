//! The formula's value as a metric.

use super::{Replicas, tolerances};
use crate::draft::Draft;
use crate::evaluation::{EventKind, MetricStatus};
use crate::messages::{self, MetricError};
use crate::replica_calculator::{self as calculator, Calculation};
use crate::scaling_modifiers::Composite;
use crate::spec::{ModifierMetricType, ScalingModifiers};
use crate::why::Step;

/// Computes it, with its status, step and event.
pub(super) fn compute_composite(
    draft: &mut Draft<'_>,
    modifiers: &ScalingModifiers,
    composite: &Composite,
    replicas: Replicas,
) -> Result<Calculation, MetricError> {
    let (tolerances, pods) = (tolerances(draft.spec), draft.seen.pods);
    let computed = match &composite.value {
        Err(message) => Err(messages::composite_error(&draft.spec.namespace, message)),
        Ok(value) => match modifiers.metric_type {
            ModifierMetricType::AverageValue => {
                let target = modifiers.target;
                let status = replicas.status;
                Ok(calculator::external_average_replicas(
                    status, *value, target, tolerances,
                ))
            }
            ModifierMetricType::Value => {
                let target = modifiers.target;
                calculator::value_replicas(replicas.spec, *value, target, pods, tolerances)
                    .map_err(|error| messages::composite_calculation_error(&error))
            }
        },
    };
    let status = computed
        .as_ref()
        .ok()
        .map(|calculation| match modifiers.metric_type {
            ModifierMetricType::AverageValue => MetricStatus {
                average_value: Some(calculation.usage),
                ..MetricStatus::default()
            },
            ModifierMetricType::Value => MetricStatus {
                value: Some(calculation.usage),
                ..MetricStatus::default()
            },
        });
    draft.current_metrics.push(status);
    draft.steps.push(Step::Formula {
        value: composite.value.as_ref().ok().copied(),
        target: modifiers.target,
        replicas: computed
            .as_ref()
            .ok()
            .map(|calculation| calculation.replicas),
        error: computed.as_ref().err().map(|error| error.message.clone()),
    });
    if let Err(error) = &computed {
        draft.event(EventKind::Warning, error.reason, error.message.clone());
    }
    computed
}
