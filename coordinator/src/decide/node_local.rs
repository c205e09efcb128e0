//! One pod's number for one trigger, from the signals of its node.

use std::time::Duration;

use neap_triggers::{
    AcceptQueue, AcceptQueueMetric, NodeLocal, Pressure, ResourceKind, ResourceSource, Source,
};

use crate::clock::Boottime;
use crate::signals::{
    NodeView, PressureKind, PressureResource, SeriesKey, Signal, SignalSet, Wanted, WindowReading,
};
use crate::world::{Container, ContainerRole, PodFacts, StartedContainer};

/// One pod's number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PodSample {
    /// In thousandths of the trigger's unit.
    pub(super) milli: f64,
    /// What it gains per second if nothing new is read.
    pub(super) drift: f64,
    /// End of its window.
    pub(super) at: Boottime,
    /// Its window.
    pub(super) window: Duration,
    /// Connections per second that arrived, where the trigger counts them.
    pub(super) arrivals: Option<f64>,
}

/// The number of `pod` for `source`; `None` where anything it takes is not there: absent is not
/// zero. `None` too for sources that are not of pods.
pub(super) fn sample(view: &NodeView<'_>, pod: &PodFacts, source: &Source) -> Option<PodSample> {
    match source {
        Source::Resource(resource) => self::resource(view, pod, resource),
        Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => accept_queue(view, pod, queue),
        Source::NodeLocal(NodeLocal::Pressure(pressure)) => self::pressure(view, pod, pressure),
        Source::Polled(_) | Source::Timed(_) | Source::Spool(_) | Source::Workload(_) => None,
    }
}

/// When `pod` will have a number for `source` if nothing changes but time; that may be in the past.
/// `None` where something it takes is not read: its first reading says so by itself.
pub(super) fn covered_at(view: &NodeView<'_>, pod: &PodFacts, source: &Source) -> Option<Boottime> {
    let of_pod = |signal, window| view.covered_at(&SeriesKey::pod(&pod.cgroup_uid, signal), window);
    match source {
        Source::Resource(resource) => match resource.resource {
            ResourceKind::Cpu => {
                let started = measured(pod, resource).map(|container| {
                    let id = &started(pod, container)?.id;
                    let key = SeriesKey::container(&pod.cgroup_uid, id, Signal::CpuUsage);
                    view.covered_at(&key, resource.window)
                });
                started.reduce(|a, b| Some(a?.max(b?))).flatten()
            }
            ResourceKind::Memory => None,
        },
        Source::NodeLocal(NodeLocal::Pressure(pressure)) => {
            of_pod(pressure_signal(pressure), pressure.window)
        }
        Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => {
            let backlog = of_pod(Signal::AcceptBacklog(queue.port), queue.window)?;
            match queue.metric {
                AcceptQueueMetric::Backlog | AcceptQueueMetric::Saturation => Some(backlog),
                AcceptQueueMetric::Delay => {
                    Some(backlog.max(of_pod(Signal::PassiveOpens, queue.window)?))
                }
            }
        }
        Source::Polled(_) | Source::Timed(_) | Source::Spool(_) | Source::Workload(_) => None,
    }
}

/// The containers whose resources count: those that run as long as the pod does, or the one asked
/// for.
fn measured<'a>(
    pod: &'a PodFacts,
    source: &'a ResourceSource,
) -> impl Iterator<Item = &'a Container> {
    pod.shape.containers.iter().filter(|container| {
        let wanted = source.container.as_deref();
        matches!(container.role, ContainerRole::App | ContainerRole::Sidecar)
            && wanted.is_none_or(|wanted| wanted == container.name.as_ref())
    })
}

fn started<'a>(pod: &'a PodFacts, container: &Container) -> Option<&'a StartedContainer> {
    pod.started_containers
        .iter()
        .find(|started| started.name == container.name)
}

/// The sum over the containers that run as long as the pod does, or the one asked for. A pod
/// whose containers are not all known has no number, as with metrics-server.
fn resource(view: &NodeView<'_>, pod: &PodFacts, source: &ResourceSource) -> Option<PodSample> {
    let mut sum: Option<PodSample> = None;
    for container in measured(pod, source) {
        let id = &started(pod, container)?.id;
        let key = |signal| SeriesKey::container(&pod.cgroup_uid, id, signal);
        let one = match source.resource {
            ResourceKind::Cpu => {
                let reading = view.window(&key(Signal::CpuUsage), source.window)?;
                // Microseconds per second are millionths of a core.
                PodSample {
                    milli: reading.value / 1e3,
                    drift: reading.drift / 1e3,
                    at: reading.at,
                    window: source.window,
                    arrivals: None,
                }
            }
            ResourceKind::Memory => PodSample {
                milli: view.last(&key(Signal::MemoryWorkingSet))? as f64 * 1e3,
                drift: 0.0,
                at: view.sampled(),
                window: source.window,
                arrivals: None,
            },
        };
        sum = Some(match sum {
            None => one,
            Some(sum) => PodSample {
                milli: sum.milli + one.milli,
                drift: sum.drift + one.drift,
                at: sum.at.min(one.at),
                ..one
            },
        });
    }
    sum
}

/// What `pod` uses of a resource, in its unit (cores, bytes); `None` where that is not known of every
/// container that counts.
pub(crate) fn used(view: &NodeView<'_>, pod: &PodFacts, source: &ResourceSource) -> Option<f64> {
    resource(view, pod, source).map(|sample| sample.milli / 1e3)
}

fn pressure(view: &NodeView<'_>, pod: &PodFacts, source: &Pressure) -> Option<PodSample> {
    let signal = pressure_signal(source);
    let reading = view.window(&SeriesKey::pod(&pod.cgroup_uid, signal), source.window)?;
    // Microseconds per second / 1e6 is the share; percent in thousandths is 1e5 times that.
    Some(PodSample {
        milli: reading.value / 10.0,
        drift: reading.drift / 10.0,
        at: reading.at,
        window: source.window,
        arrivals: None,
    })
}

fn accept_queue(view: &NodeView<'_>, pod: &PodFacts, source: &AcceptQueue) -> Option<PodSample> {
    let key = |signal| SeriesKey::pod(&pod.cgroup_uid, signal);
    let backlog_key = key(Signal::AcceptBacklog(source.port));
    let backlog = view.window(&backlog_key, source.window)?;
    let sample = |milli: f64, drift: f64, at, arrivals| PodSample {
        milli,
        drift,
        at,
        window: source.window,
        arrivals,
    };
    match source.metric {
        AcceptQueueMetric::Backlog => Some(sample(
            backlog.value * 1e3,
            backlog.drift * 1e3,
            backlog.at,
            None,
        )),
        AcceptQueueMetric::Saturation => {
            let limit = view.last(&key(Signal::AcceptLimit(source.port)))? as f64;
            if limit <= 0.0 {
                return None;
            }
            let arrivals = arrivals(view, pod, source).map(|reading| reading.value);
            Some(sample(
                backlog.value / limit * 1e3,
                backlog.drift / limit * 1e3,
                backlog.at,
                arrivals,
            ))
        }
        AcceptQueueMetric::Delay => {
            let arrived = arrivals(view, pod, source)?;
            let (rate, at) = (arrived.value, arrived.at);
            let waited = view.growth(&backlog_key, at, source.window)?;
            let (before, after) = (
                view.value_at(&backlog_key, at - source.window)?,
                view.value_at(&backlog_key, at)?,
            );
            let window = source.window.as_secs_f64();
            let departed = rate * window - (after - before);
            let (seconds, drift) = if departed >= 1.0 {
                // Little's law over the window: the time waited by all, shared by those who left.
                let (more_waited, more_departed) = (after - before, arrived.drift * window);
                let drift = (more_waited * departed - waited * more_departed) / departed.powi(2);
                (waited / departed, drift)
            } else {
                // Nobody leaves: who waits grows older by a second each second.
                let age = view.nonzero_for(&backlog_key, at)?.as_secs_f64();
                (age, if after > 0.0 { 1.0 } else { 0.0 })
            };
            Some(sample(seconds * 1e6, drift * 1e6, at, Some(rate)))
        }
    }
}

/// Arrivals per second into the pod's accept queues over the trigger's window. They belong to the port only where it is the pod's only one and the pod has its own network
/// namespace.
fn arrivals(view: &NodeView<'_>, pod: &PodFacts, source: &AcceptQueue) -> Option<WindowReading> {
    if pod.shape.host_network || pod.shape.declared_tcp_ports() != [source.port] {
        return None;
    }
    let key = SeriesKey::pod(&pod.cgroup_uid, Signal::PassiveOpens);
    view.window(&key, source.window)
}

fn pressure_signal(source: &Pressure) -> Signal {
    let resource = match source.resource {
        neap_triggers::PressureResource::Cpu => PressureResource::Cpu,
        neap_triggers::PressureResource::Memory => PressureResource::Memory,
        neap_triggers::PressureResource::Io => PressureResource::Io,
    };
    let kind = match source.kind {
        neap_triggers::PressureKind::Some => PressureKind::Some,
        neap_triggers::PressureKind::Full => PressureKind::Full,
    };
    Signal::Pressure(resource, kind)
}

/// The signals of a pod that `source` reads.
pub(super) fn signals(source: &Source) -> SignalSet {
    match source {
        Source::Resource(resource) => SignalSet::of(&match resource.resource {
            ResourceKind::Cpu => Signal::CpuUsage,
            ResourceKind::Memory => Signal::MemoryWorkingSet,
        }),
        Source::NodeLocal(NodeLocal::Pressure(pressure)) => {
            SignalSet::of(&pressure_signal(pressure))
        }
        Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => {
            let backlog = SignalSet::of(&Signal::AcceptBacklog(queue.port));
            match queue.metric {
                AcceptQueueMetric::Backlog => backlog,
                AcceptQueueMetric::Saturation => {
                    backlog
                        | SignalSet::of(&Signal::AcceptLimit(queue.port))
                        | SignalSet::of(&Signal::PassiveOpens)
                }
                AcceptQueueMetric::Delay => backlog | SignalSet::of(&Signal::PassiveOpens),
            }
        }
        Source::Polled(_) | Source::Timed(_) | Source::Spool(_) | Source::Workload(_) => {
            SignalSet::EMPTY
        }
    }
}

/// How often a scaled pod's CPU and pressure are read.
const RESOURCES_EVERY: Duration = Duration::from_secs(1);
/// How often its memory is read: the files are dear.
const MEMORY_EVERY: Duration = Duration::from_secs(10);
/// How often a port under an accept-queue trigger is looked up.
const QUEUE_EVERY: Duration = Duration::from_millis(100);

/// What the agent has to read of each pod for `source`, and how often.
pub(super) fn wanted(source: &Source) -> Vec<(Wanted, Duration)> {
    match source {
        Source::Resource(resource) => match resource.resource {
            ResourceKind::Cpu => vec![(Wanted::Resources, RESOURCES_EVERY)],
            ResourceKind::Memory => vec![(Wanted::Memory, MEMORY_EVERY)],
        },
        Source::NodeLocal(NodeLocal::Pressure(_)) => vec![(Wanted::Resources, RESOURCES_EVERY)],
        Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => {
            let mut wanted = vec![(Wanted::AcceptQueue { port: queue.port }, QUEUE_EVERY)];
            if queue.metric != AcceptQueueMetric::Backlog {
                wanted.push((Wanted::PassiveOpens, RESOURCES_EVERY));
            }
            wanted
        }
        Source::Polled(_) | Source::Timed(_) | Source::Spool(_) | Source::Workload(_) => Vec::new(),
    }
}
