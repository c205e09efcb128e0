//! From a pod as it is read to the facts that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use neap_units::{Bytes, NodeName, PodUid, Quantity};

use super::lean::{LeanContainer, LeanPod, LeanResources};
use crate::world::{
    Container, ContainerRole, LabelInterner, PodFacts, PodOwner, PodPhase, PodShape, Readiness,
    Requests, Shared, StartedContainer, parse_container_id,
};

/// The mirror pod of a static pod carries the UID of its cgroups here.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// And this one tells that it is a mirror.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Trims pods, sharing what pods of one template have in common.
#[derive(Debug, Default)]
pub(super) struct PodTrimmer {
    labels: LabelInterner,
    shapes: Shared<PodShape>,
    owners: Shared<PodOwner>,
    nodes: BTreeMap<String, NodeName>,
}

/// Above this many names, those of nodes that went are dropped by starting over.
const MAX_NODES: usize = 20_000;

impl PodTrimmer {
    /// The facts of a pod; `None` for one without a UID or name, which the API server never sends.
    pub(super) fn trim(&mut self, pod: &LeanPod) -> Option<PodFacts> {
        let meta = &pod.metadata;
        let uid = PodUid::new(meta.uid.as_deref()?).ok()?;
        let cgroup_uid = static_uid(pod).unwrap_or_else(|| uid.clone());
        let ready = pod
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let labels = self.labels.labels(
            meta.labels
                .iter()
                .flatten()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        Some(PodFacts {
            uid,
            cgroup_uid,
            namespace: self.labels.string(meta.namespace.as_deref()?),
            name: meta.name.as_deref()?.into(),
            labels,
            node: pod
                .spec
                .node_name
                .as_deref()
                .and_then(|name| self.node(name)),
            phase: PodPhase::parse(pod.status.phase.as_deref().unwrap_or_default()),
            deleting: meta.deletion_timestamp.is_some(),
            ready: match ready.map(|condition| condition.status.as_str()) {
                None => Readiness::Absent,
                Some("True") => Readiness::True,
                Some("False") => Readiness::False,
                Some(_) => Readiness::Unknown,
            },
            ready_changed: ready
                .and_then(|ready| ready.last_transition_time.as_ref())
                .map(|time| time.0),
            started: pod.status.start_time.as_ref().map(|time| time.0),
            started_containers: self.started(pod),
            ips: pod
                .status
                .pod_ips
                .iter()
                .filter_map(|ip| ip.ip.parse().ok())
                .collect(),
            shape: {
                let shape = self.shape(pod);
                self.shapes.one(shape)
            },
            owner: self.owner(pod),
        })
    }

    fn node(&mut self, name: &str) -> Option<NodeName> {
        if let Some(known) = self.nodes.get(name) {
            return Some(known.clone());
        }
        if self.nodes.len() >= MAX_NODES {
            self.nodes.clear();
        }
        let node = NodeName::new(name).ok()?;
        self.nodes.insert(name.to_owned(), node.clone());
        Some(node)
    }

    fn started(&mut self, pod: &LeanPod) -> Box<[StartedContainer]> {
        let status = &pod.status;
        status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .filter_map(|container| {
                Some(StartedContainer {
                    name: self.labels.string(&container.name),
                    id: parse_container_id(container.container_id.as_deref()?)?,
                })
            })
            .collect()
    }

    fn owner(&mut self, pod: &LeanPod) -> Option<Arc<PodOwner>> {
        let owner = pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))?;
        let owner = PodOwner {
            kind: self.labels.string(&owner.kind),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
        };
        Some(self.owners.one(owner))
    }

    fn shape(&mut self, pod: &LeanPod) -> PodShape {
        let spec = &pod.spec;
        let mut containers = Vec::with_capacity(spec.containers.len() + spec.init_containers.len());
        let is_sidecar =
            |container: &LeanContainer| container.restart_policy.as_deref() == Some("Always");
        containers.extend(
            spec.containers
                .iter()
                .map(|c| self.container(c, ContainerRole::App)),
        );
        for (role, wanted) in [(ContainerRole::Sidecar, true), (ContainerRole::Init, false)] {
            let chosen = spec
                .init_containers
                .iter()
                .filter(|c| is_sidecar(c) == wanted);
            containers.extend(chosen.map(|c| self.container(c, role)));
        }
        containers.extend(
            spec.ephemeral_containers
                .iter()
                .map(|c| self.container(c, ContainerRole::Ephemeral)),
        );
        PodShape {
            containers,
            pod_requests: spec
                .resources
                .as_ref()
                .filter(|resources| !resources.requests.is_empty())
                .map(|resources| requests_of(&resources.requests)),
            overhead: requests_of(&spec.overhead),
            host_network: spec.host_network == Some(true),
        }
    }

    fn container(&mut self, container: &LeanContainer, role: ContainerRole) -> Container {
        Container {
            name: self.labels.string(&container.name),
            role,
            requests: requests_of(&container.resources.requests),
            tcp_ports: container
                .ports
                .iter()
                .filter(|port| {
                    port.protocol
                        .as_deref()
                        .is_none_or(|protocol| protocol == "TCP")
                })
                .filter_map(|port| u16::try_from(port.container_port).ok())
                .collect(),
        }
    }
}

/// The UID in the cgroups of a static pod, from its mirror pod. Annotations are anybody's to set, so
/// the rest of what the kubelet writes has to be there too: the owner is a Node, and the hash has no
/// dashes and thus is no UID of an object.
fn static_uid(pod: &LeanPod) -> Option<PodUid> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(CONFIG_MIRROR)?;
    let hash = annotations.get(CONFIG_HASH)?;
    let of_a_node = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.kind == "Node");
    let is_hash = hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if of_a_node && is_hash {
        PodUid::new(hash).ok()
    } else {
        None
    }
}

/// CPU and memory of a resource list. An amount that cannot be read counts as not given: the API
/// server refuses such objects, so it never gets here.
pub(super) fn requests_of(amounts: &BTreeMap<String, String>) -> Requests {
    let quantity = |name: &str| {
        amounts
            .get(name)
            .and_then(|text| text.parse::<Quantity>().ok())
    };
    Requests {
        cpu: quantity("cpu").map(|cpu| cpu.milli()),
        memory: quantity("memory")
            .and_then(|memory| u64::try_from(memory.value()).ok())
            .map(Bytes::new),
    }
}

/// Requests and limits of a container.
pub(super) fn resources_of(resources: &LeanResources) -> (Requests, Requests) {
    (
        requests_of(&resources.requests),
        requests_of(&resources.limits),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use neap_units::MilliValue;
    use serde_json::json;

    fn trim(pod: serde_json::Value) -> PodFacts {
        PodTrimmer::default()
            .trim(&serde_json::from_value(pod).unwrap())
            .unwrap()
    }

    #[test]
    fn a_pod_keeps_what_counts() {
        let facts = trim(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
                "labels": {"app": "web"},
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:metadata": {}}}],
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u-rs", "controller": true}],
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [
                    {"name": "app", "image": "x", "ports": [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
                     "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}},
                ],
                "initContainers": [
                    {"name": "setup", "resources": {"requests": {"cpu": "1"}}},
                    {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "0.1"}}},
                ],
                "overhead": {"cpu": "10m"},
                "tolerations": null,
            },
            "status": {
                "phase": "Running", "startTime": "2026-11-22T10:00:00Z",
                "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T10:00:05Z"},
                ],
                "containerStatuses": [{"name": "app", "containerID": "containerd://abc", "image": "x"}],
                "initContainerStatuses": [{"name": "setup"}],
            },
        }));
        assert_eq!(facts.uid, facts.cgroup_uid);
        assert_eq!(facts.labels.get("app"), Some("web"));
        assert_eq!(facts.node.as_ref().map(NodeName::as_str), Some("node-1"));
        assert_eq!(
            (facts.phase, facts.ready, facts.deleting),
            (PodPhase::Running, Readiness::True, false)
        );
        assert_eq!(facts.started, Some("2026-11-22T10:00:00Z".parse().unwrap()));
        assert_eq!(
            facts.ready_changed,
            Some("2026-11-22T10:00:05Z".parse().unwrap())
        );
        assert_eq!(facts.ips.len(), 2);
        assert_eq!(
            facts.owner.as_ref().map(|owner| owner.kind.as_ref()),
            Some("ReplicaSet")
        );
        let names: Vec<_> = facts
            .shape
            .containers
            .iter()
            .map(|c| (c.name.as_ref(), c.role))
            .collect();
        assert_eq!(
            names,
            [
                ("app", ContainerRole::App),
                ("proxy", ContainerRole::Sidecar),
                ("setup", ContainerRole::Init)
            ]
        );
        let app = facts.shape.containers.first().unwrap();
        assert_eq!(app.requests.cpu, Some(MilliValue::new(250)));
        assert_eq!(app.requests.memory, Some(Bytes::new(64 << 20)));
        assert_eq!(facts.shape.declared_tcp_ports(), [8080]);
        assert_eq!(facts.shape.overhead.cpu, Some(MilliValue::new(10)));
        let started: Vec<_> = facts
            .started_containers
            .iter()
            .map(|c| c.id.as_str())
            .collect();
        assert_eq!(started, ["abc"]);
    }

    #[test]
    fn a_static_pod_has_the_uid_of_its_cgroups() {
        let mirror = json!({
            "metadata": {"name": "etcd-n1", "namespace": "kube-system", "uid": "u-2", "annotations": {
                "kubernetes.io/config.hash": "0123456789abcdef0123456789abcdef",
                "kubernetes.io/config.mirror": "0123456789abcdef0123456789abcdef",
            }, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-n1", "controller": true}]},
        });
        let facts = trim(mirror);
        assert_eq!(
            facts.cgroup_uid.as_str(),
            "0123456789abcdef0123456789abcdef"
        );
        assert_eq!(facts.uid.as_str(), "u-2");

        let forged = json!({
            "metadata": {"name": "p", "namespace": "x", "uid": "u-3", "annotations": {
                "kubernetes.io/config.hash": "0123456789abcdef0123456789abcdef",
                "kubernetes.io/config.mirror": "0123456789abcdef0123456789abcdef",
            }},
        });
        assert_eq!(trim(forged).cgroup_uid.as_str(), "u-3");
    }

    #[test]
    fn pods_of_one_template_share_what_they_have_in_common() {
        let mut trimmer = PodTrimmer::default();
        let mut pods = Vec::new();
        for n in 0..3 {
            let pod = json!({
                "metadata": {"name": format!("p{n}"), "namespace": "x", "uid": format!("u{n}"), "labels": {"app": "x"}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            });
            pods.push(trimmer.trim(&serde_json::from_value(pod).unwrap()).unwrap());
        }
        let [first, rest @ ..] = pods.as_slice() else {
            panic!()
        };
        assert!(rest.iter().all(|pod| Arc::ptr_eq(&pod.shape, &first.shape)));
        assert!(
            rest.iter()
                .all(|pod| Arc::ptr_eq(&pod.namespace, &first.namespace))
        );
    }
}
