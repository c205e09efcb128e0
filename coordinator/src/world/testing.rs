//! Pods for tests, one call per property.

use std::sync::Arc;

use neap_units::{NodeName, PodUid};

use super::labels::Labels;
use super::pod::{PodFacts, PodPhase, Readiness};

/// Builds one pod.
#[derive(Debug, Clone)]
pub(crate) struct PodBuilder {
    pod: PodFacts,
    labels: Vec<(String, String)>,
}

/// A running, ready pod without labels and containers, its UID made of its names.
pub(crate) fn pod(namespace: &str, name: &str) -> PodBuilder {
    let uid = format!("uid-{namespace}-{name}");
    PodBuilder {
        pod: PodFacts {
            uid: PodUid::new(&uid).unwrap(),
            cgroup_uid: PodUid::new(&uid).unwrap(),
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
    }
}

impl PodBuilder {
    /// Another UID.
    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.pod.uid = PodUid::new(uid).unwrap();
        self.pod.cgroup_uid = self.pod.uid.clone();
        self
    }

    /// One label more.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Bound to a node.
    pub(crate) fn node(mut self, node: &str) -> Self {
        self.pod.node = Some(NodeName::new(node).unwrap());
        self
    }

    /// Has a deletion timestamp.
    pub(crate) fn deleting(mut self) -> Self {
        self.pod.deleting = true;
        self
    }

    /// Another readiness, since `changed`.
    pub(crate) fn ready(mut self, ready: Readiness, changed: jiff::Timestamp) -> Self {
        self.pod.ready = ready;
        self.pod.ready_changed = Some(changed);
        self
    }

    /// Any other change of the facts.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut PodFacts)) -> Self {
        change(&mut self.pod);
        self
    }

    /// The pod.
    pub(crate) fn done(mut self) -> Arc<PodFacts> {
        self.pod.labels = self.labels.into_iter().collect();
        Arc::new(self.pod)
    }
}
