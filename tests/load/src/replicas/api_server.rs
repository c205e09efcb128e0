//! What the coordinators ask of an API server: a fake one, since five thousand nodes with five thousand pods and
//! their tokens are not to be had on one machine.
//!
//! It keeps what is written, lists the pods that it was given and nothing else, never has news on a
//! watch, publishes the key that the tokens are signed with, and accepts every token at review.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::names::{NAMESPACE, SEATS};
use super::tokens::{ISSUER, Tokens};

/// The server, until the process ends.
#[derive(Clone)]
pub struct ApiServer {
    kept: Arc<Mutex<HashMap<String, Value>>>,
    keys: Value,
    pods: Arc<Vec<Value>>,
}

/// The parts of a path below its group and version.
struct Asked<'a> {
    plural: &'a str,
    name: Option<&'a str>,
}

fn asked(path: &str) -> Option<Asked<'_>> {
    let mut parts = path.trim_matches('/').split('/');
    match parts.next()? {
        "api" => drop(parts.next()?),
        "apis" => drop((parts.next()?, parts.next()?)),
        _ => return None,
    }
    let parts: Vec<&str> = parts.collect();
    let parts = match parts.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let (plural, rest) = parts.split_first()?;
    Some(Asked {
        plural,
        name: rest.first().copied(),
    })
}

impl ApiServer {
    /// One that has these pods and the key of `tokens`, and nobody to ask it yet.
    ///
    /// # Errors
    /// When the key cannot be published.
    pub fn new(pods: Vec<Value>, tokens: &Tokens) -> Result<Self> {
        Ok(Self {
            kept: Arc::new(Mutex::new(HashMap::from([stateful_set()]))),
            keys: tokens.keys()?,
            pods: Arc::new(pods),
        })
    }

    /// Answers what is asked on `listener`.
    pub fn serve(&self, listener: TcpListener) {
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    /// The bundle that the first coordinator published for agents, once it has.
    #[must_use]
    pub fn bundle(&self) -> Option<String> {
        let kept = self.kept();
        let map = kept.get(&format!(
            "/api/v1/namespaces/{NAMESPACE}/configmaps/neap-ca"
        ))?;
        Some(map["data"]["ca.crt"].as_str()?.to_owned())
    }

    // Each change under this lock is one insertion.
    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Value>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, uri: &Uri, asked: &Asked<'_>) -> Response {
        if asked.name.is_some() {
            return match self.kept().get(uri.path()) {
                Some(object) => Json(object.clone()).into_response(),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let query = uri.query().unwrap_or_default();
        // Of a label selector only the leader's is asked for, and nothing is told of that.
        let none = Arc::default();
        let items = if asked.plural == "pods" && !query.contains("labelSelector") {
            &self.pods
        } else {
            &none
        };
        if query.contains("watch=") {
            return watch(items, query.contains("sendInitialEvents=true"));
        }
        Json(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": **items}))
            .into_response()
    }

    fn write(&self, method: &Method, uri: &Uri, mut sent: Value) -> Response {
        let mut kept = self.kept();
        let path = match (method, sent["metadata"]["name"].as_str()) {
            (&Method::POST, Some(name)) => format!("{}/{name}", uri.path()),
            (&Method::POST, None) => return Json(sent).into_response(),
            _ => uri.path().to_owned(),
        };
        let known = kept.get(&path).cloned();
        if method == Method::POST && known.is_some() {
            return refuse(StatusCode::CONFLICT, "AlreadyExists");
        }
        let version = known.as_ref().and_then(version).unwrap_or(0);
        let claimed = version_of(&sent);
        if claimed.is_some_and(|claimed| claimed != version) {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        if method == Method::PATCH {
            let mut whole =
                known.unwrap_or_else(|| json!({"metadata": {"name": path.rsplit('/').next()}}));
            merge(&mut whole, &sent);
            sent = whole;
        }
        sent["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        kept.insert(path, sent.clone());
        Json(sent).into_response()
    }
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

fn version_of(sent: &Value) -> Option<u64> {
    sent.get("metadata").and_then(|_| version(sent))
}

/// RFC 7386.
fn merge(whole: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *whole = patch.clone();
        return;
    };
    if !whole.is_object() {
        *whole = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(object) = whole.as_object_mut() {
                object.remove(name);
            }
        } else {
            merge(&mut whole[name.as_str()], value);
        }
    }
}

/// Answers a request.
pub async fn answer(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    match uri.path() {
        "/.well-known/openid-configuration" => {
            return Json(json!({"issuer": ISSUER})).into_response();
        }
        "/openid/v1/jwks" => return Json(server.keys).into_response(),
        "/version" => {
            let unknown = [
                "gitCommit",
                "gitTreeState",
                "buildDate",
                "goVersion",
                "compiler",
                "platform",
            ];
            let mut version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"});
            unknown.iter().for_each(|field| version[*field] = json!(""));
            return Json(version).into_response();
        }
        "/apis/authentication.k8s.io/v1/tokenreviews" => {
            let user = json!({"username": format!("system:serviceaccount:{NAMESPACE}:neap-agent")});
            let status = json!({"authenticated": true, "audiences": ["neap"], "user": user});
            return Json(json!({"metadata": {}, "spec": {}, "status": status})).into_response();
        }
        _ => {}
    }
    let Some(asked) = asked(uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "NotFound");
    };
    if method == Method::GET {
        return server.get(&uri, &asked);
    }
    match serde_json::from_slice(&body) {
        Ok(sent) => server.write(&method, &uri, sent),
        Err(_) => refuse(StatusCode::BAD_REQUEST, "BadRequest"),
    }
}

/// All there is, and then nothing for ever.
#[must_use]
pub fn watch(items: &[Value], initial: bool) -> Response {
    let lines = if initial {
        initial_events(items, "1")
    } else {
        String::new()
    };
    let told = stream::iter([Ok::<_, Infallible>(Bytes::from(lines))]);
    Body::from_stream(told.chain(stream::pending())).into_response()
}

/// A list as a watch begins with it.
#[must_use]
pub fn initial_events(items: &[Value], version: &str) -> String {
    let mut lines = String::new();
    for item in items {
        lines += &format!("{}\n", json!({"type": "ADDED", "object": item}));
    }
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let end = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": version, "annotations": annotations}});
    lines + &format!("{}\n", json!({"type": "BOOKMARK", "object": end}))
}

/// An error as the API server says it.
#[must_use]
pub fn refuse(code: StatusCode, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": reason, "reason": reason, "code": code.as_u16()});
    (code, Json(status)).into_response()
}

/// Where the coordinators look which of them are wanted, and what stands there.
fn stateful_set() -> (String, Value) {
    let name = "neap-coordinator";
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "resourceVersion": "1"},
        "spec": {"replicas": SEATS},
    });
    (
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{name}"),
        set,
    )
}

/// A kubeconfig that leads to `address`.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn kubeconfig(address: std::net::SocketAddr) -> Result<String> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "load",
        "clusters": [{"name": "load", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "load", "user": {}}],
        "contexts": [{"name": "load", "context": {"cluster": "load", "user": "load"}}],
    });
    serde_json::to_string(&config).context("a kubeconfig")
}
