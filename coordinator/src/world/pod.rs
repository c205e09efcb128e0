//! What deciding needs of a pod, and nothing else of it.

use std::net::IpAddr;
use std::sync::Arc;

use neap_units::{Bytes, MilliValue, NodeName, PodUid};

use super::labels::Labels;
use crate::signals::ContainerId;

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PodPhase {
    /// Not all containers have been started.
    Pending,
    /// Bound to a node, and at least one container runs, starts or restarts.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
    /// The node does not answer, or the phase is not one of the above.
    #[default]
    Unknown,
}

impl PodPhase {
    /// Reads `status.phase`; an unknown text counts as `Unknown`.
    pub fn parse(text: &str) -> Self {
        match text {
            "Pending" => Self::Pending,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }

    /// True when no container will run any more.
    pub fn is_terminated(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The status of the condition `Ready`. The HPA tells "False" from "Unknown" and from absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Readiness {
    /// There is no such condition.
    #[default]
    Absent,
    /// "True"
    True,
    /// "False"
    False,
    /// "Unknown", or a text that is none of the three.
    Unknown,
}

/// CPU and memory that a container or a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Requests {
    /// CPU in thousandths of a core; `None` when not asked for.
    pub cpu: Option<MilliValue>,
    /// Memory; `None` when not asked for.
    pub memory: Option<Bytes>,
}

/// What a container is among the containers of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerRole {
    /// Of `spec.containers`.
    App,
    /// Of `spec.initContainers` with `restartPolicy: Always`: runs as long as the pod does.
    Sidecar,
    /// Of `spec.initContainers`: runs before the others, then ends.
    Init,
    /// Of `spec.ephemeralContainers`.
    Ephemeral,
}

/// One container of a pod's spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its name within the pod.
    pub name: Arc<str>,
    /// Its role.
    pub role: ContainerRole,
    /// What it asks for. The API server has already filled in limits for absent requests.
    pub requests: Requests,
    /// The TCP ports it declares.
    pub tcp_ports: Arc<[u16]>,
}

/// The part of a pod's spec that all pods of one template have in common; shared between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PodShape {
    /// App containers first, then sidecars, init and ephemeral containers, each in their order.
    pub containers: Vec<Container>,
    /// `spec.resources.requests`, where the pod has it.
    pub pod_requests: Option<Requests>,
    /// `spec.overhead`.
    pub overhead: Requests,
    /// The pod uses the node's network namespace.
    pub host_network: bool,
}

impl AsRef<PodShape> for PodShape {
    fn as_ref(&self) -> &PodShape {
        self
    }
}

impl PodShape {
    /// The TCP ports that app containers and sidecars declare, in order, each once.
    pub fn declared_tcp_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .containers
            .iter()
            .filter(|container| {
                matches!(container.role, ContainerRole::App | ContainerRole::Sidecar)
            })
            .flat_map(|container| container.tcp_ports.iter().copied())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// Reads `containerd://0a1b...`, or the id alone, as `status.containerStatuses` gives it. `None`
/// for a container that was never started.
pub fn parse_container_id(text: &str) -> Option<ContainerId> {
    let id = text.split_once("://").map_or(text, |(_, id)| id);
    if id.is_empty() {
        None
    } else {
        Some(ContainerId::new(id))
    }
}

/// A container that has been started at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedContainer {
    /// Its name within the pod.
    pub name: Arc<str>,
    /// Its id of the last start.
    pub id: ContainerId,
}

/// The controller that made a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodOwner {
    /// Kind of the controller, such as `ReplicaSet`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

impl AsRef<PodOwner> for PodOwner {
    fn as_ref(&self) -> &PodOwner {
        self
    }
}

/// A pod, trimmed. Times are those of the API server's wall clock.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFacts {
    /// UID of the object.
    pub uid: PodUid,
    /// The UID in the names of its cgroups: that of the object, or for a static pod its config hash.
    pub cgroup_uid: PodUid,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// Phase.
    pub phase: PodPhase,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// Condition `Ready`.
    pub ready: Readiness,
    /// Last transition of that condition.
    pub ready_changed: Option<jiff::Timestamp>,
    /// `status.startTime`: when the kubelet took it over.
    pub started: Option<jiff::Timestamp>,
    /// The containers with an id.
    pub started_containers: Box<[StartedContainer]>,
    /// Its addresses.
    pub ips: Box<[IpAddr]>,
    /// What its template says.
    pub shape: Arc<PodShape>,
    /// Its controller.
    pub owner: Option<Arc<PodOwner>>,
}

impl PodFacts {
    /// The name of the container with this id.
    pub fn container_named(&self, id: &ContainerId) -> Option<&Arc<str>> {
        self.started_containers
            .iter()
            .find(|started| started.id == *id)
            .map(|started| &started.name)
    }

    /// True when it runs somewhere or is about to: not ended, not being deleted.
    pub fn is_current(&self) -> bool {
        !self.deleting && !self.phase.is_terminated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_loses_its_scheme() {
        assert_eq!(
            parse_container_id("containerd://0a1b"),
            Some(ContainerId::new("0a1b"))
        );
        assert_eq!(parse_container_id("0a1b"), Some(ContainerId::new("0a1b")));
        assert_eq!(parse_container_id("containerd://"), None);
        assert_eq!(parse_container_id(""), None);
    }

    #[test]
    fn only_lasting_containers_declare_ports() {
        let container = |role, ports: &[u16]| Container {
            name: "c".into(),
            role,
            requests: Requests::default(),
            tcp_ports: ports.into(),
        };
        let shape = PodShape {
            containers: vec![
                container(ContainerRole::App, &[8080, 80]),
                container(ContainerRole::Sidecar, &[80, 15001]),
                container(ContainerRole::Init, &[9]),
                container(ContainerRole::Ephemeral, &[10]),
            ],
            ..PodShape::default()
        };
        assert_eq!(shape.declared_tcp_ports(), [80, 8080, 15001]);
    }
}
