//! What a series measures, and of whom.

use std::sync::Arc;

use neap_units::{NodeName, PodUid};

use super::spools::Spool;

/// Id of a container as the runtime knows it, without the `containerd://` in front.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(Arc<str>);

impl ContainerId {
    /// Takes the id of a container status (`containerd://1f2e...`) or of a cgroup (`1f2e...`).
    pub fn new(text: &str) -> Self {
        Self(text.rsplit_once("://").map_or(text, |(_, id)| id).into())
    }

    /// The id without a scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ContainerId {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a series is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The pod as a whole.
    Pod(PodUid),
    /// One container of a pod.
    Container(PodUid, ContainerId),
    /// The node as a whole.
    Node(NodeName),
}

impl Subject {
    /// The pod, where the series is of a pod or of one of its containers.
    pub fn pod(&self) -> Option<&PodUid> {
        match self {
            Self::Pod(pod) | Self::Container(pod, _) => Some(pod),
            Self::Node(_) => None,
        }
    }
}

/// Resource whose pressure (PSI) is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PressureResource {
    /// Waiting for a CPU.
    Cpu,
    /// Stalled on memory reclaim or refault.
    Memory,
    /// Stalled on block I/O.
    Io,
}

/// Which stall time of PSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PressureKind {
    /// At least one task was stalled.
    Some,
    /// All non-idle tasks were stalled at once.
    Full,
}

/// What a series measures. Counters rise for ever within a boot; gauges travel as the integral
/// of their value over time (value x microseconds) with their last value and their peak.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Counter, microseconds of CPU time used.
    CpuUsage,
    /// Counter, microseconds for which the container was throttled.
    CpuThrottledTime,
    /// Counter, periods in which the container was throttled.
    CpuThrottledPeriods,
    /// Counter, periods in which the container could run.
    CpuPeriods,
    /// Gauge, bytes: memory.current - inactive_file.
    MemoryWorkingSet,
    /// Counter, processes killed for want of memory.
    MemoryOomKills,
    /// Counter, microseconds of stall.
    Pressure(PressureResource, PressureKind),
    /// Gauge, connections completed by the kernel and not yet accepted, over all listeners of
    /// the TCP port.
    AcceptBacklog(u16),
    /// Gauge, the limit of that backlog.
    AcceptLimit(u16),
    /// Counter, connections dropped at the listeners of the port.
    AcceptDrops(u16),
    /// Counter, TCP connections that the pod's network namespace accepted into a queue.
    PassiveOpens,
    /// Gauge, connections waiting at a Unix listening socket, by its path in the pod.
    UnixBacklog(Arc<str>),
    /// Gauge, the limit of that backlog.
    UnixLimit(Arc<str>),
    /// Gauge, files that wait in a directory of the node.
    SpoolFiles(Spool),
    /// Counter, microseconds of CPU time used by the node.
    NodeCpuUsage,
    /// Gauge, bytes of memory in use on the node, without inactive file cache.
    NodeMemoryWorkingSet,
    /// Gauge, the node's one-minute load average in thousandths.
    NodeLoad,
}

/// One series: a signal of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Whom it is about.
    pub subject: Subject,
    /// What it measures.
    pub signal: Signal,
}

impl SeriesKey {
    /// The series of `signal` for a whole pod.
    pub fn pod(pod: &PodUid, signal: Signal) -> Self {
        Self {
            subject: Subject::Pod(pod.clone()),
            signal,
        }
    }

    /// The series of `signal` for one container.
    pub fn container(pod: &PodUid, container: &ContainerId, signal: Signal) -> Self {
        Self {
            subject: Subject::Container(pod.clone(), container.clone()),
            signal,
        }
    }
}
