//! One trigger: its calculation from what was read.

use neap_units::MilliValue;

use super::{Replicas, tolerances};
use crate::capacity;
use crate::draft::Draft;
use crate::fallback::{Source, WRONG_READING, reading};
use crate::messages::{self, MetricError};
use crate::observation::{Failure, PodReadings, Reading};
use crate::pods::StartPeriods;
use crate::replica_calculator::{
    self as calculator, Calculation, PodMetrics, PodTarget, Tolerances,
};
use crate::spec::{CapacityFloor, MetricSpec, Resource, ResourceTarget, TriggerSpec, ValueTarget};
use crate::why::{Measured, NextCause};

pub(super) type Computed = Result<(Calculation, Measured, Measured, Option<i32>), MetricError>;

/// One trigger's calculation with the measured value, its target and what a floor raised it to.
pub(super) fn compute(
    draft: &mut Draft<'_>,
    trigger: &TriggerSpec,
    index: usize,
    source: Source<'_>,
    replicas: Replicas,
) -> Computed {
    if !trigger.metric.has_target() {
        return Err(messages::no_target_error(trigger));
    }
    match &trigger.metric {
        MetricSpec::Resource {
            resource,
            container,
            target,
        } => {
            let pods = pod_readings(draft, trigger, index)?;
            let pod_target = match *target {
                ResourceTarget::Utilization(percent) => PodTarget::Utilization {
                    percent,
                    resource: *resource,
                    container: container.as_deref(),
                },
                ResourceTarget::AverageValue(value) => PodTarget::Average {
                    value,
                    resource: Some(*resource),
                },
            };
            let calculation = of_pods(draft, trigger, pod_target, pods, replicas.spec)?;
            if *resource == Resource::Cpu && calculation.pods.is_some_and(|pods| pods.unready > 0) {
                note_starting_pods(draft);
            }
            let (value, wanted) = match *target {
                ResourceTarget::Utilization(percent) => (
                    Measured::Utilization(calculation.utilization.unwrap_or(0)),
                    Measured::Utilization(percent),
                ),
                ResourceTarget::AverageValue(target) => (
                    Measured::Average(calculation.usage),
                    Measured::Average(target),
                ),
            };
            Ok((calculation, value, wanted, None))
        }
        MetricSpec::Pods {
            average_value,
            capacity_floor,
        } => {
            let pods = pod_readings(draft, trigger, index)?;
            let target = PodTarget::Average {
                value: *average_value,
                resource: None,
            };
            let mut calculation = of_pods(draft, trigger, target, pods, replicas.spec)?;
            let floor = capacity_floor.and_then(|floor| {
                let at_most_target = calculation.usage <= *average_value;
                at_most_target
                    .then(|| raise(draft, trigger, floor, &pods, &calculation, replicas))?
            });
            if let Some(floor) = floor {
                calculation.replicas = floor;
                calculation.within_tolerance = false;
            }
            let (value, wanted) = (
                Measured::Average(calculation.usage),
                Measured::Average(*average_value),
            );
            Ok((calculation, value, wanted, floor))
        }
        MetricSpec::Object { target, .. } => {
            let values = match reading(draft.seen, index, draft.now) {
                Reading::Values(values) => values.values,
                Reading::Failed(failure) => return Err(source_error(draft, trigger, failure)),
                Reading::Pods(_) => return Err(wrong_reading(draft, trigger)),
            };
            let Some(value) = values.first().copied() else {
                return Err(wrong_reading(draft, trigger));
            };
            of_value(
                draft,
                trigger,
                *target,
                value,
                replicas,
                calculator::average_replicas,
            )
        }
        MetricSpec::External { target, .. } => {
            let value = external_value(draft, trigger, index, source, *target)?;
            let average = calculator::external_average_replicas;
            of_value(draft, trigger, *target, value, replicas, average)
        }
    }
}

fn external_value(
    draft: &Draft<'_>,
    trigger: &TriggerSpec,
    index: usize,
    source: Source<'_>,
    target: ValueTarget,
) -> Result<MilliValue, MetricError> {
    let values = match source {
        Source::Fallback { value, .. } => return Ok(value),
        Source::Failed { failure, .. } | Source::Nil { failure, .. } => {
            return Err(source_error(draft, trigger, failure));
        }
        Source::Read(read) => read.values,
        Source::AsRead => match reading(draft.seen, index, draft.now) {
            Reading::Values(values) => values.values,
            Reading::Failed(failure) => return Err(source_error(draft, trigger, failure)),
            Reading::Pods(_) => return Err(wrong_reading(draft, trigger)),
        },
    };
    Ok(match target {
        ValueTarget::Value(_) => calculator::total(values),
        ValueTarget::AverageValue(_) => calculator::total_for_average(values),
    })
}

fn of_value(
    draft: &Draft<'_>,
    trigger: &TriggerSpec,
    target: ValueTarget,
    value: MilliValue,
    replicas: Replicas,
    average: fn(i32, MilliValue, MilliValue, Tolerances) -> Calculation,
) -> Computed {
    let tolerances = tolerances(draft.spec);
    match target {
        ValueTarget::Value(target) => {
            let pods = draft.seen.pods;
            calculator::value_replicas(replicas.spec, value, target, pods, tolerances)
                .map(|found| (found, Measured::Value(value), Measured::Value(target), None))
                .map_err(|error| messages::calculation_error(trigger, &error))
        }
        ValueTarget::AverageValue(target) => {
            let found = average(replicas.status, value, target, tolerances);
            Ok((
                found,
                Measured::Average(found.usage),
                Measured::Average(target),
                None,
            ))
        }
    }
}

fn of_pods(
    draft: &Draft<'_>,
    trigger: &TriggerSpec,
    target: PodTarget<'_>,
    readings: PodReadings<'_>,
    current: i32,
) -> Result<Calculation, MetricError> {
    let metrics = PodMetrics {
        pods: draft.seen.pods,
        samples: readings.samples,
        unknown: readings.unknown,
    };
    let settings = &draft.spec.settings;
    let periods = StartPeriods {
        cpu_initialization: settings.cpu_initialization_period,
        initial_readiness_delay: settings.initial_readiness_delay,
    };
    let tolerances = tolerances(draft.spec);
    calculator::pod_replicas(current, target, metrics, tolerances, periods, draft.now)
        .map_err(|error| messages::calculation_error(trigger, &error))
}

fn pod_readings<'a>(
    draft: &Draft<'a>,
    trigger: &TriggerSpec,
    index: usize,
) -> Result<PodReadings<'a>, MetricError> {
    match reading(draft.seen, index, draft.now) {
        Reading::Pods(readings) => Ok(readings),
        Reading::Failed(failure) => Err(source_error(draft, trigger, failure)),
        Reading::Values(_) => Err(wrong_reading(draft, trigger)),
    }
}

fn source_error(draft: &Draft<'_>, trigger: &TriggerSpec, failure: Failure<'_>) -> MetricError {
    messages::source_error(&draft.spec.namespace, trigger, failure)
}

fn wrong_reading(draft: &Draft<'_>, trigger: &TriggerSpec) -> MetricError {
    let failure = Failure {
        message: WRONG_READING,
        ..Failure::not_read_yet(draft.now)
    };
    source_error(draft, trigger, failure)
}

/// Applies a capacity floor; the metric is at or under its target. Returns the number it raised the
/// proposal to.
fn raise(
    draft: &mut Draft<'_>,
    trigger: &TriggerSpec,
    floor: CapacityFloor,
    readings: &PodReadings<'_>,
    calculation: &Calculation,
    replicas: Replicas,
) -> Option<i32> {
    let now = draft.now;
    let pods = calculation.pods.unwrap_or_default();
    let counted = i64::from(pods.ready).max(1);
    // Of pods without a sample the arrivals are not known either.
    let known = readings.arrival_rate.filter(|_| pods.missing == 0);
    let wanted = match known {
        // An unknown rate must not let replicas go.
        None => replicas.spec,
        Some(arrivals) => {
            let per_pod = MilliValue::new(arrivals.get() / counted);
            let rates = draft
                .state
                .rates
                .entry(trigger.metric_name.clone())
                .or_default();
            capacity::record(rates, per_pod, floor.window, now);
            let next = rates.first().map(|best| best.at + floor.window);
            let wanted = capacity::floor(rates, arrivals, floor.window, now).unwrap_or(0);
            if let Some(next) = next
                && wanted > calculation.replicas
            {
                draft.due(next, NextCause::CapacityFloor);
            }
            wanted
        }
    };
    (wanted > calculation.replicas).then_some(wanted)
}

/// Pods set aside as starting count once their initialisation period is over.
fn note_starting_pods(draft: &mut Draft<'_>) {
    let period = draft.spec.settings.cpu_initialization_period;
    let now = draft.now;
    let ends = draft
        .seen
        .pods
        .iter()
        .filter_map(|pod| Some(pod.started? + period));
    if let Some(end) = ends.filter(|end| *end > now).min() {
        draft.due(end, NextCause::PodInitialization);
    }
}
