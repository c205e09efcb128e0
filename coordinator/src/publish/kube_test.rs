use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::testing::api_server::{ApiServer, status};

const OBJECT: &str = "/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects/web";
const HPA: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/keda-hpa-web";

fn publisher() -> (ApiServer, KubePublisher) {
    let (server, client) = ApiServer::new();
    (
        server,
        KubePublisher::new(client, Arc::new(SystemClock), "neap-coordinator-0"),
    )
}

fn ok(server: &ApiServer, method: Method, path: &str) {
    server.handle(method, path, |_| (200, Vec::new(), json!({})));
}

#[tokio::test]
async fn a_status_is_a_merge_patch_of_the_status_subresource() {
    let (server, publisher) = publisher();
    ok(&server, Method::PATCH, &format!("{OBJECT}/status"));
    let key = TargetKey::new("shop", "web");
    publisher
        .patch_status(
            &key,
            &json!({"hpaName": "keda-hpa-web", "pausedReplicaCount": null}),
        )
        .await
        .unwrap();
    let sent = server.last(&format!("{OBJECT}/status"));
    assert_eq!(sent.header("content-type"), "application/merge-patch+json");
    assert_eq!(sent.query, "fieldManager=neap");
    assert_eq!(
        sent.body,
        json!({"status": {"hpaName": "keda-hpa-web", "pausedReplicaCount": null}})
    );
}

#[tokio::test]
async fn errors_say_whether_the_object_is_gone_the_server_refused_or_did_not_answer() {
    let (server, publisher) = publisher();
    let key = TargetKey::new("shop", "web");
    assert_eq!(
        publisher.patch_status(&key, &json!({})).await,
        Err(PublishError::NotFound)
    );
    let path = format!("{OBJECT}/status");
    let answer = |code: u16| {
        server.handle(Method::PATCH, &path, move |_| {
            (
                code,
                Vec::new(),
                status(code, "Reason", "the server's words"),
            )
        });
    };
    answer(422);
    assert_eq!(
        publisher.patch_status(&key, &json!({})).await,
        Err(PublishError::Refused("the server's words".into()))
    );
    answer(503);
    let error = publisher.patch_status(&key, &json!({})).await;
    assert_eq!(
        error,
        Err(PublishError::Unreachable("the server's words".into()))
    );
}

#[tokio::test]
async fn once_throttled_nothing_is_sent_until_the_time_named() {
    let (server, client) = ApiServer::new();
    let clock = ManualClock::new(Boottime::from_micros(1), jiff::Timestamp::UNIX_EPOCH);
    let publisher = KubePublisher::new(client, Arc::new(clock.clone()), "neap-coordinator-0");
    let (key, path) = (TargetKey::new("shop", "web"), format!("{OBJECT}/status"));
    server.handle(Method::PATCH, &path, |_| {
        (
            429,
            vec![("retry-after", "3".into())],
            status(429, "TooManyRequests", "slow down"),
        )
    });
    let wait = |seconds| {
        Err(PublishError::Throttled {
            retry_after: Duration::from_secs(seconds),
        })
    };
    assert_eq!(publisher.patch_status(&key, &json!({})).await, wait(3));
    clock.advance(Duration::from_secs(1));
    assert_eq!(publisher.patch_status(&key, &json!({})).await, wait(2));
    assert_eq!(server.count(&path), 1);
    ok(&server, Method::PATCH, &path);
    clock.advance(Duration::from_secs(2));
    publisher.patch_status(&key, &json!({})).await.unwrap();
}

#[tokio::test]
async fn an_event_names_the_object_and_keeps_within_the_limit() {
    let (server, publisher) = publisher();
    server.post("/apis/events.k8s.io/v1/namespaces/shop/events", json!({}));
    let note = EventNote {
        regarding: TargetKey::new("shop", "web"),
        uid: "u-1".into(),
        severity: EventSeverity::Warning,
        reason: "ScaledObjectCheckFailed".into(),
        note: "é".repeat(1_024),
    };
    publisher.event(&note).await.unwrap();
    let body = server
        .last("/apis/events.k8s.io/v1/namespaces/shop/events")
        .body;
    assert_eq!(body["regarding"]["uid"], "u-1");
    assert_eq!(body["regarding"]["kind"], "ScaledObject");
    assert_eq!(body["type"], "Warning");
    assert_eq!(body["reason"], "ScaledObjectCheckFailed");
    assert_eq!(body["note"].as_str().unwrap().len(), 1_024);
}

#[tokio::test]
async fn only_kedas_finalizer_is_taken_off_and_only_from_what_was_read() {
    let (server, publisher) = publisher();
    let key = TargetKey::new("shop", "web");
    publisher.remove_finalizer(&key).await.unwrap();
    server.get(OBJECT, json!({"metadata": {"resourceVersion": "7", "finalizers": ["a.example/x", "finalizer.keda.sh"]}}));
    ok(&server, Method::PATCH, OBJECT);
    publisher.remove_finalizer(&key).await.unwrap();
    let patches = server.all(&Method::PATCH);
    assert_eq!(patches.len(), 1);
    assert_eq!(
        patches[0].body,
        json!({"metadata": {"resourceVersion": "7", "finalizers": ["a.example/x"]}})
    );

    server.get(
        OBJECT,
        json!({"metadata": {"resourceVersion": "8", "finalizers": ["a.example/x"]}}),
    );
    publisher.remove_finalizer(&key).await.unwrap();
    assert_eq!(
        server.all(&Method::PATCH).len(),
        1,
        "nothing to take off, nothing written"
    );
}

#[tokio::test]
async fn an_hpa_is_removed_only_if_it_is_the_one_that_was_seen() {
    let (server, publisher) = publisher();
    let hpa = RemovableHpa {
        name: "keda-hpa-web".into(),
        uid: "u-2".into(),
        resource_version: "41".into(),
    };
    publisher.remove_hpa("shop", &hpa).await.unwrap();
    ok(&server, Method::DELETE, HPA);
    publisher.remove_hpa("shop", &hpa).await.unwrap();
    let body = server.last(HPA).body;
    assert_eq!(
        body["preconditions"],
        json!({"uid": "u-2", "resourceVersion": "41"})
    );
    server.handle(Method::DELETE, HPA, |_| {
        (409, Vec::new(), status(409, "Conflict", "uid mismatch"))
    });
    assert_eq!(
        publisher.remove_hpa("shop", &hpa).await,
        Err(PublishError::Refused("uid mismatch".into()))
    );
}
