//! The objects that the tests put into a world.

use std::sync::Arc;

use neap_coordinator::keys::{TargetKey, TargetRef};
use neap_coordinator::signals::{ContainerId, NodeName, PodUid};
use neap_coordinator::world::{
    Container, ContainerRole, Labels, PodFacts, PodPhase, PodShape, Readiness, Requests,
    ScaleResource, StartedContainer, TargetFacts, TargetId,
};
use neap_units::{Bytes, MilliValue};

pub(crate) const NS: &str = "ns";
pub(crate) const NODE: &str = "n1";

/// So many seconds after the tests' beginning of time.
pub(crate) fn wall(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn key(name: &str) -> TargetKey {
    TargetKey::new(NS, name)
}

pub(crate) fn target_ref(name: &str) -> TargetRef {
    TargetRef::new(NS, "apps/v1", "Deployment", name)
}

pub(crate) fn target_id(name: &str) -> TargetId {
    TargetId::from(&target_ref(name))
}

pub(crate) fn facts(name: &str, replicas: i32, version: u64) -> TargetFacts {
    TargetFacts {
        resource: Arc::new(ScaleResource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        }),
        uid: format!("deployment-{name}").into(),
        replicas,
        status_replicas: replicas,
        selector: Ok(Some(format!("app={name}").parse().unwrap())),
        resource_version: version.to_string().into(),
        generation: 1,
        deleting: false,
        template: None,
        last_writer: None,
    }
}

pub(crate) fn pod(name: &str, n: i32) -> PodFacts {
    let uid = PodUid::new(&format!("{name}-{n}")).unwrap();
    let container = Container {
        name: "app".into(),
        role: ContainerRole::App,
        requests: Requests {
            cpu: Some(MilliValue::new(100)),
            memory: Some(Bytes::new(1 << 20)),
        },
        tcp_ports: Arc::from([8080]),
    };
    PodFacts {
        uid: uid.clone(),
        cgroup_uid: uid,
        namespace: NS.into(),
        name: format!("{name}-{n}").into(),
        labels: [("app", name)].into_iter().collect::<Labels>(),
        node: Some(NodeName::new(NODE).unwrap()),
        phase: PodPhase::Running,
        deleting: false,
        ready: Readiness::True,
        ready_changed: Some(wall(-3_600)),
        started: Some(wall(-3_600)),
        started_containers: [StartedContainer {
            name: "app".into(),
            id: ContainerId::new(&format!("{name}-{n}-app")),
        }]
        .into(),
        ips: Box::default(),
        shape: Arc::new(PodShape {
            containers: vec![container],
            ..PodShape::default()
        }),
        owner: None,
    }
}
