use std::time::Duration;

use neap_units::{MilliValue, Timestamp};
use serde::{Deserialize, Serialize};

/// What is seen of one target at one moment. Borrows everything of size.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// `spec.replicas` of the scale subresource: how many are wanted now.
    pub spec_replicas: i32,
    /// `status.replicas` of the scale subresource: how many pods exist.
    pub status_replicas: i32,
    /// Ready replicas as the workload's status counts them, for the fallback of `Value` triggers;
    /// `None`: counted from `pods`.
    pub ready_replicas: Option<i32>,
    /// Every pod that the target's selector matches, in any order.
    pub pods: &'a [&'a Pod],
    /// Why pods cannot be selected, if so: every metric fails.
    pub selector_problem: Option<SelectorProblem<'a>>,
    /// One reading per trigger, in the order of [`crate::ScalingSpec::triggers`]. A trigger without
    /// one counts as not read yet.
    pub readings: &'a [Reading<'a>],
}

/// Why the pods of a target cannot be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorProblem<'a> {
    /// The scale has no selector.
    Missing,
    /// The selector does not parse; why.
    Invalid(&'a str),
    /// Its pods are selected by another autoscaler too: the selector and the others' names, as text.
    Ambiguous {
        /// The selector.
        selector: &'a str,
        /// The autoscalers, e.g. `[ns/a ns/b]`.
        autoscalers: &'a str,
    },
}

/// One pod, as far as deciding needs it. Kept by whoever watches pods and borrowed here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its name, for messages.
    pub name: String,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// The Ready condition, if there is one.
    pub ready: Option<Ready>,
    /// Its containers and init containers with their requests.
    pub containers: Vec<Container>,
    /// `spec.resources.requests`, if it names cpu, memory or hugepages at all (PodLevelResources).
    pub pod_requests: Option<Requests>,
    /// `spec.overhead`.
    pub overhead: Requests,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All ended well.
    Succeeded,
    /// All ended, one badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The Ready condition of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Its status.
    pub status: ReadyStatus,
    /// Its lastTransitionTime; `None` if it has none, which counts as infinitely long ago.
    pub since: Option<Timestamp>,
}

/// Status of the Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyStatus {
    /// Ready.
    True,
    /// Not ready.
    False,
    /// Not known; the HPA counts such a pod as ready.
    Unknown,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What kind of container it is.
    pub kind: ContainerKind,
    /// Its requests.
    pub requests: Requests,
}

/// Kind of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    /// An ordinary container.
    #[default]
    Main,
    /// An init container with restartPolicy Always: runs along with the others.
    Sidecar,
    /// An init container that ends before the others start.
    Init,
}

/// Requests of cpu (milli-cores) and memory (milli-bytes); `None` where none is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// CPU.
    pub cpu: Option<MilliValue>,
    /// Memory.
    pub memory: Option<MilliValue>,
}

/// What a trigger last read.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    /// Numbers of pods: for `Resource` and `Pods` metrics.
    Pods(PodReadings<'a>),
    /// One or several numbers: for `Object` and `External` metrics.
    Values(ValueReading<'a>),
    /// Nothing: the source failed, or was not read yet.
    Failed(Failure<'a>),
}

/// A trigger's numbers, pod by pod.
#[derive(Clone, Copy, Debug)]
pub struct PodReadings<'a> {
    /// One entry per entry of [`Observation::pods`], in that order; `None`: the pod has no sample. A
    /// shorter list has none for the rest.
    pub samples: &'a [Option<Sample>],
    /// Samples of pods that [`Observation::pods`] does not know (the HPA counts some of these).
    pub unknown: &'a [MilliValue],
    /// Arrivals per second over all pods, for [`crate::CapacityFloor`].
    pub arrival_rate: Option<MilliValue>,
}

/// One pod's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The value: the sum over the pod's containers, or that of the one container asked for.
    pub value: MilliValue,
    /// When its window ended.
    pub at: Timestamp,
    /// The time it averages over.
    pub window: Duration,
}

/// A trigger's numbers.
#[derive(Clone, Copy, Debug)]
pub struct ValueReading<'a> {
    /// All series; summed for `External`, exactly one for `Object`.
    pub values: &'a [MilliValue],
    /// Whether the source says it is active (cron, external scalers, thresholds finer than a
    /// thousandth); `None`: the value is compared with the trigger's activation threshold.
    pub active: Option<bool>,
    /// When it was read. Two readings of one source never have the same time.
    pub at: Timestamp,
}

/// A trigger that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// What failed.
    pub cause: FailureCause,
    /// The error, for people; for [`FailureCause::Other`] the whole message.
    pub message: &'a str,
    /// Whether this failure counts towards the fallback's threshold. A source that was not asked yet
    /// (a new leader) does not.
    pub counts_for_fallback: bool,
    /// When it failed. Each attempt counts once, however often the target is evaluated.
    pub at: Timestamp,
}

impl<'a> Failure<'a> {
    /// A source that has not been read yet: blocks scale-down, does not count for the fallback.
    #[must_use]
    pub const fn not_read_yet(at: Timestamp) -> Self {
        Self {
            cause: FailureCause::Other,
            message: "not read yet",
            counts_for_fallback: false,
            at,
        }
    }

    /// A source that answered with an error.
    #[must_use]
    pub const fn source(message: &'a str, at: Timestamp) -> Self {
        Self {
            cause: FailureCause::Source,
            message,
            counts_for_fallback: true,
            at,
        }
    }
}

/// Why a trigger has no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCause {
    /// The source answered with an error; the message is worded as the HPA words it.
    Source,
    /// The source answered with nothing at all.
    Empty,
    /// Anything else; the message stands alone.
    Other,
}
