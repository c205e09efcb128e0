//! How many ready pods the load needs at a moment: what a workload of any size would be measured
//! against, whatever min, max, windows and policies say.

use neap_engine::{
    Evaluation, MetricSpec, ModifierMetricType, Requests, Resource, ResourceTarget, ScalingSpec,
    Step, ValueTarget,
};
use neap_units::MilliValue;

use super::inputs::Inputs;

/// The pods that the load in force needs, by the triggers' own targets per pod; `None` where no
/// trigger has such a target (`metricType: Value` has none: its value need not shrink as replicas
/// grow), or where no source answers.
pub(super) fn of_load(spec: &ScalingSpec, inputs: &Inputs<'_>, requests: &Requests) -> Option<i32> {
    let needs = spec
        .triggers
        .iter()
        .enumerate()
        .filter_map(|(index, trigger)| {
            if inputs.is_calendar(index) {
                return inputs
                    .calendar(index)
                    .map(|value| divide(value, MilliValue::from_units(1)));
            }
            let value = inputs.in_force(index)?;
            match &trigger.metric {
                MetricSpec::External {
                    target, activation, ..
                } => match target {
                    ValueTarget::AverageValue(_) if value <= *activation => Some(0),
                    ValueTarget::AverageValue(target) => Some(divide(value, *target)),
                    ValueTarget::Value(_) => None,
                },
                MetricSpec::Object {
                    target: ValueTarget::AverageValue(target),
                    ..
                } => Some(divide(value, *target)),
                MetricSpec::Object {
                    target: ValueTarget::Value(_),
                    ..
                } => None,
                MetricSpec::Pods { average_value, .. } => Some(divide(value, *average_value)),
                MetricSpec::Resource {
                    resource, target, ..
                } => per_pod(*resource, *target, requests).map(|target| divide(value, target)),
            }
        });
    needs.max()
}

/// What one pod may use.
fn per_pod(resource: Resource, target: ResourceTarget, requests: &Requests) -> Option<MilliValue> {
    match target {
        ResourceTarget::AverageValue(target) => Some(target),
        ResourceTarget::Utilization(percent) => {
            let request = requests.of(resource)?;
            Some(MilliValue::new(
                request.get().saturating_mul(i64::from(percent)) / 100,
            ))
        }
    }
}

/// The pods that a formula asks for, as it was last computed.
pub(super) fn of_formula(spec: &ScalingSpec, evaluation: &Evaluation) -> Option<i32> {
    let modifiers = spec.scaling_modifiers.as_ref()?;
    if modifiers.metric_type == ModifierMetricType::Value {
        return None;
    }
    evaluation.why.steps.iter().find_map(|step| match step {
        Step::Formula {
            value: Some(value),
            target,
            ..
        } if *value > modifiers.activation_target => Some(divide(*value, *target)),
        Step::Formula { value: Some(_), .. } => Some(0),
        _ => None,
    })
}

fn divide(value: MilliValue, target: MilliValue) -> i32 {
    if target.get() <= 0 || value.get() <= 0 {
        return 0;
    }
    // Both are positive, so the sum of quotient and one cannot overflow.
    let pods = value.get() / target.get() + i64::from(value.get() % target.get() != 0);
    i32::try_from(pods).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_whole() {
        let milli = MilliValue::new;
        assert_eq!(divide(milli(0), milli(5)), 0);
        assert_eq!(divide(milli(10), milli(5)), 2);
        assert_eq!(divide(milli(11), milli(5)), 3);
        assert_eq!(divide(milli(i64::MAX), milli(1)), i32::MAX);
        assert_eq!(divide(milli(1), milli(0)), 0);
    }
}
