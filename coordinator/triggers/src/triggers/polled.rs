//! What the triggers with an event source have in common.

use neap_units::MilliValue;

use crate::built::{ExternalKind, MetricSpec, Reading, Target};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::name::metric_name;

/// The `metricType` of a trigger with an external metric; a fault of it is added to `errors`.
pub(crate) fn external_kind(config: &TriggerConfig, errors: &mut Vec<FieldError>) -> ExternalKind {
    match config.metric_type.as_deref() {
        None | Some("" | "AverageValue") => ExternalKind::AverageValue,
        Some("Value") => ExternalKind::Value,
        Some(other) => {
            errors.push(FieldError::invalid(
                "metricType",
                other,
                "it must be AverageValue or Value",
            ));
            ExternalKind::AverageValue
        }
    }
}

/// The one external metric of a trigger.
pub(crate) fn external_metric(
    config: &TriggerConfig,
    kind: ExternalKind,
    base_name: &str,
    value: MilliValue,
) -> Vec<MetricSpec> {
    vec![MetricSpec {
        name: metric_name(config.index, base_name),
        target: Target::External { kind, value },
    }]
}

/// The answer of a source that gives one number.
pub(crate) fn reading(value: f64, activation: f64) -> Reading {
    Reading {
        values: vec![MilliValue::from_metric_f64(value)],
        active: value > activation,
    }
}
