//! One replica as the supervisor sees it, and as the agent and the Services are told of it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::forward::Endpoint;
use super::pod::PodSpec;
use super::workload::WorkloadId;
use crate::world::Labels;

/// What an agent needs to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPod {
    /// Its UID.
    pub uid: String,
    /// Id and first process of each container that runs.
    pub containers: Vec<(String, u32)>,
    /// Each declared port and the one that stands for it.
    pub ports: Vec<(u16, u16)>,
}

/// One replica as the supervisor sees it.
pub(super) struct Replica {
    pub(super) spec: Arc<PodSpec>,
    pub(super) id: WorkloadId,
    pub(super) ordinal: Option<u32>,
    pub(super) order: u64,
    pub(super) stop: CancellationToken,
    pub(super) deleting: bool,
    /// Id and process of each container: the last ones, and whether they run.
    pub(super) containers: Vec<Option<(String, u32, bool)>>,
    pub(super) ready: Vec<bool>,
    pub(super) started: jiff::Timestamp,
    pub(super) ready_changed: jiff::Timestamp,
    pub(super) shown_ready: bool,
}

impl Replica {
    pub(super) fn is_ready(&self) -> bool {
        !self.deleting && self.ready.iter().all(|ready| *ready)
    }

    pub(super) fn running(&self) -> RunningPod {
        let containers = self.containers.iter().flatten();
        RunningPod {
            uid: self.spec.uid.clone(),
            containers: containers
                .filter(|(.., runs)| *runs)
                .map(|(id, pid, _)| (id.clone(), *pid))
                .collect(),
            ports: self
                .spec
                .ports
                .iter()
                .map(|port| (port.declared, port.actual))
                .collect(),
        }
    }

    /// Where Services reach it.
    pub(super) fn endpoint(&self) -> Endpoint {
        let labels = self.spec.workload.template_labels();
        let ports = self
            .spec
            .workload
            .containers()
            .iter()
            .flat_map(|container| container.ports.iter().flatten());
        Endpoint {
            namespace: self.spec.namespace.clone(),
            labels: labels.into_iter().collect::<Labels>(),
            ports: self.spec.ports.clone(),
            names: ports
                .filter_map(|port| {
                    Some((port.name.clone()?, u16::try_from(port.container_port).ok()?))
                })
                .collect(),
        }
    }
}
