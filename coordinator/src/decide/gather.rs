//! What is seen of one target at one moment, put together for the engine.

use std::time::Duration;

use neap_engine::{Failure, FailureCause, PodReadings, Reading, Sample, ValueReading};
use neap_triggers::{Activation, BuiltTrigger, NodeLocal, Source, Target};
use neap_units::{MilliValue, Timestamp};

use super::compile::Compiled;
use super::node_local::{self, PodSample};
use super::pods::PodView;
use super::spool;
use super::time::DecisionClock;
use crate::clock::{Boottime, Clock};
use crate::signals::{NodeView, SignalStore};
use crate::world::{Selector, World};

/// What a polled source last said.
#[derive(Debug, Clone)]
pub(super) struct Polled {
    /// The answer, or why there is none.
    pub(super) answer: Result<neap_triggers::Reading, String>,
    /// When it came.
    pub(super) at: Timestamp,
}

/// What gathering reads from.
pub(super) struct GatherContext<'a> {
    pub(super) store: &'a SignalStore,
    pub(super) world: &'a World,
    pub(super) clock: &'a dyn Clock,
    pub(super) time: &'a DecisionClock,
    pub(super) now: Boottime,
}

/// One trigger's reading, owned.
#[derive(Debug)]
enum Owned {
    Pods {
        samples: Vec<Option<Sample>>,
        arrivals: Option<MilliValue>,
    },
    Value {
        values: [MilliValue; 1],
        active: Option<bool>,
        at: Timestamp,
    },
    Failed {
        cause: FailureCause,
        message: String,
        counts: bool,
        at: Timestamp,
    },
}

/// All readings of a target, and when they will have changed by themselves.
#[derive(Debug)]
pub(super) struct Gathered {
    readings: Vec<Owned>,
    /// Look again after this time although no signal changes: a window still slides.
    pub(super) again: Option<Duration>,
    /// The next edge of a calendar.
    pub(super) next_edge: Option<jiff::Timestamp>,
    /// Pods whose node has no live agent.
    pub(super) without_agent: usize,
}

impl Gathered {
    /// The readings in the form that the engine borrows.
    pub(super) fn readings(&self) -> Vec<Reading<'_>> {
        self.readings
            .iter()
            .map(|owned| match owned {
                Owned::Pods { samples, arrivals } => Reading::Pods(PodReadings {
                    samples,
                    unknown: &[],
                    arrival_rate: *arrivals,
                }),
                Owned::Value { values, active, at } => Reading::Values(ValueReading {
                    values,
                    active: *active,
                    at: *at,
                }),
                Owned::Failed {
                    cause,
                    message,
                    counts,
                    at,
                } => Reading::Failed(Failure {
                    cause: *cause,
                    message,
                    counts_for_fallback: *counts,
                    at: *at,
                }),
            })
            .collect()
    }
}

/// The samples of one node-local trigger.
#[derive(Default)]
struct Samples {
    per_pod: Vec<Option<Sample>>,
    sum: f64,
    drift: f64,
    count: u32,
    arrivals: Option<f64>,
}

impl Samples {
    fn push(&mut self, sample: Option<PodSample>, context: &GatherContext<'_>) {
        let Some(sample) = sample else {
            return self.per_pod.push(None);
        };
        self.sum += sample.milli;
        self.drift += sample.drift;
        self.count += 1;
        if let Some(rate) = sample.arrivals {
            *self.arrivals.get_or_insert(0.0) += rate;
        }
        self.per_pod.push(Some(Sample {
            value: MilliValue::from_metric_f64(sample.milli / 1e3),
            at: context.time.at(sample.at.min(context.now)),
            window: sample.window,
        }));
    }

    /// When to look again: where the mean moves towards its target, at the crossing.
    fn again(
        &self,
        trigger: &BuiltTrigger,
        target: MilliValue,
        tolerance: f64,
    ) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let mean = self.sum / f64::from(self.count);
        let drift = self.drift / f64::from(self.count);
        let target = target.get() as f64;
        if drift.abs() <= target / 1e3 {
            return None;
        }
        let step = match trigger.source {
            Source::NodeLocal(NodeLocal::AcceptQueue(_)) if drift > 0.0 => QUEUE_STEP,
            _ => SETTLE_STEP,
        };
        let edge = target * (1.0 + tolerance);
        if drift > 0.0 && mean <= edge {
            let seconds = ((edge - mean) / drift).clamp(0.0, step.as_secs_f64());
            return Some((Duration::from_secs_f64(seconds) + LEAST_STEP).min(step));
        }
        Some(step)
    }
}

/// While a queue fills, at least so often.
const QUEUE_STEP: Duration = Duration::from_millis(100);
/// While a window empties, a counter's window slides, or a pod has no sample, so often.
const SETTLE_STEP: Duration = Duration::from_secs(1);
/// A resource window that moves less than this per second, in thousandths of a core, is level.
const LEAST_DRIFT: f64 = 0.1;
/// A crossing is met a little late rather than a little early.
const LEAST_STEP: Duration = Duration::from_millis(5);

/// Gathers the readings of `compiled`'s triggers. `polled` and `workloads` hold, for each built
/// trigger, what its source last said and the selector of the pods it counts.
pub(super) fn gather(
    compiled: &Compiled,
    pods: &[PodView],
    polled: &[Option<Polled>],
    workloads: &[Option<Selector>],
    namespace: &str,
    context: &GatherContext<'_>,
) -> Gathered {
    let now = context.time.at(context.now);
    let mut gathered = Gathered {
        readings: Vec::new(),
        again: None,
        next_edge: None,
        without_agent: 0,
    };
    let (mut samples, without_agent) = pod_samples(compiled, pods, context);
    gathered.without_agent = without_agent;
    for &(at, metric) in &compiled.inputs {
        let trigger = &compiled.triggers[at];
        let owned = match &trigger.source {
            Source::Resource(_) | Source::NodeLocal(_) => {
                let taken = std::mem::take(&mut samples[at]);
                let again = match trigger.metrics[metric].target {
                    Target::Pods { average } => {
                        taken.again(trigger, average, compiled.spec.settings.tolerance)
                    }
                    _ => (taken.drift.abs() > LEAST_DRIFT).then_some(SETTLE_STEP),
                };
                // A window that is not covered yet will be, and an idle queue sends nothing to say so.
                let absent = taken
                    .per_pod
                    .iter()
                    .any(Option::is_none)
                    .then_some(SETTLE_STEP);
                gathered.again = [gathered.again, again, absent].into_iter().flatten().min();
                pods_reading(taken, now)
            }
            Source::Spool(source) => {
                let reading = context.store.spool(&spool::of(source), context.now);
                let interval = compiled.polling_interval;
                match spool::files(&reading, &source.path, !pods.is_empty(), interval, now) {
                    Ok(files) => Owned::Value {
                        values: [MilliValue::from_units(
                            i64::try_from(files).unwrap_or(i64::MAX),
                        )],
                        active: None,
                        at: now,
                    },
                    Err(none) => {
                        let again = gathered.again.into_iter().chain([none.again]).min();
                        gathered.again = again;
                        Owned::Failed {
                            cause: FailureCause::Source,
                            message: none.message,
                            counts: none.counts,
                            at: none.at,
                        }
                    }
                }
            }
            Source::Polled(_) => {
                polled_reading(polled.get(at).and_then(Option::as_ref), metric, now)
            }
            Source::Timed(cron) => {
                let reading = cron.read(context.clock.wall());
                gathered.next_edge = gathered
                    .next_edge
                    .into_iter()
                    .chain(reading.next_edge)
                    .min();
                Owned::Value {
                    values: [reading.value],
                    active: Some(reading.active),
                    at: now,
                }
            }
            Source::Workload(workload) => match workloads.get(at).and_then(Option::as_ref) {
                Some(selector) => {
                    let value = count(context.world, namespace, selector, workload.group_by_node);
                    let active = match trigger.activation {
                        Activation::Above(bound) => value as f64 > bound,
                        Activation::Reported | Activation::Never => false,
                    };
                    let value = MilliValue::from_units(i64::try_from(value).unwrap_or(i64::MAX));
                    Owned::Value {
                        values: [value],
                        active: Some(active),
                        at: now,
                    }
                }
                None => Owned::Failed {
                    cause: FailureCause::Other,
                    message: "its pods are not followed yet".to_owned(),
                    counts: false,
                    at: now,
                },
            },
        };
        gathered.readings.push(owned);
    }
    gathered
}

/// For each built trigger its samples, pod by pod, and how many pods have no live agent.
fn pod_samples(
    compiled: &Compiled,
    pods: &[PodView],
    context: &GatherContext<'_>,
) -> (Vec<Samples>, usize) {
    let mut samples: Vec<Samples> = compiled
        .triggers
        .iter()
        .map(|_| Samples::default())
        .collect();
    let local: Vec<usize> = compiled
        .triggers
        .iter()
        .enumerate()
        .filter(|(_, trigger)| matches!(trigger.source, Source::Resource(_) | Source::NodeLocal(_)))
        .map(|(at, _)| at)
        .collect();
    if local.is_empty() {
        return (samples, 0);
    }
    let mut without_agent = 0;
    for pod in pods {
        let read = |view: &NodeView<'_>| -> Vec<Option<PodSample>> {
            local
                .iter()
                .map(|&at| node_local::sample(view, &pod.facts, &compiled.triggers[at].source))
                .collect()
        };
        let seen = pod
            .facts
            .node
            .as_ref()
            .and_then(|node| context.store.read(node, context.now, read));
        if seen.is_none() && pod.facts.node.is_some() && pod.facts.is_current() {
            without_agent += 1;
        }
        for (n, &at) in local.iter().enumerate() {
            samples[at].push(seen.as_ref().and_then(|seen| seen[n]), context);
        }
    }
    (samples, without_agent)
}

fn pods_reading(samples: Samples, now: Timestamp) -> Owned {
    if samples.count == 0 {
        return Owned::Failed {
            cause: FailureCause::Empty,
            message: "no pod has a sample that covers the window".to_owned(),
            counts: false,
            at: now,
        };
    }
    Owned::Pods {
        arrivals: samples.arrivals.map(MilliValue::from_metric_f64),
        samples: samples.per_pod,
    }
}

fn polled_reading(polled: Option<&Polled>, metric: usize, now: Timestamp) -> Owned {
    let Some(polled) = polled else {
        let failure = Failure::not_read_yet(now);
        return Owned::Failed {
            cause: failure.cause,
            message: failure.message.to_owned(),
            counts: failure.counts_for_fallback,
            at: failure.at,
        };
    };
    match &polled.answer {
        Ok(reading) => match reading.values.get(metric) {
            Some(value) => Owned::Value {
                values: [*value],
                active: Some(reading.active),
                at: polled.at,
            },
            None => Owned::Failed {
                cause: FailureCause::Empty,
                message: "the source gave no value for this metric".to_owned(),
                counts: true,
                at: polled.at,
            },
        },
        Err(message) => Owned::Failed {
            cause: FailureCause::Source,
            message: message.clone(),
            counts: true,
            at: polled.at,
        },
    }
}

/// Pods of the namespace that a `kubernetes-workload` trigger counts, or the nodes they run on.
fn count(world: &World, namespace: &str, selector: &Selector, group_by_node: bool) -> usize {
    let pods = world.pods_matching(namespace, selector);
    let counted = pods.iter().filter(|pod| !pod.phase.is_terminated());
    if group_by_node {
        counted
            .filter_map(|pod| pod.node.as_ref())
            .collect::<std::collections::HashSet<_>>()
            .len()
    } else {
        counted.count()
    }
}
