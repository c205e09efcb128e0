use axum::http::Method;
use neap_consensus::{Leader, Leadership, NodeId};

use super::*;
use crate::clock::SystemClock;
use crate::testing::api_server::ApiServer;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/neap-system/leases";
const PODS: &str = "/api/v1/namespaces/neap-system/pods";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/neap-system/events";

fn id(term: u64, node: u64) -> LeaderId {
    LeaderId {
        term,
        node: NodeId(node),
    }
}

fn server(lease: Option<Value>, marked: &[&str]) -> (ApiServer, LeaderSign) {
    let (server, client) = ApiServer::new();
    let answer = json!({"metadata": {"name": LEASE}});
    if let Some(lease) = lease {
        server.get(&format!("{LEASES}/{LEASE}"), lease);
    }
    server.post(LEASES, answer.clone());
    server.post(EVENTS, json!({}));
    let pod = |name: &str| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}});
    let items: Vec<Value> = marked.iter().map(|name| pod(name)).collect();
    server.get(PODS, json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}));
    server.handle(Method::PATCH, &format!("{LEASES}/{LEASE}"), move |_| {
        (200, Vec::new(), answer.clone())
    });
    for name in ["neap-coordinator-0", "neap-coordinator-1"] {
        let answer = pod(name);
        server.handle(Method::PATCH, &format!("{PODS}/{name}"), move |_| {
            (200, Vec::new(), answer.clone())
        });
    }
    let sign = LeaderSign::new(
        client,
        Arc::new(SystemClock),
        "neap-system",
        "neap-coordinator-1",
    );
    (server, sign)
}

fn held_by(holder: &str, leader: &str) -> Value {
    json!({"metadata": {"name": LEASE, "annotations": {"neap.dev/leader-id": leader}},
           "spec": {"holderIdentity": holder, "leaseTransitions": 4}})
}

#[tokio::test]
async fn the_first_leader_makes_the_lease_and_labels_its_pod() {
    let (server, sign) = server(None, &[]);
    sign.show(id(1, 7), true).await.unwrap();
    let lease = server.last(LEASES).body;
    assert_eq!(lease["spec"]["holderIdentity"], "neap-coordinator-1");
    assert_eq!(
        lease["metadata"]["annotations"][LEADER_ID],
        id(1, 7).to_string()
    );
    let label = server.last(&format!("{PODS}/neap-coordinator-1")).body;
    assert_eq!(label, json!({"metadata": {"labels": {ROLE: "leader"}}}));
    assert_eq!(server.last(EVENTS).body["reason"], "LeaderElected");
}

#[tokio::test]
async fn a_new_leader_takes_the_label_off_the_former_and_says_whom_it_follows() {
    let (server, sign) = server(
        Some(held_by("neap-coordinator-0", &id(1, 3).to_string())),
        &["neap-coordinator-0"],
    );
    sign.show(id(2, 7), true).await.unwrap();
    let off = server.last(&format!("{PODS}/neap-coordinator-0")).body;
    assert_eq!(off, json!({"metadata": {"labels": {ROLE: null}}}));
    let lease = server.last(&format!("{LEASES}/{LEASE}")).body;
    assert_eq!(lease["spec"]["leaseTransitions"], 5);
    let note = server.last(EVENTS).body["note"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        note.contains("neap-coordinator-1 leads") && note.contains("after neap-coordinator-0"),
        "{note}"
    );
}

#[tokio::test]
async fn a_renewal_is_one_write_and_no_event() {
    let (server, sign) = server(
        Some(held_by("neap-coordinator-1", &id(2, 7).to_string())),
        &["neap-coordinator-1"],
    );
    sign.show(id(2, 7), false).await.unwrap();
    let patches = server.all(&Method::PATCH);
    assert_eq!(patches.len(), 1);
    assert!(
        patches[0].body["spec"]["acquireTime"].is_null(),
        "{}",
        patches[0].body
    );
    assert_eq!(server.all(&Method::POST).len(), 0);
}

#[tokio::test]
async fn the_sign_comes_down_when_leadership_ends() {
    let (server, sign) = server(None, &[]);
    let leadership = |is_self| Leadership {
        leader: Some(Leader {
            id: id(1, 7),
            name: "neap-coordinator-1".into(),
            address: "a:1".into(),
        }),
        term: 1,
        is_self,
        ..Leadership::default()
    };
    let leading = |is_self| Leading {
        leadership: leadership(is_self),
        members: Arc::default(),
    };
    let (tell, told) = watch::channel(leading(true));
    let stop = CancellationToken::new();
    let running = tokio::spawn(sign.run(told, stop.clone()));
    let pod = format!("{PODS}/neap-coordinator-1");
    let label_of = |server: &ApiServer| {
        (server.count(&pod) > 0).then(|| server.last(&pod).body["metadata"]["labels"][ROLE].clone())
    };
    let until = |want: Value| {
        let server = server.clone();
        async move {
            let seen = async {
                while label_of(&server).as_ref() != Some(&want) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), seen).await
        }
    };
    until(json!("leader")).await.expect("the label goes on");
    tell.send_replace(leading(false));
    until(Value::Null).await.expect("the label goes off");
    stop.cancel();
    running.await.unwrap();
}
