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
    /// Pods that run or are about to, with a sample or without.
    current: u32,
    arrivals: Option<f64>,
    /// When the first of the pods without a sample will have one, with nothing read anew.
    covered_at: Option<Boottime>,
}

/// What a look at one pod gave.
#[derive(Clone, Copy)]
enum Look {
    Sample(PodSample),
    /// Nothing yet: the window is covered then.
    CoveredAt(Boottime),
    Absent,
}

impl Samples {
    fn push(&mut self, pod: &PodView, look: Look, context: &GatherContext<'_>) {
        self.current += u32::from(pod.facts.is_current());
        let sample = match look {
            Look::Sample(sample) => sample,
            Look::CoveredAt(at) => {
                self.covered_at = self.covered_at.into_iter().chain([at]).min();
                return self.per_pod.push(None);
            }
            Look::Absent => return self.per_pod.push(None),
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

    /// When to look again although nothing new is read: where the sum moves up towards the number
    /// that takes another replica, at the crossing.
    fn again(&self, trigger: &BuiltTrigger, target: MilliValue, up: UpEdge) -> Option<Duration> {
        let target = target.get() as f64;
        if self.count == 0 || self.drift.abs() / f64::from(self.count) <= target / 1e3 {
            return None;
        }
        let step = match trigger.source {
            Source::NodeLocal(NodeLocal::AcceptQueue(_)) if self.drift > 0.0 => QUEUE_STEP,
            _ => SETTLE_STEP,
        };
        // Pods without a sample count as idle on the way up, and a ratio within the tolerance asks
        // for nothing.
        let pods = f64::from(self.current.max(self.count));
        let edge = target * (pods * (1.0 + up.tolerance)).max(f64::from(up.replicas));
        if self.drift > 0.0 && self.sum <= edge {
            let seconds = ((edge - self.sum) / self.drift).clamp(0.0, step.as_secs_f64());
            return Some((Duration::from_secs_f64(seconds) + LEAST_STEP).min(step));
        }
        Some(step)
    }

    /// When to look again because a window is covered by then.
    fn covered_after(&self, now: Boottime) -> Option<Duration> {
        let left = self.covered_at?.since(now);
        // Due already: what is late to say that it was read says so within a heartbeat.
        Some(if left.is_zero() {
            SETTLE_STEP
        } else {
            left + LEAST_STEP
        })
    }
}

/// What asks for one more replica.
#[derive(Clone, Copy)]
struct UpEdge {
    tolerance: f64,
    replicas: i32,
}

/// While a queue fills, at least so often.
const QUEUE_STEP: Duration = Duration::from_millis(100);
/// While a window empties or a counter's window slides, so often.
const SETTLE_STEP: Duration = Duration::from_secs(1);
/// A resource window that moves less than this per second, in thousandths of a core, is level.
const LEAST_DRIFT: f64 = 0.1;
/// A crossing is met a little late rather than a little early.
const LEAST_STEP: Duration = Duration::from_millis(5);

/// Gathers the readings of `compiled`'s triggers. `polled` and `workloads` hold, for each built
/// trigger, what its source last said and the selector of the pods it counts; `replicas` is what
/// the target has.
pub(super) fn gather(
    compiled: &Compiled,
    pods: &[PodView],
    replicas: i32,
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
    let up = UpEdge {
        tolerance: up_tolerance(compiled),
        replicas,
    };
    let (mut samples, without_agent) = pod_samples(compiled, pods, context);
    gathered.without_agent = without_agent;
    for &(at, metric) in &compiled.inputs {
        let trigger = &compiled.triggers[at];
        let owned = match &trigger.source {
            Source::Resource(_) | Source::NodeLocal(_) => {
                let taken = std::mem::take(&mut samples[at]);
                let again = match trigger.metrics[metric].target {
                    Target::Pods { average } => taken.again(trigger, average, up),
                    _ => (taken.drift.abs() > LEAST_DRIFT).then_some(SETTLE_STEP),
                };
                let covered = taken.covered_after(context.now);
                gathered.again = [gathered.again, again, covered].into_iter().flatten().min();
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

/// The tolerance on the way up.
fn up_tolerance(compiled: &Compiled) -> f64 {
    let own = compiled.spec.behavior.as_ref();
    own.and_then(|behavior| behavior.scale_up.tolerance)
        .unwrap_or(compiled.spec.settings.tolerance)
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
        let look = |view: &NodeView<'_>, source| match node_local::sample(view, &pod.facts, source)
        {
            Some(sample) => Look::Sample(sample),
            None => node_local::covered_at(view, &pod.facts, source)
                .map_or(Look::Absent, Look::CoveredAt),
        };
        let read = |view: &NodeView<'_>| -> Vec<Look> {
            local
                .iter()
                .map(|&at| look(view, &compiled.triggers[at].source))
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
            let look = seen.as_ref().map_or(Look::Absent, |seen| seen[n]);
            samples[at].push(pod, look, context);
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
