//! Which pods count, and what they request (`hpa.md` 1.3 and 1.5).

use std::time::Duration;

use neap_units::{MilliValue, Timestamp};

use crate::observation::{Container, ContainerKind, Pod, PodPhase, ReadyStatus, Requests, Sample};
use crate::replica_calculator::CalculationError;
use crate::spec::Resource;
use crate::why::PodCounts;

/// How a pod's sample is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodGroup {
    /// Counts with its sample.
    Ready,
    /// Pending, starting or never ready: its sample is dropped.
    Unready,
    /// It has no sample.
    Missing,
    /// Failed or being deleted: as if it did not exist.
    Ignored,
}

/// The controller's two periods for starting pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPeriods {
    /// [`crate::Settings::cpu_initialization_period`].
    pub cpu_initialization: Duration,
    /// [`crate::Settings::initial_readiness_delay`].
    pub initial_readiness_delay: Duration,
}

/// Sorts one pod into its group. Only for CPU are starting pods set aside; `resource` is `None` for
/// metrics of pods that are no resource.
#[must_use]
pub fn group_of(
    pod: &Pod,
    sample: Option<&Sample>,
    resource: Option<Resource>,
    periods: StartPeriods,
    now: Timestamp,
) -> PodGroup {
    if pod.deleting || pod.phase == PodPhase::Failed {
        return PodGroup::Ignored;
    }
    if pod.phase == PodPhase::Pending {
        return PodGroup::Unready;
    }
    let Some(sample) = sample else {
        return PodGroup::Missing;
    };
    if resource == Some(Resource::Cpu) && is_starting(pod, sample, periods, now) {
        return PodGroup::Unready;
    }
    PodGroup::Ready
}

fn is_starting(pod: &Pod, sample: &Sample, periods: StartPeriods, now: Timestamp) -> bool {
    let (Some(ready), Some(started)) = (pod.ready, pod.started) else {
        return true;
    };
    let not_ready = ready.status == ReadyStatus::False;
    // No transition time counts as infinitely long ago.
    let since = ready.since.unwrap_or(Timestamp::MIN);
    if started + periods.cpu_initialization > now {
        not_ready || (ready.since.is_some() && sample.at < since + sample.window)
    } else {
        // Not ready now and never was: its condition changed before a pod could become ready.
        not_ready && started + periods.initial_readiness_delay > since
    }
}

impl PodCounts {
    pub(crate) fn add(&mut self, group: PodGroup) {
        match group {
            PodGroup::Ready => self.ready += 1,
            PodGroup::Unready => self.unready += 1,
            PodGroup::Missing => self.missing += 1,
            PodGroup::Ignored => self.ignored += 1,
        }
    }
}

impl Requests {
    /// The request of one resource.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> Option<MilliValue> {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }
}

/// What a pod requests of `resource`: its containers and sidecars together, or one container.
///
/// # Errors
/// [`CalculationError`] if a request that is needed is missing or the container does not exist.
pub(crate) fn request_of(
    pod: &Pod,
    resource: Resource,
    container: Option<&str>,
) -> Result<i128, CalculationError> {
    match (container, pod.pod_requests) {
        (Some(name), _) => one_container(pod, resource, name),
        (None, Some(pod_requests)) => pod_level(pod, resource, pod_requests),
        (None, None) => all_containers(pod, resource),
    }
}

/// Main containers first, then sidecars: the order in which the HPA looks at them.
fn long_running(pod: &Pod) -> impl Iterator<Item = &Container> {
    let of = |kind| {
        pod.containers
            .iter()
            .filter(move |container| container.kind == kind)
    };
    of(ContainerKind::Main).chain(of(ContainerKind::Sidecar))
}

fn all_containers(pod: &Pod, resource: Resource) -> Result<i128, CalculationError> {
    long_running(pod)
        .map(|container| container_request(pod, container, resource))
        .sum()
}

fn one_container(pod: &Pod, resource: Resource, name: &str) -> Result<i128, CalculationError> {
    match long_running(pod).find(|container| container.name == name) {
        Some(container) => container_request(pod, container, resource),
        None => Err(CalculationError::ContainerNotFound {
            container: name.to_owned(),
            pod: pod.name.clone(),
        }),
    }
}

fn container_request(
    pod: &Pod,
    container: &Container,
    resource: Resource,
) -> Result<i128, CalculationError> {
    match container.requests.of(resource) {
        Some(request) => Ok(i128::from(request.get())),
        None => Err(CalculationError::MissingRequest {
            resource,
            container: container.name.clone(),
            pod: pod.name.clone(),
        }),
    }
}

/// The scheduler's figure: the pod-level request where one is given, else the larger of what runs
/// together and the peak of the init phase; the runtime's overhead on top.
fn pod_level(
    pod: &Pod,
    resource: Resource,
    pod_requests: Requests,
) -> Result<i128, CalculationError> {
    let request = pod_requests
        .of(resource)
        .map(|request| i128::from(request.get()));
    let request = request.or_else(|| peak_of_containers(pod, resource));
    let overhead = pod
        .overhead
        .of(resource)
        .map(|overhead| i128::from(overhead.get()));
    match (request, overhead) {
        (None, None) => Err(CalculationError::MissingPodLevelRequest {
            resource,
            pod: pod.name.clone(),
        }),
        (request, overhead) => Ok(request.unwrap_or(0) + overhead.unwrap_or(0)),
    }
}

fn peak_of_containers(pod: &Pod, resource: Resource) -> Option<i128> {
    let mut named = false;
    let mut running = 0;
    let mut sidecars = 0;
    let mut init_peak = 0;
    for container in &pod.containers {
        let request = container.requests.of(resource);
        named |= request.is_some();
        let request = request.map_or(0, |request| i128::from(request.get()));
        match container.kind {
            ContainerKind::Main => running += request,
            ContainerKind::Sidecar => {
                sidecars += request;
                init_peak = init_peak.max(sidecars);
            }
            // Runs beside the sidecars that were started before it.
            ContainerKind::Init => init_peak = init_peak.max(request + sidecars),
        }
    }
    named.then(|| init_peak.max(running + sidecars))
}

/// Pods that count as ready for metrics that are not about pods: Running and Ready, deleting ones
/// too. `None` if there are no pods at all.
pub(crate) fn ready_pods(pods: &[&Pod]) -> Option<i64> {
    if pods.is_empty() {
        return None;
    }
    let ready = pods.iter().filter(|pod| {
        pod.phase == PodPhase::Running
            && pod
                .ready
                .is_some_and(|ready| ready.status == ReadyStatus::True)
    });
    i64::try_from(ready.count()).ok()
}

/// Adds up what a pod's containers use, as the HPA reads PodMetrics: `None`, no sample, if any
/// listed container does not report the resource or none is listed.
#[must_use]
pub fn sum_containers<I>(values: I) -> Option<MilliValue>
where
    I: IntoIterator<Item = Option<MilliValue>>,
{
    let mut values = values.into_iter().peekable();
    values.peek()?;
    values.try_fold(MilliValue::ZERO, |sum, value| {
        Some(sum.saturating_add(value?))
    })
}
