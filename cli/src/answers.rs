//! What the coordinator's HTTP API answers. Fields that are not named here are let pass, so that a
//! newer coordinator can say more.

use std::collections::BTreeMap;

use jiff::Timestamp;
use neap_coordinator::publish::TriggerSummary;
use neap_engine::{Condition, Event, Why};
use serde::{Deserialize, Serialize};

/// Which leader says what is answered, and how long ago it said it. A replica that has heard of none yet
/// answers without.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AsOf {
    /// Its term and id.
    pub(crate) leader: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) age_millis: u64,
}

/// `GET /api/v1/targets`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Targets {
    pub(crate) targets: Vec<Target>,
    #[serde(default)]
    pub(crate) as_of: Option<AsOf>,
}

/// One target of the list.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) current: Option<i32>,
    #[serde(default)]
    pub(crate) desired: Option<i32>,
    #[serde(default)]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) owner_kind: Option<String>,
    #[serde(default)]
    pub(crate) owner_name: Option<String>,
    #[serde(default)]
    pub(crate) fault: Option<String>,
    #[serde(default)]
    pub(crate) target_kind: Option<String>,
    #[serde(default)]
    pub(crate) target_name: Option<String>,
    #[serde(default)]
    pub(crate) min_replicas: Option<i32>,
    #[serde(default)]
    pub(crate) max_replicas: Option<i32>,
    #[serde(default)]
    pub(crate) created: Option<Timestamp>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// `spec.replicas` and `status.replicas` of the target's scale.
    #[serde(default)]
    pub(crate) spec_replicas: Option<i32>,
    #[serde(default)]
    pub(crate) status_replicas: Option<i32>,
    #[serde(default)]
    pub(crate) triggers: Vec<TriggerSummary>,
}

/// `GET /api/v1/targets/NAMESPACE/NAME`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explained {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) fault: Option<String>,
    #[serde(default)]
    pub(crate) latest: Option<Decision>,
    /// The newest first.
    #[serde(default)]
    pub(crate) changes: Vec<Decision>,
    /// Spans in which changes may be missing, the newest first.
    #[serde(default)]
    pub(crate) gaps: Vec<Gap>,
    #[serde(default)]
    pub(crate) as_of: Option<AsOf>,
}

/// A span in which the replica that answers was not told of changes.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// One decision.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Decision {
    /// When, on the wall.
    pub(crate) at: Timestamp,
    /// Whether it was written, or only shown.
    #[serde(default)]
    pub(crate) scaled: bool,
    pub(crate) evaluation: Shown,
}

/// The part of an Evaluation that is shown.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Shown {
    #[serde(default)]
    pub(crate) write: Option<i32>,
    pub(crate) why: Why,
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) version: String,
    /// The replica that answers.
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) as_of: Option<AsOf>,
    #[serde(default)]
    pub(crate) leads: bool,
    #[serde(default)]
    pub(crate) leader: Option<Leader>,
    #[serde(default)]
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) term: u64,
    #[serde(default)]
    pub(crate) committed: u64,
    #[serde(default)]
    pub(crate) members: Vec<Member>,
    #[serde(default)]
    pub(crate) nodes: Nodes,
    #[serde(default)]
    pub(crate) series: u64,
    #[serde(default)]
    pub(crate) scaled_objects: u64,
    #[serde(default)]
    pub(crate) pods: u64,
    #[serde(default)]
    pub(crate) questions: u64,
    #[serde(default)]
    pub(crate) objects: BTreeMap<String, ObjectKind>,
}

/// The leader that a replica knows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Leader {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// A member of the Raft cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) voter: bool,
    #[serde(default)]
    pub(crate) lag: Option<u64>,
}

/// Nodes with an agent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Nodes {
    #[serde(default)]
    pub(crate) known: u64,
    #[serde(default)]
    pub(crate) fresh: u64,
}

/// How a kind of object is kept up to date.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ObjectKind {
    #[serde(default)]
    pub(crate) synced: bool,
    #[serde(default)]
    pub(crate) error: Option<String>,
}
