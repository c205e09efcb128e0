//! What is shown of each target.

use neap_api::ScaledObject;
use neap_coordinator::keys::TargetKey;
use neap_coordinator::local::{Fault, LocalCoordinator, Place, Reports};
use neap_coordinator::publish::{Explain, Latest};
use neap_coordinator::world::{Readiness, TargetState, World};
use neap_engine::{Evaluation, TriggerOutcome, TriggerWhy};
use serde::Serialize;
use std::sync::Arc;

use crate::{measured, reason};

/// One target now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// `NAMESPACE/NAME` of the ScaledObject.
    pub(super) scaled_object: String,
    /// `KIND/NAME` of what it scales.
    pub(super) target: String,
    /// Replicas that the target's scale asks for.
    pub(super) replicas: Option<i32>,
    /// Replicas last decided on.
    pub(super) desired: Option<i32>,
    /// Replicas that exist and are not being stopped.
    pub(super) running: usize,
    /// Of them, those that may get connections.
    pub(super) ready: usize,
    /// Fewest and most.
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) triggers: Vec<TriggerRow>,
    /// What gave the number, in a line.
    pub(super) why: String,
    /// Why nothing is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<String>,
}

/// One trigger.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerRow {
    pub(super) name: String,
    #[serde(rename = "trigger")]
    pub(super) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Row {
    /// Whether a person would call it a change: another number, or another fault.
    pub(super) fn changed_since(&self, former: &Self) -> bool {
        let told = |row: &Self| {
            (
                row.replicas,
                row.desired,
                row.running,
                row.ready,
                row.fault.clone(),
            )
        };
        told(self) != told(former)
    }
}

/// Where the manifest of a target stands.
type Places = Box<dyn Fn(&TargetKey) -> Option<Place> + Send + Sync>;

/// Where rows come from.
pub(super) struct Source {
    world: Arc<World>,
    explain: Arc<Explain>,
    place: Places,
    reports: Reports,
}

impl Source {
    pub(super) fn new(coordinator: &LocalCoordinator, reports: Reports) -> Self {
        Self {
            world: coordinator.world.clone(),
            explain: coordinator.explain.clone(),
            place: Box::new(coordinator.places()),
            reports,
        }
    }

    /// Changes with every decision.
    pub(super) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.explain.changes()
    }

    /// Whether anything has been decided.
    pub(super) fn has_decided(&self) -> bool {
        let latest = self.explain.latest();
        latest.values().any(|latest| latest.evaluation.is_some())
    }

    /// All targets, by name. Faults of theirs are reported with where the object stands.
    pub(super) fn rows(&self) -> Vec<Row> {
        let latest = self.explain.latest();
        let mut keys = self.world.scaled_objects();
        keys.sort();
        keys.iter()
            .filter_map(|key| {
                let object = self.world.scaled_object(key)?.object;
                let row = self.row(key, &object, latest.get(key));
                self.report(key, &row);
                Some(row)
            })
            .collect()
    }

    fn row(&self, key: &TargetKey, object: &ScaledObject, latest: Option<&Latest>) -> Row {
        let entry = self.world.scaled_object(key);
        let target = entry.as_ref().map(|entry| &entry.target);
        let replicas = target.and_then(|target| match self.world.target(target) {
            TargetState::Found(facts) => Some(facts.replicas),
            TargetState::Pending | TargetState::Unavailable(_) => None,
        });
        let pods = target.map(|target| self.world.pods_of(target));
        let current = pods
            .iter()
            .flat_map(|pods| pods.iter())
            .filter(|pod| pod.is_current());
        let (mut running, mut ready) = (0, 0);
        for pod in current {
            running += 1;
            ready += usize::from(pod.ready == Readiness::True);
        }
        let evaluation = latest.and_then(|latest| latest.evaluation.as_deref());
        Row {
            scaled_object: key.to_string(),
            target: target.map_or_else(String::new, |target| {
                format!("{}/{}", target.kind, target.name)
            }),
            replicas,
            desired: evaluation.map(|evaluation| evaluation.desired),
            running,
            ready,
            min: object.spec.min_replica_count.unwrap_or(0),
            max: object
                .spec
                .max_replica_count
                .unwrap_or(neap_api::DEFAULT_MAX_REPLICAS),
            triggers: evaluation
                .iter()
                .flat_map(|evaluation| evaluation.why.triggers.iter().map(trigger))
                .collect(),
            why: evaluation.map(why).unwrap_or_default(),
            fault: latest.and_then(|latest| latest.fault.clone()),
        }
    }

    fn report(&self, key: &TargetKey, row: &Row) {
        let subject = format!("ScaledObject {key} (deciding)");
        match &row.fault {
            None => self.reports.mended(&subject),
            Some(fault) => self.reports.fault(Fault {
                subject,
                place: (self.place)(key).unwrap_or_default(),
                field: None,
                message: fault.clone(),
                advice: "its replicas stay as they are until it is corrected".to_owned(),
            }),
        }
    }
}

fn trigger(why: &TriggerWhy) -> TriggerRow {
    let mut row = TriggerRow {
        name: why.metric_name.clone(),
        kind: why.kind.clone(),
        value: None,
        target: None,
        active: why.active,
        error: None,
    };
    match &why.outcome {
        TriggerOutcome::Proposed(proposal) => {
            row.value = Some(measured::number(proposal.value));
            row.target = Some(measured::number(proposal.target));
        }
        TriggerOutcome::Failed { message, .. } | TriggerOutcome::Fallback { message, .. } => {
            row.error = Some(message.clone());
        }
        TriggerOutcome::Formula { value } | TriggerOutcome::NotComputed { value } => {
            row.value = value.map(|value| value.to_string());
        }
    }
    row
}

/// The last thing that shaped the number, or what it rests on.
fn why(evaluation: &Evaluation) -> String {
    let held = reason::of(&evaluation.events, &evaluation.why.steps);
    let changes = evaluation.write.is_some();
    if changes || held != "the triggers' values" {
        return held;
    }
    let lines = evaluation.why.to_string();
    let last = lines.lines().last().unwrap_or_default().trim();
    last.to_owned()
}
