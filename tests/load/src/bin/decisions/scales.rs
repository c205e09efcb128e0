//! What is scaled, as an API server has it: objects, watches of them, and the scale subresource with optimistic locking.
//! All else is answered by [`ApiServer`], which knows of no targets.
//!
//! Here it is seen who wrote what, when, and on which version; what must not be is kept for the end.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use neap_load::replicas::api_server::{self, ApiServer, initial_events, refuse};
use neap_load::replicas::names::{PODS_NAMESPACE, monotonic, node, pod_uid};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Targets whose signals cross, one or some for each fault.
pub(crate) const CROSSING: usize = 100;
/// Targets whose load asks for less than their least and more than their most.
pub(crate) const BOUNDED: usize = 4;
/// The port of the one pod of each target, and connections in its queue for each replica.
pub(crate) const PORT: u32 = 8080;
pub(crate) const EACH: u64 = 40;

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const SCALED_OBJECTS: &str = "/apis/keda.sh/v1alpha1/scaledobjects";

/// Least and most replicas of a target.
pub(crate) fn bounds(target: usize) -> (i32, i32) {
    if target < CROSSING {
        (1, 5_000)
    } else {
        (2, 4)
    }
}

fn name(target: usize) -> String {
    if target < CROSSING {
        format!("crossing-{target}")
    } else {
        format!("bounded-{}", target - CROSSING)
    }
}

/// A write of a scale that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub(crate) target: usize,
    pub(crate) replicas: i32,
    /// Term and node of the leader that wrote.
    pub(crate) leader: (u64, u64),
    /// When the request arrived, on the machine's CLOCK_MONOTONIC, nanoseconds.
    pub(crate) at: u64,
}

struct Deployment {
    replicas: i32,
    version: u64,
    /// The largest leader that has written it.
    leader: (u64, u64),
}

struct Kept {
    deployments: Vec<Deployment>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<Result<Bytes, Infallible>>>,
    writes: Vec<Write>,
    refused: usize,
    broken: Vec<String>,
}

/// The server, until the process ends.
#[derive(Clone)]
pub(crate) struct Scales {
    kept: Arc<Mutex<Kept>>,
    news: watch::Sender<usize>,
    objects: Arc<Vec<Value>>,
    rest: ApiServer,
}

impl Scales {
    /// Serves on `listener`, and leaves to `rest` what is not of targets.
    pub(crate) fn start(listener: TcpListener, rest: ApiServer) -> Self {
        // More than the least, so that the first decision is seen too.
        let deployments = (0..CROSSING + BOUNDED).map(|target| Deployment {
            replicas: if target < CROSSING { 1 } else { 3 },
            version: 1,
            leader: (0, 0),
        });
        let server = Self {
            kept: Arc::new(Mutex::new(Kept {
                deployments: deployments.collect(),
                version: 1,
                watchers: Vec::new(),
                writes: Vec::new(),
                refused: 0,
                broken: Vec::new(),
            })),
            news: watch::Sender::new(0),
            objects: Arc::new((0..CROSSING + BOUNDED).map(scaled_object).collect()),
            rest,
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    // Nothing under this lock is left half done: a panic would be in a test of its own making.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first write by a leader of a term above `term`, if there was one.
    pub(crate) fn first_above(&self, term: u64) -> Option<Write> {
        let kept = self.kept();
        let mut later = kept.writes.iter().filter(|write| write.leader.0 > term);
        later.next().copied()
    }

    /// Waits for the write that gave `target` so many replicas.
    pub(crate) async fn written(
        &self,
        target: usize,
        replicas: i32,
        within: Duration,
    ) -> Result<Write> {
        let mut news = self.news.subscribe();
        let looking = async {
            loop {
                let found = {
                    let kept = self.kept();
                    let mut last = kept.writes.iter().rev();
                    last.find(|write| (write.target, write.replicas) == (target, replicas))
                        .copied()
                };
                if let Some(write) = found {
                    return anyhow::Ok(write);
                }
                news.changed().await.context("the API server is gone")?;
            }
        };
        match tokio::time::timeout(within, looking).await {
            Ok(found) => found,
            Err(_) => bail!(
                "{} has {} replicas and not {replicas}: no PATCH within {within:?}",
                name(target),
                self.replicas(target)
            ),
        }
    }

    /// What a target has.
    pub(crate) fn replicas(&self, target: usize) -> i32 {
        let kept = self.kept();
        kept.deployments.get(target).map_or(0, |one| one.replicas)
    }

    /// Fails if anything happened that must not.
    pub(crate) fn check(&self) -> Result<()> {
        let kept = self.kept();
        if !kept.broken.is_empty() {
            bail!("{}", kept.broken.join("\n"));
        }
        Ok(())
    }

    /// Writes that were taken, and those that were refused because they rested on a version that was not the last.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let kept = self.kept();
        (kept.writes.len(), kept.refused)
    }

    fn patch(&self, target: usize, agent: &str, sent: &Value) -> Response {
        let at = monotonic();
        let mut kept = self.kept();
        let Kept {
            deployments,
            version,
            watchers,
            writes,
            refused,
            broken,
        } = &mut *kept;
        let Some(deployment) = deployments.get_mut(target) else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        let asked = sent["spec"]["replicas"].as_i64();
        let Some(replicas) = asked.and_then(|replicas| i32::try_from(replicas).ok()) else {
            return refuse(StatusCode::BAD_REQUEST, "BadRequest");
        };
        let what = || format!("{} -> {replicas} by {agent}", name(target));
        match sent["metadata"]["resourceVersion"].as_str() {
            None => broken.push(format!("on no version, and so on any: {}", what())),
            Some(claimed) if claimed != deployment.version.to_string() => {
                *refused += 1;
                return refuse(StatusCode::CONFLICT, "Conflict");
            }
            Some(_) => {}
        }
        let leader = leader_of(agent).unwrap_or_default();
        if leader == (0, 0) {
            broken.push(format!("names no leader: {}", what()));
        } else if leader < deployment.leader {
            let largest = deployment.leader;
            broken.push(format!("after a write of leader {largest:?}: {}", what()));
        }
        let (least, most) = bounds(target);
        if !(least..=most).contains(&replicas) {
            broken.push(format!("not within {least}..{most}: {}", what()));
        }
        *version += 1;
        deployment.leader = deployment.leader.max(leader);
        deployment.replicas = replicas;
        deployment.version = *version;
        let (changed, scale) = (object(target, deployment), scale(target, deployment));
        let told = Bytes::from(line("MODIFIED", &changed));
        watchers.retain(|watcher| watcher.send(Ok(told.clone())).is_ok());
        writes.push(Write {
            target,
            replicas,
            leader,
            at,
        });
        let count = writes.len();
        drop(kept);
        self.news.send_replace(count);
        Json(scale).into_response()
    }

    /// A target's object, or its scale.
    fn read(&self, target: usize, is_scale: bool) -> Response {
        let kept = self.kept();
        match kept.deployments.get(target) {
            Some(deployment) if is_scale => Json(scale(target, deployment)).into_response(),
            Some(deployment) => Json(object(target, deployment)).into_response(),
            None => refuse(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    /// The watch of the targets' objects.
    fn follow(&self, query: &str) -> Response {
        let (send, lines) = mpsc::unbounded_channel();
        let mut kept = self.kept();
        let all = kept.deployments.iter().enumerate();
        let first = if query.contains("sendInitialEvents=true") {
            let objects: Vec<Value> = all.map(|(target, one)| object(target, one)).collect();
            initial_events(&objects, &kept.version.to_string())
        } else {
            let since = parameter(query, "resourceVersion");
            let since: u64 = since
                .and_then(|version| version.parse().ok())
                .unwrap_or_default();
            let newer = all.filter(|(_, one)| one.version > since);
            newer
                .map(|(target, one)| line("MODIFIED", &object(target, one)))
                .collect()
        };
        // Its other end is below.
        let _ = send.send(Ok(Bytes::from(first)));
        kept.watchers.push(send);
        Body::from_stream(UnboundedReceiverStream::new(lines)).into_response()
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The target whose object is at `path`, or whose scale, and whether that is it.
fn target_of(path: &str) -> Option<(usize, bool)> {
    let prefix = format!("/apis/apps/v1/namespaces/{PODS_NAMESPACE}/deployments/");
    let wanted = path.strip_prefix(&prefix)?;
    let scale = wanted.strip_suffix("/scale");
    let target = (0..CROSSING + BOUNDED).find(|target| name(*target) == scale.unwrap_or(wanted))?;
    Some((target, scale.is_some()))
}

/// The leader under which a request was made, as its User-Agent says.
fn leader_of(agent: &str) -> Option<(u64, u64)> {
    let (_, id) = agent.split_once("; leader ")?;
    let (term, node) = id.strip_suffix(')')?.split_once('.')?;
    Some((term.parse().ok()?, node.parse().ok()?))
}

async fn answer(
    State(server): State<Scales>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query = uri.query().unwrap_or_default();
    let watched = query.contains("watch=");
    let target = target_of(uri.path());
    let answered = match (&method, uri.path(), target) {
        (&Method::GET, "/apis/apps/v1", _) => Some(Json(kinds()).into_response()),
        (&Method::GET, DEPLOYMENTS, _) if watched => Some(server.follow(query)),
        (&Method::GET, SCALED_OBJECTS, _) if watched => {
            let initial = query.contains("sendInitialEvents=true");
            Some(api_server::watch(&server.objects, initial))
        }
        (&Method::GET, _, Some((target, is_scale))) => Some(server.read(target, is_scale)),
        (&Method::PATCH, _, Some((target, true))) => {
            let agent = headers.get(USER_AGENT).and_then(|name| name.to_str().ok());
            Some(match serde_json::from_slice(&body) {
                Ok(sent) => server.patch(target, agent.unwrap_or_default(), &sent),
                Err(_) => refuse(StatusCode::BAD_REQUEST, "BadRequest"),
            })
        }
        _ => None,
    };
    match answered {
        Some(answer) => answer,
        None => api_server::answer(State(server.rest), method, uri, body).await,
    }
}

fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

fn kinds() -> Value {
    let mut resources = Vec::new();
    for (name, kind) in [
        ("deployments", "Deployment"),
        ("deployments/scale", "Scale"),
    ] {
        resources.push(json!({
            "name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"],
        }));
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": resources})
}

fn metadata(target: usize, deployment: &Deployment) -> Value {
    let name = name(target);
    json!({
        "name": name, "namespace": PODS_NAMESPACE, "uid": format!("deployment-{name}"), "generation": 1,
        "resourceVersion": deployment.version.to_string(),
    })
}

fn object(target: usize, deployment: &Deployment) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(target, deployment),
        "spec": {"replicas": deployment.replicas, "selector": {"matchLabels": {"app": name(target)}}},
        "status": {"replicas": deployment.replicas},
    })
}

fn scale(target: usize, deployment: &Deployment) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata(target, deployment),
        "spec": {"replicas": deployment.replicas},
        "status": {"replicas": deployment.replicas, "selector": format!("app={}", name(target))},
    })
}

fn scaled_object(target: usize) -> Value {
    let (name, (least, most)) = (name(target), bounds(target));
    let mut behavior = json!({
        "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
    });
    if target >= CROSSING {
        behavior["scaleDown"] = json!({"stabilizationWindowSeconds": 0});
    }
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": PODS_NAMESPACE, "uid": format!("so-{name}"), "generation": 1,
                     "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": least,
            "maxReplicaCount": most,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [{"type": "node-accept-queue", "metadata": {
                "port": PORT.to_string(), "value": EACH.to_string(), "window": "200ms",
            }}],
        },
    })
}

/// The pods: one of each target, all on one node. Its queue alone asks for replicas, so that nothing waits for pods.
pub(crate) fn pods() -> Vec<Value> {
    let pod = |target: usize| {
        let name = name(target);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-0"), "namespace": PODS_NAMESPACE, "uid": pod_uid(target),
                         "resourceVersion": "1", "labels": {"app": name}},
            "spec": {"nodeName": node(0), "containers": [{"name": "main"}]},
            "status": {
                "phase": "Running",
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
                "podIPs": [{"ip": format!("10.1.0.{target}")}],
            },
        })
    };
    (0..CROSSING + BOUNDED).map(pod).collect()
}
