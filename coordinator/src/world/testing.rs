//! Pods for tests, one call per property.

use std::sync::Arc;

use neap_units::{Bytes, MilliValue};

use super::labels::Labels;
use super::pod::{
    Container, ContainerRole, PodFacts, PodPhase, PodShape, Readiness, Requests, StartedContainer,
};
use crate::signals::ContainerId;

/// Builds one pod.
#[derive(Debug, Clone)]
pub struct PodBuilder {
    pod: PodFacts,
    labels: Vec<(String, String)>,
    shape: PodShape,
}

/// A running, ready pod without labels and containers, its UID made of its names.
pub fn pod(namespace: &str, name: &str) -> PodBuilder {
    let uid = format!("uid-{namespace}-{name}");
    PodBuilder {
        pod: PodFacts {
            uid: uid.as_str().into(),
            cgroup_uid: uid.as_str().into(),
            namespace: namespace.into(),
            name: name.into(),
            labels: Labels::default(),
            node: None,
            phase: PodPhase::Running,
            deleting: false,
            ready: Readiness::True,
            ready_changed: Some(jiff::Timestamp::UNIX_EPOCH),
            started: Some(jiff::Timestamp::UNIX_EPOCH),
            started_containers: Box::default(),
            ips: Box::default(),
            shape: Arc::default(),
            owner: None,
        },
        labels: Vec::new(),
        shape: PodShape::default(),
    }
}

impl PodBuilder {
    /// Another UID.
    pub fn uid(mut self, uid: &str) -> Self {
        self.pod.uid = uid.into();
        self.pod.cgroup_uid = uid.into();
        self
    }

    /// One label more.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Bound to a node.
    pub fn node(mut self, node: &str) -> Self {
        self.pod.node = Some(node.into());
        self
    }

    /// One app container more, with its requests (thousandths of a core, bytes) and id.
    pub fn container(mut self, name: &str, id: &str, cpu_milli: i64, memory: u64) -> Self {
        self.shape.containers.push(Container {
            name: name.into(),
            role: ContainerRole::App,
            requests: Requests {
                cpu: Some(MilliValue::new(cpu_milli)),
                memory: Some(Bytes::new(memory)),
            },
            tcp_ports: Arc::from([]),
        });
        let mut started = self.pod.started_containers.into_vec();
        started.push(StartedContainer { name: name.into(), id: ContainerId::from(id) });
        self.pod.started_containers = started.into();
        self
    }

    /// Has a deletion timestamp.
    pub fn deleting(mut self) -> Self {
        self.pod.deleting = true;
        self
    }

    /// Another phase.
    pub fn phase(mut self, phase: PodPhase) -> Self {
        self.pod.phase = phase;
        self
    }

    /// Another readiness, since `changed`.
    pub fn ready(mut self, ready: Readiness, changed: jiff::Timestamp) -> Self {
        self.pod.ready = ready;
        self.pod.ready_changed = Some(changed);
        self
    }

    /// Any other change of the facts.
    pub fn with(mut self, change: impl FnOnce(&mut PodFacts)) -> Self {
        change(&mut self.pod);
        self
    }

    /// The pod.
    pub fn done(mut self) -> Arc<PodFacts> {
        self.pod.labels = self.labels.into_iter().collect();
        self.pod.shape = Arc::new(self.shape);
        Arc::new(self.pod)
    }
}
