//! All metrics of a target: each one's proposal, and the one number they come to (`hpa.md` 2).

use neap_units::{MilliValue, Timestamp};

use crate::capacity;
use crate::draft::Draft;
use crate::evaluation::{EventKind, MetricStatus};
use crate::fallback::{Source, WRONG_READING, reading};
use crate::messages::{self, MetricError};
use crate::observation::{Failure, PodReadings, Reading};
use crate::pause::effective_behavior;
use crate::pods::StartPeriods;
use crate::replica_calculator::{
    self as calculator, Calculation, PodMetrics, PodTarget, Tolerances,
};
use crate::scaling_modifiers::Composite;
use crate::spec::{
    CapacityFloor, MetricSpec, ModifierMetricType, Resource, ResourceTarget, ScalingModifiers,
    ScalingSpec, TriggerSpec, ValueTarget,
};
use crate::why::{Measured, NextCause, Proposal, Step, TriggerOutcome, TriggerWhy};

/// The replicas to compute from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    /// `spec.replicas` of the scale.
    pub(crate) spec: i32,
    /// `status.replicas` of the scale.
    pub(crate) status: i32,
}

/// What the metrics come to.
pub(crate) enum Combined {
    /// A number, and which metric proposed it.
    Usable {
        /// The number.
        replicas: i32,
        /// The metric's name as the HPA words it.
        title: String,
        /// Whether the change is so small that noise could have made it.
        is_marginal: bool,
    },
    /// Too many failed; the first failure's words.
    Unusable(MetricError),
}

/// What is known of the external triggers before the HPA's part.
pub(crate) struct Sources<'s, 'a> {
    /// One per trigger.
    pub(crate) triggers: &'s [Source<'a>],
    /// The formula's result, if there is a formula.
    pub(crate) composite: Option<&'s Composite>,
    /// Whether each trigger counts as active, `None` where it never activates.
    pub(crate) active: &'s [Option<bool>],
}

struct Tally {
    best: Option<(i32, Option<usize>)>,
    first_error: Option<MetricError>,
    failed: u32,
    all: u32,
}

impl Tally {
    fn add(&mut self, result: Result<i32, MetricError>, trigger: Option<usize>) {
        self.all += 1;
        match result {
            Ok(replicas) => {
                // As the HPA has it: the first proposal, then only strictly larger ones; after a
                // proposal of 0 whatever comes next.
                let replaces = match self.best {
                    None | Some((0, _)) => true,
                    Some((best, _)) => replicas > best,
                };
                if replaces {
                    self.best = Some((replicas, trigger));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }
}

/// Computes every metric and combines the proposals.
pub(crate) fn combine(
    draft: &mut Draft<'_>,
    sources: &Sources<'_, '_>,
    replicas: Replicas,
) -> Combined {
    let spec = draft.spec;
    let mut tally = Tally {
        best: None,
        first_error: None,
        failed: 0,
        all: 0,
    };
    for (index, trigger) in spec.triggers.iter().enumerate() {
        let source = sources
            .triggers
            .get(index)
            .copied()
            .unwrap_or(Source::AsRead);
        let outcome = if takes_part(spec, trigger) {
            let result = compute(draft, trigger, index, source, replicas);
            let (status, outcome, result) = settle(trigger, source, result);
            draft.current_metrics.push(status);
            if let Err(error) = &result {
                draft.event(EventKind::Warning, error.reason, error.message.clone());
            }
            tally.add(result, Some(index));
            outcome
        } else {
            not_proposing(source)
        };
        let active = sources.active.get(index).copied().flatten();
        draft.triggers.push(TriggerWhy {
            metric_name: trigger.metric_name.clone(),
            kind: trigger.kind.clone(),
            active,
            outcome,
        });
    }
    if let (Some(modifiers), Some(composite)) = (&spec.scaling_modifiers, sources.composite) {
        let result = compute_composite(draft, modifiers, composite, replicas);
        tally.add(result, None);
    }
    conclude(draft, tally, replicas.spec)
}

/// Whether the trigger proposes itself. Under a formula KEDA keeps resource metrics but leaves out
/// those of single containers; external values only feed the formula.
fn takes_part(spec: &ScalingSpec, trigger: &TriggerSpec) -> bool {
    spec.scaling_modifiers.is_none()
        || match &trigger.metric {
            MetricSpec::External { .. } => false,
            MetricSpec::Resource { container, .. } => container.is_none(),
            MetricSpec::Pods { .. } | MetricSpec::Object { .. } => true,
        }
}

fn not_proposing(source: Source<'_>) -> TriggerOutcome {
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

fn conclude(draft: &mut Draft<'_>, tally: Tally, current: i32) -> Combined {
    let spec = draft.spec;
    // Before any proposal the HPA's number is 0.
    let (replicas, trigger) = tally.best.unwrap_or((0, None));
    let combined_error = tally.first_error.as_ref().map(|first| {
        let (failed, all, wrapped) = (tally.failed, tally.all, &first.wrapped);
        format!("invalid metrics ({failed} invalid out of {all}), first error is: {wrapped}")
    });
    if tally.failed > 0 && (tally.failed >= tally.all || replicas < current) || tally.all == 0 {
        draft.steps.push(Step::Blocked {
            failed: tally.failed,
            of: tally.all,
            proposal: tally.best.map(|(replicas, _)| replicas),
        });
        draft.error = combined_error;
        let none = || MetricError::whole("FailedGetExternalMetric", "no metrics".to_owned());
        return Combined::Unusable(tally.first_error.unwrap_or_else(none));
    }
    draft.error = combined_error;
    draft.steps.push(Step::Aggregated { replicas, trigger });
    let is_marginal = trigger.is_none_or(|index| is_marginal(draft, index));
    let title = match trigger.map(|index| &spec.triggers[index]) {
        Some(trigger) => messages::title(trigger),
        None => messages::composite_title(),
    };
    Combined::Usable {
        replicas,
        title,
        is_marginal,
    }
}

/// Whether the ratio of a trigger lies so close to the tolerance that noise could have carried it
/// over the edge.
fn is_marginal(draft: &Draft<'_>, index: usize) -> bool {
    let margin = draft.spec.settings.noise_margin;
    let tolerances = tolerances(draft.spec);
    match draft.triggers.get(index).map(|trigger| &trigger.outcome) {
        Some(TriggerOutcome::Proposed(proposal)) => {
            let ratio = proposal.ratio;
            ratio >= (1.0 - tolerances.down) * (1.0 - margin)
                && ratio <= (1.0 + tolerances.up) * (1.0 + margin)
        }
        _ => false,
    }
}

type Computed = Result<(Calculation, Measured, Measured, Option<i32>), MetricError>;

/// One trigger's calculation with the measured value, its target and what a floor raised it to.
fn compute(
    draft: &mut Draft<'_>,
    trigger: &TriggerSpec,
    index: usize,
    source: Source<'_>,
    replicas: Replicas,
) -> Computed {
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
    let counted = calculation
        .pods
        .map_or(0, |pods| i64::from(pods.ready))
        .max(1);
    let wanted = match readings.arrival_rate {
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

/// The status, the reasons and the bare result of one trigger.
fn settle(
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
                    ratio: calculation.ratio,
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

fn compute_composite(
    draft: &mut Draft<'_>,
    modifiers: &ScalingModifiers,
    composite: &Composite,
    replicas: Replicas,
) -> Result<i32, MetricError> {
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
    computed.map(|calculation| calculation.replicas)
}

/// The tolerances in force: the controller's flag, overridden per direction by `behavior`.
pub(crate) fn tolerances(spec: &ScalingSpec) -> Tolerances {
    let flag = spec.settings.tolerance;
    let behavior = effective_behavior(spec).filter(|_| spec.settings.configurable_tolerance);
    Tolerances {
        down: behavior
            .as_ref()
            .and_then(|b| b.scale_down.tolerance)
            .unwrap_or(flag),
        up: behavior
            .as_ref()
            .and_then(|b| b.scale_up.tolerance)
            .unwrap_or(flag),
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
    seen: &crate::observation::Observation<'_>,
    index: usize,
    now: Timestamp,
) -> Option<MilliValue> {
    match reading(seen, index, now) {
        Reading::Values(values) => Some(calculator::total(values.values)),
        Reading::Pods(_) | Reading::Failed(_) => None,
    }
}
