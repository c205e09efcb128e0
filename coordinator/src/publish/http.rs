//! The plain HTTP side: metrics, health and the read-only API.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use neap_consensus::{Consensus, LeaderId};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::explain::Explain;
use super::table::LeaderTable;
use super::top_query::TopQuery;
use super::{list, top};
use crate::clock::Clock;
use crate::keys::TargetKey;
use crate::leading::Leading;
use crate::metrics::Metrics;
use crate::poll::Poller;
use crate::signals::SignalStore;
use crate::world::World;

/// What the HTTP side shows.
#[derive(Clone)]
pub struct HttpState {
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Decisions.
    pub explain: Arc<Explain>,
    /// What the leader told, to answer from while this replica follows.
    pub followed: Arc<LeaderTable>,
    /// Leadership.
    pub consensus: Consensus,
    /// Who leads, as others are told.
    pub leading: watch::Receiver<Leading>,
    /// Objects.
    pub world: Arc<World>,
    /// Signals.
    pub store: Arc<SignalStore>,
    /// Polled sources.
    pub poller: Arc<Poller>,
    /// This replica was found to be a voter, at some time since it started.
    pub has_voted: Arc<AtomicBool>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The routes of port 9702.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/status", get(status))
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/{namespace}/{name}", get(target))
        .route("/api/v1/top/{what}", get(seen))
        .with_state(state)
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(state): State<HttpState>) -> Response {
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("metrics cannot be written: {error}\n"),
        )
            .into_response(),
    }
}

/// Alive as long as the log is: a member that has stopped does not start again by itself.
async fn healthz(State(state): State<HttpState>) -> Response {
    match state.consensus.status().stopped {
        None => "ok\n".into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the log has stopped: {reason}\n"),
        )
            .into_response(),
    }
}

/// Ready once every kind of object has been listed and this replica has been a voter, so that an update
/// which ends one replica after the other takes the next one only when the last one counts again. A
/// quorum is no part of it: a voter knows by its disk that it is one, and replicas that are taken out of
/// their Service for want of a quorum would not get one sooner.
async fn readyz(State(state): State<HttpState>) -> Response {
    let mut missing = Vec::new();
    for (kind, freshness) in state.world.freshness().borrow().iter() {
        if !freshness.synced {
            let why = freshness.error.as_deref().unwrap_or("not listed yet");
            missing.push(format!("{}: {why}", kind.name()));
        }
    }
    let consensus = state.consensus.status();
    if let Some(other) = &consensus.stranger {
        missing.push(format!(
            "membership: this replica's disk is of cluster {}, and others are led in {other}: if that is to stay, delete this pod, and its claim if it has one",
            consensus.cluster
        ));
    }
    if consensus.votes {
        state.has_voted.store(true, Ordering::Relaxed);
    } else if !state.has_voted.load(Ordering::Relaxed) {
        let role = consensus.role.as_str();
        missing.push(format!("membership: no voter yet, this replica is {role}"));
    }
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}

/// What this replica counts by itself.
pub(crate) fn figures(state: &HttpState) -> Value {
    let consensus = state.consensus.status();
    let figures = state.store.figures(state.clock.boottime());
    json!({
        "members": consensus.members.iter().map(|member| json!({
            "id": member.node.0,
            "name": member.name,
            "address": member.address,
            "voter": member.voter,
            "lag": member.lag,
            "silentMillis": member.last_ack.map(|ago| ago.as_millis() as u64),
        })).collect::<Vec<_>>(),
        "nodes": {"known": figures.nodes, "fresh": figures.fresh_nodes},
        "series": figures.series,
        "points": figures.points,
        "dropped": {"backwards": figures.backwards, "stale": figures.stale, "unknown": figures.unknown},
        "questions": state.poller.questions(),
    })
}

impl HttpState {
    /// Whether this replica decides, so that what it knows is newer than what it was told.
    fn leads(&self) -> bool {
        self.leading.borrow().leadership.is_self
    }

    /// Who says what is answered, and how old it is; `null` where no leader has told anything yet.
    fn as_of(&self) -> Value {
        let leadership = self.leading.borrow().leadership.clone();
        let own = leadership.leader.filter(|_| leadership.is_self);
        let last = match own {
            Some(own) => Some((own.id, std::time::Duration::ZERO)),
            None => self.followed.as_of(),
        };
        let Some((leader, age)) = last else {
            return Value::Null;
        };
        json!({
            "leader": leader.to_string(),
            "name": self.name_of(leader),
            "ageMillis": u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The name of the member that leads or led.
    fn name_of(&self, leader: LeaderId) -> Option<String> {
        let members = self.consensus.status().members.into_iter();
        let mut leaders = members.filter(|member| member.node == leader.node);
        leaders.next().map(|member| member.name)
    }
}

async fn status(State(state): State<HttpState>) -> Response {
    let leadership = state.leading.borrow().leadership.clone();
    let consensus = state.consensus.status();
    let sizes = state.world.sizes();
    let freshness: serde_json::Map<String, Value> = state
        .world
        .freshness()
        .borrow()
        .iter()
        .map(|(kind, freshness)| {
            (
                kind.name().to_owned(),
                json!({"synced": freshness.synced, "error": freshness.error}),
            )
        })
        .collect();
    let name = consensus.node.and_then(|node| {
        let mut own = consensus
            .members
            .iter()
            .filter(|member| member.node == node);
        own.next().map(|member| member.name.clone())
    });
    let mut answer = figures(&state);
    // What only the leader knows comes from it.
    if !state.leads()
        && let (Value::Object(answer), Value::Object(told)) = (&mut answer, state.followed.status())
    {
        answer.extend(told);
    }
    let own = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": name,
        "leads": leadership.is_self,
        "leader": leadership.leader.map(|leader| json!({"id": leader.id.to_string(), "name": leader.name})),
        "asOf": state.as_of(),
        "cluster": consensus.cluster,
        "role": consensus.role.as_str(),
        "term": consensus.term,
        "committed": consensus.committed_index,
        "scaledObjects": sizes.scaled_objects,
        "pods": sizes.pods,
        "objects": freshness,
    });
    if let (Value::Object(answer), Value::Object(own)) = (&mut answer, own) {
        answer.extend(own);
    }
    Json(answer).into_response()
}

async fn targets(State(state): State<HttpState>) -> Response {
    let decided = if state.leads() {
        state.explain.list()
    } else {
        state.followed.list()
    };
    let targets = list::lines(&state.world, decided);
    Json(json!({"targets": targets, "asOf": state.as_of()})).into_response()
}

fn refuse(code: StatusCode, fault: impl Into<String>) -> Response {
    (code, Json(json!({"error": fault.into()}))).into_response()
}

/// What the agents see. They stream to the leader alone.
async fn seen(
    State(state): State<HttpState>,
    Path(what): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let query = match TopQuery::read(&parameters) {
        Ok(query) => query,
        Err(fault) => return refuse(StatusCode::BAD_REQUEST, fault),
    };
    let of_nodes = match what.as_str() {
        "pods" => false,
        "nodes" => true,
        _ => {
            let fault = format!("{what:?} is not measured; allowed: pods, nodes");
            return refuse(StatusCode::NOT_FOUND, fault);
        }
    };
    if let Some(fault) = query.not_of_nodes().filter(|_| of_nodes) {
        return refuse(StatusCode::BAD_REQUEST, fault);
    }
    if !state.leads() {
        let leader = state.leading.borrow().leadership.leader.clone();
        let fault = match leader {
            Some(leader) => format!(
                "this replica follows, and agents stream to the leader alone: ask the leader {}",
                leader.name
            ),
            None => "no leader is known, and agents stream to the leader alone: ask again once there is one".to_owned(),
        };
        return refuse(StatusCode::SERVICE_UNAVAILABLE, fault);
    }
    // Reads every node's signals: not on a thread that serves others.
    let answered = tokio::task::spawn_blocking(move || {
        let now = state.clock.boottime();
        if of_nodes {
            json!(top::nodes(&state.store, now, &query))
        } else {
            json!(top::pods(&state.world, &state.store, now, &query))
        }
    });
    match answered.await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn target(
    State(state): State<HttpState>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let key = TargetKey::new(namespace.as_str(), name.as_str());
    let explained = if state.leads() {
        state.explain.explain(&key)
    } else {
        state.followed.explain(&key)
    };
    match explained {
        Some(mut explained) => {
            explained["asOf"] = state.as_of();
            Json(explained).into_response()
        }
        None => {
            let fault = format!("no ScaledObject {namespace}/{name} is known to this replica");
            refuse(StatusCode::NOT_FOUND, fault)
        }
    }
}
