//! Handing back and taking back against an API server's HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::command::{How, hand_back, take_back};
use crate::cluster::Scope;
use crate::error::CliError;

/// Objects by path, and every write that was asked for.
#[derive(Default)]
struct Objects {
    at: BTreeMap<String, Value>,
    writes: Vec<(Method, String)>,
}

#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<Objects>>);

const HPAS: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers";

impl ApiServer {
    /// A server with these ScaledObjects in `shop`, each with a Deployment of its name and `replicas`.
    fn with(objects: &[(&str, Value, i32)]) -> Self {
        let server = Self::default();
        for (name, triggers, replicas) in objects {
            server.put(
                &format!("/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects/{name}"),
                json!({
                    "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                    "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}")},
                    "spec": {"scaleTargetRef": {"name": name}, "maxReplicaCount": 10, "triggers": triggers},
                }),
            );
            server.put(
                &format!("/apis/apps/v1/namespaces/shop/deployments/{name}/scale"),
                json!({
                    "apiVersion": "autoscaling/v1", "kind": "Scale",
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {"replicas": replicas}, "status": {"replicas": replicas},
                }),
            );
        }
        server
    }

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().at.insert(path.to_owned(), object);
    }

    fn hpa(&self, name: &str) -> Option<Value> {
        self.0
            .lock()
            .unwrap()
            .at
            .get(&format!("{HPAS}/{name}"))
            .cloned()
    }

    fn writes(&self) -> Vec<String> {
        let objects = self.0.lock().unwrap();
        objects
            .writes
            .iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (code, answer) = server.answer(&parts.method, &parts.uri, &body);
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.unwrap())
            }
        });
        Client::new(service, "shop")
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> (u16, Value) {
        let mut objects = self.0.lock().unwrap();
        let path = uri.path().to_owned();
        let query = uri.query().unwrap_or_default();
        if *method == Method::GET {
            if let Some(object) = objects.at.get(&path) {
                return (200, object.clone());
            }
            let list = path.replace(
                "/apis/keda.sh/v1alpha1/scaledobjects",
                "/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects",
            );
            let of_kind =
                list.ends_with("/scaledobjects") || list.ends_with("/horizontalpodautoscalers");
            if !of_kind {
                return (404, not_found(&path));
            }
            let handed_back = query.contains("neap.dev");
            let within = format!("{list}/");
            let items = objects.at.iter().filter(|(at, object)| {
                at.starts_with(&within)
                    && (!handed_back
                        || !object["metadata"]["labels"]["neap.dev/handed-back"].is_null())
            });
            let items: Vec<&Value> = items.map(|(_, object)| object).collect();
            let (group, kind) = if list.ends_with("/scaledobjects") {
                ("keda.sh/v1alpha1", "ScaledObjectList")
            } else {
                ("autoscaling/v2", "HorizontalPodAutoscalerList")
            };
            return (
                200,
                json!({"apiVersion": group, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}),
            );
        }
        objects.writes.push((method.clone(), path.clone()));
        let dry_run = query.contains("dryRun=All");
        if *method == Method::POST {
            let mut object: Value = serde_json::from_slice(body).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            object["metadata"]["uid"] = json!(format!("u-{name}"));
            let at = format!("{path}/{name}");
            if objects.at.contains_key(&at) {
                let message =
                    format!("horizontalpodautoscalers.autoscaling {name:?} already exists");
                return (409, failure(409, "AlreadyExists", &message));
            }
            if !dry_run {
                objects.at.insert(at, object.clone());
            }
            return (201, object);
        }
        assert_eq!(*method, Method::DELETE, "{path}");
        let given: Value = serde_json::from_slice(body).unwrap();
        let Some(there) = objects.at.get(&path) else {
            return (404, not_found(&path));
        };
        assert_eq!(given["preconditions"]["uid"], there["metadata"]["uid"]);
        if !dry_run {
            objects.at.remove(&path);
        }
        (
            200,
            json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}}),
        )
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {}, "code": code, "reason": reason, "message": message})
}

fn not_found(path: &str) -> Value {
    failure(404, "NotFound", &format!("{path} not found"))
}

fn everywhere() -> Scope {
    Scope {
        namespace: Some("shop".to_owned()),
        names: Vec::new(),
        selector: None,
    }
}

async fn hand(server: &ApiServer, how: How) -> (String, Result<(), CliError>) {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let mut out = Vec::new();
    let now = "2026-11-22T02:00:00Z".parse().unwrap();
    let result = hand_back(server.client(), &everywhere(), how, now, &mut out).await;
    (String::from_utf8(out).unwrap(), result)
}

fn cpu() -> Value {
    json!([{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}])
}

fn queue() -> Value {
    json!([{"type": "rabbitmq", "metadata": {}}])
}

#[tokio::test]
async fn every_scaled_object_gets_its_hpa_and_loses_it_again() {
    let server = ApiServer::with(&[("web", cpu(), 3), ("worker", queue(), 7)]);
    let (said, result) = hand(&server, How::default()).await;
    result.unwrap();
    assert_eq!(
        said,
        "horizontalpodautoscaler.autoscaling/keda-hpa-web created\nhorizontalpodautoscaler.autoscaling/keda-hpa-worker created\n"
    );
    let bounds = |name: &str| {
        let spec = &server.hpa(name).unwrap()["spec"];
        (
            spec["minReplicas"].as_i64().unwrap(),
            spec["maxReplicas"].as_i64().unwrap(),
        )
    };
    assert_eq!(bounds("keda-hpa-web"), (1, 10));
    assert_eq!(bounds("keda-hpa-worker"), (7, 10));

    // A second time changes nothing.
    let (said, result) = hand(&server, How::default()).await;
    result.unwrap();
    assert!(
        said.contains("keda-hpa-web unchanged") && said.contains("keda-hpa-worker unchanged"),
        "{said}"
    );

    let mut out = Vec::new();
    take_back(server.client(), &everywhere(), false, &mut out)
        .await
        .unwrap();
    assert_eq!(
        (server.hpa("keda-hpa-web"), server.hpa("keda-hpa-worker")),
        (None, None)
    );
    let scales = server
        .writes()
        .iter()
        .filter(|write| write.contains("/scale"))
        .count();
    assert_eq!(scales, 0, "replicas are nobody's business here");
}

#[tokio::test]
async fn foreign_hpas_are_neither_overwritten_nor_taken() {
    let server = ApiServer::with(&[
        ("mine", cpu(), 2),
        ("theirs", cpu(), 2),
        ("named", cpu(), 2),
    ]);
    let hpa = |name: &str, target: &str| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": "shop", "uid": "u"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": 4}})
    };
    // One scales the target already; one has the name and another target.
    server.put(&format!("{HPAS}/theirs-own"), hpa("theirs-own", "theirs"));
    server.put(
        &format!("{HPAS}/keda-hpa-named"),
        hpa("keda-hpa-named", "else"),
    );
    let before = (server.hpa("theirs-own"), server.hpa("keda-hpa-named"));
    let (said, result) = hand(&server, How::default()).await;
    let fault = result.unwrap_err().to_string();
    assert!(
        fault.contains("shop/theirs: the HPA \"theirs-own\" scales its target already"),
        "{fault}"
    );
    assert!(
        fault.contains("shop/named: an HPA named \"keda-hpa-named\" is there"),
        "{fault}"
    );
    assert_eq!(
        said,
        "horizontalpodautoscaler.autoscaling/keda-hpa-mine created\n"
    );
    assert_eq!(
        (server.hpa("theirs-own"), server.hpa("keda-hpa-named")),
        before
    );
    let mut out = Vec::new();
    take_back(server.client(), &everywhere(), false, &mut out)
        .await
        .unwrap();
    assert_eq!(
        (server.hpa("theirs-own"), server.hpa("keda-hpa-named")),
        before
    );
    assert_eq!(server.hpa("keda-hpa-mine"), None);
}

#[tokio::test]
async fn a_dry_run_and_a_print_change_nothing() {
    let server = ApiServer::with(&[("web", cpu(), 3)]);
    let (said, result) = hand(
        &server,
        How {
            dry_run: true,
            print: None,
        },
    )
    .await;
    result.unwrap();
    assert!(said.contains("created (server dry run)"), "{said}");
    assert_eq!(server.hpa("keda-hpa-web"), None);
    let print = Some(crate::output::Structured::Yaml);
    let (said, result) = hand(
        &server,
        How {
            dry_run: false,
            print,
        },
    )
    .await;
    result.unwrap();
    let printed: Value = serde_saphyr::from_str(&said).unwrap();
    assert_eq!(printed["items"][0]["spec"]["maxReplicas"], 10);
    assert_eq!(server.hpa("keda-hpa-web"), None);
}

#[tokio::test]
async fn a_target_that_is_gone_does_not_keep_the_others() {
    let server = ApiServer::with(&[("gone", cpu(), 3), ("web", cpu(), 3)]);
    server
        .0
        .lock()
        .unwrap()
        .at
        .remove("/apis/apps/v1/namespaces/shop/deployments/gone/scale");
    let (said, result) = hand(&server, How::default()).await;
    let fault = result.unwrap_err().to_string();
    assert!(
        fault.starts_with("error: shop/gone: its target cannot be read: "),
        "{fault}"
    );
    assert!(said.contains("keda-hpa-web created"), "{said}");
}
