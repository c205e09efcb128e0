use std::sync::{Arc, Mutex};

use http::{Request, Response};
use serde_json::{Value, json};

use super::*;

/// An API server with coordinators, and what each of them answers through the proxy.
#[derive(Default)]
struct Pods {
    /// Name, leads, phase, code and body of its answers.
    pods: Vec<(&'static str, bool, &'static str, u16, Value)>,
    asked: Mutex<Vec<String>>,
}

impl Pods {
    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, answer) = server.answer(request.uri());
            async move {
                let body = Body::from(answer.to_string().into_bytes());
                let response = Response::builder().status(code).body(body);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.unwrap())
            }
        });
        Client::new(service, "neap")
    }

    fn answer(&self, uri: &http::Uri) -> (u16, Value) {
        if uri.path() == "/api/v1/pods" {
            let only_leader = uri.query().unwrap_or_default().contains("role");
            let listed = self.pods.iter().filter(|pod| pod.1 || !only_leader);
            let items: Vec<Value> = listed
                .map(|(name, _, phase, _, _)| {
                    json!({"metadata": {"name": name, "namespace": "neap"}, "status": {"phase": phase}})
                })
                .collect();
            return (
                200,
                json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
            );
        }
        let pod = self.pods.iter().find(|pod| {
            let proxy = format!("/api/v1/namespaces/neap/pods/{}:9702/proxy/", pod.0);
            uri.path().starts_with(&proxy)
        });
        let (name, _, _, code, body) = pod.expect("a pod's proxy");
        self.asked.lock().unwrap().push((*name).to_owned());
        (*code, body.clone())
    }

    async fn get(self: &Arc<Self>, whom: Whom) -> Result<Option<Value>, String> {
        let found = Coordinator::of_cluster(whom, self.client(), None).await;
        let found = found.map_err(|error| error.to_string())?;
        let answer = found.get("/api/v1/status").await;
        answer.map_err(|error| error.to_string())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn cluster(pods: Vec<(&'static str, bool, &'static str, u16, Value)>) -> Arc<Pods> {
    Arc::new(Pods {
        pods,
        asked: Mutex::default(),
    })
}

fn says(name: &str) -> Value {
    json!({"name": name})
}

/// What the API server says of a pod that it cannot reach.
fn unreachable() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "ServiceUnavailable",
           "message": "error trying to reach service: dial tcp 10.0.0.7:9702: i/o timeout", "code": 503})
}

#[tokio::test]
async fn the_leader_is_asked_where_there_is_one() {
    for whom in [Whom::Leader, Whom::Any] {
        let pods = cluster(vec![
            ("c-0", false, "Running", 200, says("c-0")),
            ("c-1", true, "Running", 200, says("c-1")),
        ]);
        assert_eq!(pods.get(whom).await, Ok(Some(says("c-1"))));
        assert_eq!(pods.asked(), ["c-1"]);
    }
}

#[tokio::test]
async fn any_other_is_asked_where_none_leads_or_the_leader_does_not_answer() {
    let leaderless = vec![
        ("c-0", false, "Failed", 200, says("c-0")),
        ("c-1", false, "Running", 200, says("c-1")),
    ];
    let pods = cluster(leaderless);
    assert_eq!(pods.get(Whom::Any).await, Ok(Some(says("c-1"))));
    let error = pods.get(Whom::Leader).await.unwrap_err();
    assert!(
        error.contains("none of the 2 coordinators leads at the moment"),
        "{error}"
    );

    let dead = || {
        vec![
            ("c-0", true, "Running", 503, unreachable()),
            ("c-1", false, "Running", 200, says("c-1")),
        ]
    };
    let pods = cluster(dead());
    assert_eq!(pods.get(Whom::Any).await, Ok(Some(says("c-1"))));
    assert_eq!(pods.asked(), ["c-0", "c-1"]);
    let pods = cluster(dead());
    let error = pods.get(Whom::Leader).await.unwrap_err();
    assert!(
        error.starts_with("Error from server (ServiceUnavailable): error trying to reach service"),
        "{error}"
    );
    assert_eq!(pods.asked(), ["c-0"], "a follower does not know it");
}

#[tokio::test]
async fn what_the_coordinator_refuses_is_told_in_its_words() {
    let refusal = json!({"error": "this replica follows: ask the leader c-1"});
    let pods = cluster(vec![("c-0", true, "Running", 503, refusal)]);
    assert_eq!(
        pods.get(Whom::Leader).await.unwrap_err(),
        "Error from server (ServiceUnavailable): this replica follows: ask the leader c-1"
    );
    let unknown = json!({"error": "no ScaledObject ns/a is known to this replica"});
    let pods = cluster(vec![("c-0", true, "Running", 404, unknown)]);
    assert_eq!(pods.get(Whom::Leader).await, Ok(None));
    let gone = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "pods \"c-0\" not found", "code": 404});
    let pods = cluster(vec![("c-0", true, "Running", 404, gone)]);
    let error = pods.get(Whom::Leader).await.unwrap_err();
    assert!(error.contains("pods \"c-0\" not found"), "{error}");
}

#[tokio::test]
async fn without_any_it_says_what_to_look_at() {
    let error = cluster(Vec::new()).get(Whom::Any).await.unwrap_err();
    assert!(
        error.contains("no coordinator of Neap was found; is it installed?"),
        "{error}"
    );
    let pods = cluster(vec![("c-0", false, "Pending", 200, says("c-0"))]);
    let error = pods.get(Whom::Any).await.unwrap_err();
    assert!(error.contains("none of the 1 coordinators runs"), "{error}");
}
