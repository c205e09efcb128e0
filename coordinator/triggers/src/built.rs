//! What a trigger becomes once built.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use neap_units::MilliValue;

use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::Settings;
use crate::selector::LabelSelector;
use crate::triggers::cron::CronTrigger;

/// A trigger that is ready to be read.
#[derive(Clone, Debug)]
pub struct BuiltTrigger {
    /// `spec.triggers[].type`.
    pub trigger_type: &'static str,
    /// `spec.triggers[].name`.
    pub name: Option<String>,
    /// Position of the trigger in the object.
    pub index: u32,
    /// The metrics it adds, never empty. [`Reading::values`] is in this order.
    pub metrics: Vec<MetricSpec>,
    /// What wakes the target from zero or from its idle count.
    pub activation: Activation,
    /// Where the value comes from.
    pub source: Source,
    /// The fields as read, for `explain` and tests. Secrets do not show in `Debug`.
    pub settings: Settings,
    /// Faults that KEDA lets pass and that will make polls fail; worth an Event.
    pub warnings: Vec<FieldError>,
}

impl BuiltTrigger {
    pub(crate) fn new(
        trigger_type: &'static str,
        config: &TriggerConfig,
        metrics: Vec<MetricSpec>,
        activation: Activation,
        source: Source,
        settings: Settings,
    ) -> Self {
        Self {
            trigger_type,
            name: config.name.clone(),
            index: config.index,
            metrics,
            activation,
            source,
            settings,
            warnings: Vec::new(),
        }
    }
}

/// One metric of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// Name as KEDA builds it (`s0-prometheus`); for `cpu` and `memory` the resource's name.
    pub name: String,
    /// What the metric is compared with.
    pub target: Target,
}

/// What a metric is compared with, in the terms of the HPA.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One value for the whole target.
    External {
        /// Whether the value is divided by the replicas before it is compared.
        kind: ExternalKind,
        /// The target value, in thousandths.
        value: MilliValue,
    },
    /// A resource of the target's pods.
    Resource {
        /// Which resource.
        resource: ResourceKind,
        /// The container it is read from; `None` means the whole pod (`ContainerResource` otherwise).
        container: Option<String>,
        /// What it is compared with.
        target: ResourceTarget,
    },
    /// A value per pod, compared as the HPA compares a `Pods` metric.
    Pods {
        /// The target average per pod, in thousandths of the metric's unit.
        average: MilliValue,
    },
}

/// How an external value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalKind {
    /// Per replica.
    AverageValue,
    /// As a whole.
    Value,
}

impl ExternalKind {
    /// The name of the HPA's target type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AverageValue => "AverageValue",
            Self::Value => "Value",
        }
    }
}

/// A resource that `cpu` and `memory` triggers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// CPU time; the unit is one core.
    Cpu,
    /// Working set; the unit is one byte.
    Memory,
}

impl ResourceKind {
    /// The name in Kubernetes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// What a resource is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Percent of the pods' requests.
    Utilization(i32),
    /// Thousandths of a core, or of a byte, per pod.
    AverageValue(MilliValue),
}

/// What wakes a target from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// The value is strictly greater than this.
    Above(f64),
    /// The source says so itself ([`Reading::active`], [`crate::TimedReading::active`]).
    Reported,
    /// The trigger never wakes a target: there is no pod to read it from.
    Never,
}

/// Where a trigger's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An event source that is asked each polling interval.
    Polled(Arc<dyn PolledTrigger>),
    /// The clock on the wall.
    Timed(Arc<CronTrigger>),
    /// CPU or memory of the target's pods, from the agents.
    Resource(ResourceSource),
    /// A signal of the nodes that the target's pods run on, from the agents.
    NodeLocal(NodeLocal),
    /// Pods of the object's namespace, counted by the caller.
    Workload(Workload),
    /// Files that wait in a directory of the nodes, counted by the agents.
    Spool(Spool),
}

/// CPU or memory of the target's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSource {
    /// Which resource.
    pub resource: ResourceKind,
    /// The container it is read from; `None` means the whole pod.
    pub container: Option<String>,
    /// CPU is averaged over this window; memory is read at its end.
    pub window: Duration,
}

/// A signal of the nodes that the target's pods run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeLocal {
    /// Connections that wait to be accepted.
    AcceptQueue(AcceptQueue),
    /// Pressure stall information of the pod.
    Pressure(Pressure),
}

/// Connections that wait to be accepted on one TCP port of each pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// TCP port inside the pod.
    pub port: u16,
    /// What is measured.
    pub metric: AcceptQueueMetric,
    /// Target per pod, in thousandths of the metric's unit.
    pub value: MilliValue,
    /// The measurement is averaged over this window.
    pub window: Duration,
}

/// What is measured of an accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptQueueMetric {
    /// Connections in the queue.
    Backlog,
    /// Time that a connection waits in the queue; the unit is one millisecond.
    Delay,
    /// Backlog divided by the queue's limit, 0 to 1.
    Saturation,
}

/// Pressure stall information of each pod: the share of time in which work was stalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// What the pod waited for.
    pub resource: PressureResource,
    /// Whether some or all of its tasks waited.
    pub kind: PressureKind,
    /// Target per pod, in thousandths of a percent.
    pub value: MilliValue,
    /// The share is taken over this window.
    pub window: Duration,
}

/// What a pod waits for under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureResource {
    /// A CPU.
    Cpu,
    /// Memory.
    Memory,
    /// Block I/O.
    Io,
}

/// Which of a pod's tasks wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureKind {
    /// At least one.
    Some,
    /// All that could run.
    Full,
}

/// Pods of the object's namespace that match a selector.
///
/// Pods in phase `Succeeded` or `Failed` do not count. With `group_by_node` the value is the
/// number of different nodes that the counted pods are bound to; unbound pods then do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which pods.
    pub selector: LabelSelector,
    /// Namespace of the pods.
    pub namespace: String,
    /// Count nodes instead of pods.
    pub group_by_node: bool,
}

/// Files that wait in a directory of the nodes, all nodes together.
///
/// Regular files count whose names do not begin with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Absolute, without `.` and `..`.
    pub path: Arc<str>,
    /// Files that were last written longer ago do not count: nobody came for them.
    pub max_age: Option<Duration>,
}

/// One answer of an event source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// One value for each of [`BuiltTrigger::metrics`], never negative, in thousandths.
    pub values: Vec<MilliValue>,
    /// True where the answer wakes the target.
    pub active: bool,
}

/// What one poll is given.
#[derive(Clone, Copy, Debug)]
pub struct PollCall {
    /// The time on the wall, for sources that are asked about an instant.
    pub wall: jiff::Timestamp,
    /// The longest that the poll may take. A shorter timeout of the trigger's own wins.
    pub timeout: Duration,
}

/// The future of one poll.
pub type PollFuture<'a> = Pin<Box<dyn Future<Output = Result<Reading, PollError>> + Send + 'a>>;

/// An event source that is asked each polling interval.
///
/// A poll ends within [`PollCall::timeout`], keeps no more than a bounded part of the answer, and
/// may be dropped at any point. Polls of one trigger do not overlap.
pub trait PolledTrigger: Send + Sync + fmt::Debug {
    /// Asks once. Needs a Tokio runtime with time and I/O.
    fn poll(&self, call: PollCall) -> PollFuture<'_>;

    /// Two triggers with equal keys get equal answers, so that one question can serve both.
    fn query_key(&self) -> QueryKey;
}

/// Identity of a question to an event source. It holds a digest, not the question: questions may
/// carry credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryKey(pub u128);
