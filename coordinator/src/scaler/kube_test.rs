use axum::http::Method;
use neap_consensus::NodeId;
use serde_json::Value;

use super::*;
use crate::clock::ManualClock;
use crate::testing::api_server::{Answer, ApiServer, status};

const SCALE: &str = "/apis/apps/v1/namespaces/shop/deployments/web/scale";

struct Bench {
    api: ApiServer,
    clock: ManualClock,
    scaler: KubeScaler,
}

fn bench() -> Bench {
    let (api, client) = ApiServer::new();
    api.get(
        "/apis/apps/v1",
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get"]},
            {"name": "deployments/scale", "singularName": "", "namespaced": true, "kind": "Scale", "verbs": ["get"]},
            {"name": "daemonsets", "singularName": "daemonset", "namespaced": true, "kind": "DaemonSet", "verbs": ["get"]},
        ]}),
    );
    let clock = ManualClock::new(
        Boottime::from_micros(1_000_000),
        jiff::Timestamp::UNIX_EPOCH,
    );
    let discovery = Arc::new(Discovery::new(client.clone(), Arc::new(clock.clone())));
    let scaler = KubeScaler::new(
        client,
        discovery,
        Arc::new(clock.clone()),
        "neap-coordinator-0",
    );
    Bench { api, clock, scaler }
}

fn web() -> TargetRef {
    TargetRef::new("shop", "apps/v1", "deployment", "web")
}

fn scale(replicas: Value, version: &str) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
           "metadata": {"name": "web", "namespace": "shop", "resourceVersion": version},
           "spec": replicas, "status": {"replicas": 2, "selector": "app=web"}})
}

impl Bench {
    async fn write(&self, replicas: i32) -> Result<Written, ScaleError> {
        let deadline = self.clock.boottime() + Duration::from_secs(1);
        self.scaler
            .write(
                &web(),
                replicas,
                "41",
                LeaderId {
                    term: 7,
                    node: NodeId(2),
                },
                deadline,
            )
            .await
    }

    fn answer_patch(&self, answer: Answer) {
        self.api
            .handle(Method::PATCH, SCALE, move |_| answer.clone());
    }
}

#[tokio::test]
async fn a_write_is_one_patch_that_says_who_and_on_what() {
    let bench = bench();
    bench.api.handle(Method::PATCH, SCALE, |sent| {
        (
            200,
            vec![],
            scale(sent.body.get("spec").unwrap().clone(), "42"),
        )
    });
    let written = bench.write(5).await.unwrap();
    assert_eq!(
        written,
        Written {
            replicas: 5,
            resource_version: "42".into()
        }
    );
    let patches = bench.api.all(&Method::PATCH);
    let [sent] = patches.as_slice() else {
        panic!("{patches:?}")
    };
    assert_eq!(
        sent.body,
        json!({"metadata": {"resourceVersion": "41"}, "spec": {"replicas": 5}})
    );
    assert_eq!(sent.query, "fieldManager=neap");
    assert_eq!(sent.header("content-type"), "application/merge-patch+json");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        sent.header("user-agent"),
        format!("neap/{version} (neap-coordinator-0; leader 7.2)")
    );
}

#[tokio::test]
async fn a_zero_that_the_server_leaves_out_is_a_zero() {
    let bench = bench();
    bench.api.get(SCALE, scale(json!({}), "9"));
    let read = bench.scaler.read(&web()).await.unwrap();
    assert_eq!(
        read,
        Scale {
            replicas: 0,
            status_replicas: 2,
            selector: Some("app=web".into()),
            resource_version: "9".into()
        }
    );
    bench.answer_patch((200, vec![], scale(json!({}), "10")));
    assert_eq!(bench.write(0).await.unwrap().replicas, 0);
}

#[tokio::test]
async fn every_answer_has_its_error_and_nothing_is_sent_twice() {
    let wait = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    let throttled = |seconds| ScaleError::Throttled {
        retry_after: Duration::from_secs(seconds),
    };
    for (answer, expected) in [
        (
            (
                409,
                vec![],
                status(409, "Conflict", "the object has been modified"),
            ),
            ScaleError::Conflict,
        ),
        (
            (404, vec![], status(404, "NotFound", "not found")),
            ScaleError::NotFound,
        ),
        (
            (
                403,
                vec![],
                status(403, "Forbidden", "cannot patch deployments/scale"),
            ),
            ScaleError::Forbidden("cannot patch deployments/scale".into()),
        ),
        (
            (422, vec![], status(422, "Invalid", "must be at most 3")),
            ScaleError::Forbidden("must be at most 3".into()),
        ),
        (
            (429, wait("7"), status(429, "TooManyRequests", "slow down")),
            throttled(7),
        ),
        (
            (429, vec![], status(429, "TooManyRequests", "slow down")),
            throttled(1),
        ),
        (
            (
                429,
                wait("86400"),
                status(429, "TooManyRequests", "slow down"),
            ),
            throttled(60),
        ),
        (
            (
                503,
                wait("2"),
                status(503, "ServiceUnavailable", "starting"),
            ),
            throttled(2),
        ),
        (
            (504, vec![], status(504, "Timeout", "etcd is slow")),
            ScaleError::Timeout,
        ),
        (
            (500, vec![], json!("boom")),
            ScaleError::Unreachable("500 Internal Server Error: \"boom\"".into()),
        ),
    ] {
        let bench = bench();
        bench.answer_patch(answer);
        assert_eq!(bench.write(5).await.unwrap_err(), expected);
        assert_eq!(
            bench.api.all(&Method::PATCH).len(),
            1,
            "{expected}: sent once"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_scaled_is_said_without_asking() {
    let bench = bench();
    for kind in ["DaemonSet", "Rocket"] {
        let target = TargetRef::new("shop", "apps/v1", kind, "web");
        let error = bench.scaler.read(&target).await.unwrap_err();
        assert_eq!(
            error,
            ScaleError::NoScaleSubresource {
                kind: format!("apps/v1.{kind}")
            }
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let bench = bench();
    let deadline = bench.clock.boottime();
    let late = bench
        .scaler
        .write(
            &web(),
            5,
            "41",
            LeaderId {
                term: 1,
                node: NodeId(1),
            },
            deadline,
        )
        .await;
    assert_eq!(late.unwrap_err(), ScaleError::Timeout);
    assert!(bench.api.all(&Method::PATCH).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let clock = ManualClock::new(Boottime::from_micros(1), jiff::Timestamp::UNIX_EPOCH);
    let client = Client::new(
        tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, tower::BoxError>>()
        }),
        "neap",
    );
    let discovery = Arc::new(Discovery::new(client.clone(), Arc::new(clock.clone())));
    let scaler = KubeScaler::new(client, discovery, Arc::new(clock.clone()), "p");
    let begin = tokio::time::Instant::now();
    let deadline = clock.boottime() + Duration::from_millis(300);
    let error = scaler
        .write(
            &web(),
            5,
            "41",
            LeaderId {
                term: 1,
                node: NodeId(1),
            },
            deadline,
        )
        .await
        .unwrap_err();
    assert_eq!(error, ScaleError::Timeout);
    assert_eq!(
        begin.elapsed(),
        Duration::from_millis(300),
        "on the paused clock"
    );
}
