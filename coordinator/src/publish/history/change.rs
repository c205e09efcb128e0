//! One change: made by this replica's decider, or told by a leader.

use std::sync::{Arc, OnceLock};

use neap_engine::Evaluation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::TargetKey;

/// A change as it travels and as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::publish) struct ChangeRow {
    pub(in crate::publish) key: TargetKey,
    /// When, on the leader's wall: with the target it is what tells one change from another.
    pub(in crate::publish) at_micros: i64,
    /// The replicas that were decided on.
    pub(in crate::publish) desired: i32,
    /// The decision, as the API answers it.
    pub(in crate::publish) decision: String,
}

/// A decision, rendered when somebody asks.
#[derive(Debug)]
pub(in crate::publish) struct Change {
    pub(in crate::publish) at: jiff::Timestamp,
    pub(in crate::publish) desired: i32,
    made: Option<Made>,
    text: OnceLock<String>,
}

#[derive(Debug)]
struct Made {
    evaluation: Arc<Evaluation>,
    scaled: bool,
}

impl Change {
    /// A decision of this process; `scaled` where it is written and not only shown.
    pub(in crate::publish) fn made(
        at: jiff::Timestamp,
        evaluation: &Arc<Evaluation>,
        scaled: bool,
    ) -> Self {
        Self {
            at,
            desired: evaluation.desired,
            made: Some(Made {
                evaluation: evaluation.clone(),
                scaled,
            }),
            text: OnceLock::new(),
        }
    }

    /// One that a leader told, or that an earlier process of this replica kept.
    pub(super) fn told(row: ChangeRow) -> Self {
        Self {
            at: jiff::Timestamp::from_microsecond(row.at_micros).unwrap_or_default(),
            desired: row.desired,
            made: None,
            text: OnceLock::from(row.decision),
        }
    }

    /// Whether this process decided it.
    pub(super) fn is_own(&self) -> bool {
        self.made.is_some()
    }

    /// The decision, where this process made it.
    pub(in crate::publish) fn evaluation(&self) -> Option<&Arc<Evaluation>> {
        self.made.as_ref().map(|made| &made.evaluation)
    }

    /// Whether this process made it and its target is scaled, not only observed.
    pub(in crate::publish) fn is_scaled(&self) -> bool {
        self.made.as_ref().is_some_and(|made| made.scaled)
    }

    /// The decision as JSON.
    pub(in crate::publish) fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let Some(made) = &self.made else {
                return Value::Null.to_string();
            };
            let evaluation = serde_json::to_value(&*made.evaluation).unwrap_or_default();
            json!({"at": self.at.to_string(), "scaled": made.scaled, "evaluation": evaluation})
                .to_string()
        })
    }

    pub(in crate::publish) fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }

    pub(in crate::publish) fn row(&self, key: &TargetKey) -> ChangeRow {
        ChangeRow {
            key: key.clone(),
            at_micros: self.at.as_microsecond(),
            desired: self.desired,
            decision: self.text().to_owned(),
        }
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match &self.made {
            Some(made) => size_of(&made.evaluation),
            None => self.text.get().map_or(0, String::len),
        }
    }
}

fn size_of(evaluation: &Evaluation) -> usize {
    let conditions = evaluation.conditions.iter();
    let events = evaluation.events.iter();
    let texts: usize = conditions
        .map(|condition| condition.message.len())
        .chain(events.map(|event| event.message.len()))
        .sum();
    std::mem::size_of::<Evaluation>()
        + texts
        + evaluation.conditions.len() * 128
        + evaluation.why.triggers.len() * 384
        + evaluation.why.steps.len() * 192
        + evaluation.state.encode().len() * 2
}
