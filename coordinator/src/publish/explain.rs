//! The last decision about each target and the last changes, in memory, for people who ask why.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use neap_engine::Evaluation;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::summary::{self, Summary};
use super::table::{ChangeRow, TargetRow};
use crate::clock::Clock;
use crate::decide::Targets;
use crate::keys::TargetKey;
use crate::world::Owner;

/// Changes kept of one target.
const CHANGES: usize = 50;
/// Bytes kept of all changes, about; the oldest go first.
const BYTES: usize = 32 << 20;
/// A change is told to the other replicas so often.
const TELLINGS: usize = 10;
/// Bytes of decisions that one telling carries at most; what is left out is left out whole.
const TOLD_BYTES: usize = 16 << 20;

/// One remembered decision.
#[derive(Debug, Clone)]
struct Decision {
    wall: jiff::Timestamp,
    evaluation: Arc<Evaluation>,
    /// Written, or only shown.
    scaled: bool,
    /// As JSON, once that was asked for.
    text: Arc<OnceLock<String>>,
}

impl Decision {
    fn text(&self) -> &str {
        self.text.get_or_init(|| render(self).to_string())
    }
}

#[derive(Debug, Default)]
struct Of {
    latest: Option<Decision>,
    changes: VecDeque<(u64, Decision)>,
    /// What the triggers aimed at in the latest.
    targets: Arc<Targets>,
    fault: Option<String>,
    owner: Option<String>,
}

#[derive(Debug, Default)]
struct All {
    targets: HashMap<TargetKey, Of>,
    /// Every kept change in the order it came, with its size.
    order: BTreeMap<u64, (TargetKey, usize)>,
    next: u64,
    bytes: usize,
    /// `next` at the last few tellings.
    told: VecDeque<u64>,
}

/// Remembers decisions. Cheap to feed: nothing is rendered before somebody asks.
#[derive(Debug)]
pub struct Explain {
    all: Mutex<All>,
    clock: Arc<dyn Clock>,
    limit: usize,
    changed: watch::Sender<u64>,
}

/// What is known of one target now.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// The last decision.
    pub evaluation: Option<Arc<Evaluation>>,
    /// Why nothing is decided.
    pub fault: Option<String>,
}

impl Explain {
    /// Remembers nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            all: Mutex::default(),
            clock,
            limit: BYTES,
            changed: watch::Sender::new(0),
        }
    }

    // A panic under this lock may leave sizes wrong by one change; they only bound memory.
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a decision, whose triggers aimed at `targets`; as a change where it wants other replicas
    /// than the last one kept.
    pub fn record(
        &self,
        key: &TargetKey,
        evaluation: &Arc<Evaluation>,
        owner: &Owner,
        targets: &Arc<Targets>,
    ) {
        self.remember(key, evaluation, owner, targets);
        self.announce();
    }

    fn remember(
        &self,
        key: &TargetKey,
        evaluation: &Arc<Evaluation>,
        owner: &Owner,
        targets: &Arc<Targets>,
    ) {
        let decision = Decision {
            wall: self.clock.wall(),
            evaluation: evaluation.clone(),
            scaled: owner.is_neap(),
            text: Arc::default(),
        };
        let mut all = self.all();
        let all = &mut *all;
        let of = all.targets.entry(key.clone()).or_default();
        of.fault = None;
        of.owner = Some(owner.to_string());
        of.targets = targets.clone();
        of.latest = Some(decision.clone());
        let former = of.changes.back().map(|(_, last)| last.evaluation.desired);
        if evaluation.write.is_none() && former == Some(evaluation.desired) {
            return;
        }
        let size = size_of(evaluation);
        let id = all.next;
        all.next += 1;
        of.changes.push_back((id, decision));
        all.order.insert(id, (key.clone(), size));
        all.bytes += size;
        if of.changes.len() > CHANGES
            && let Some((id, _)) = of.changes.pop_front()
            && let Some((_, size)) = all.order.remove(&id)
        {
            all.bytes -= size;
        }
        while all.bytes > self.limit
            && let Some((id, (key, size))) = all.order.pop_first()
        {
            all.bytes -= size;
            if let Some(of) = all.targets.get_mut(&key) {
                of.changes.retain(|(other, _)| *other != id);
            }
        }
    }

    /// Changes with every decision and fault.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The last decision about each target, by name.
    pub fn latest(&self) -> BTreeMap<TargetKey, Latest> {
        let all = self.all();
        let latest = all.targets.iter().map(|(key, of)| {
            let evaluation = of.latest.as_ref().map(|latest| latest.evaluation.clone());
            let fault = of.fault.clone();
            (key.clone(), Latest { evaluation, fault })
        });
        latest.collect()
    }

    fn announce(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Remembers why nothing is decided.
    pub fn fault(&self, key: &TargetKey, fault: &str) {
        self.all().targets.entry(key.clone()).or_default().fault = Some(fault.to_owned());
        self.announce();
    }

    /// The target is gone.
    pub fn forget(&self, key: &TargetKey) {
        let mut all = self.all();
        let all = &mut *all;
        for (id, _) in all
            .targets
            .remove(key)
            .into_iter()
            .flat_map(|of| of.changes)
        {
            if let Some((_, size)) = all.order.remove(&id) {
                all.bytes -= size;
            }
        }
    }

    /// All targets, by name.
    pub fn list(&self) -> Vec<Summary> {
        // Under the lock things are only copied; the summaries are made after it.
        let known: Vec<_> = {
            let all = self.all();
            let known = all.targets.iter().map(|(key, of)| {
                let (fault, owner) = (of.fault.clone(), of.owner.clone());
                (
                    key.clone(),
                    of.latest.clone(),
                    of.targets.clone(),
                    fault,
                    owner,
                )
            });
            known.collect()
        };
        let summaries = known
            .into_iter()
            .map(|(key, latest, targets, fault, owner)| {
                let evaluation = latest.as_ref().map(|latest| &latest.evaluation);
                Summary {
                    current: evaluation.map(|evaluation| evaluation.why.current),
                    desired: evaluation.map(|evaluation| evaluation.desired),
                    scaled: latest.as_ref().is_some_and(|latest| latest.scaled),
                    owner,
                    fault,
                    triggers: evaluation
                        .map(|evaluation| summary::triggers(evaluation, &targets))
                        .unwrap_or_default(),
                    ..Summary::of(&key)
                }
            });
        let mut list: Vec<Summary> = summaries.collect();
        list.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        list
    }

    /// What the other replicas are told: every target, and the changes since a few tellings ago.
    pub(super) fn tell(&self) -> (Vec<TargetRow>, Vec<ChangeRow>) {
        let summaries = self.list();
        let (latest, changes) = {
            let mut all = self.all();
            // Before the first telling there was none: everything is news.
            let since = all.told.front().copied().unwrap_or_default();
            if all.told.is_empty() {
                all.told.push_back(0);
            }
            let next = all.next;
            all.told.push_back(next);
            if all.told.len() > TELLINGS {
                all.told.pop_front();
            }
            let latest = summaries.iter().map(|summary| {
                let key = TargetKey::new(summary.namespace.as_str(), summary.name.as_str());
                let latest = all.targets.get(&key).and_then(|of| of.latest.clone());
                (key, latest)
            });
            let changes = all.order.range(since..).filter_map(|(id, (key, _))| {
                let of = all.targets.get(key)?;
                let (_, change) = of.changes.iter().rev().find(|(other, _)| other == id)?;
                Some((key.clone(), change.clone()))
            });
            (latest.collect::<Vec<_>>(), changes.collect::<Vec<_>>())
        };
        // Rendered without the lock; a decision is rendered once, however often it is told.
        let mut bytes = 0;
        let mut fits = |text: &str| {
            bytes += text.len();
            bytes <= TOLD_BYTES
        };
        let changes = changes.into_iter().filter_map(|(key, change)| {
            let text = change.text();
            fits(text).then(|| ChangeRow {
                key,
                at_micros: change.wall.as_microsecond(),
                decision: text.to_owned(),
            })
        });
        let changes: Vec<ChangeRow> = changes.collect();
        let rows = latest.into_iter().zip(summaries);
        let rows = rows.map(|((key, latest), summary)| TargetRow {
            key,
            summary: serde_json::to_string(&summary).unwrap_or_default(),
            latest: latest
                .map(|latest| latest.text().to_owned())
                .filter(|text| fits(text)),
        });
        (rows.collect(), changes)
    }

    /// Everything about one target as JSON; `None` where nothing is known of it.
    pub fn explain(&self, key: &TargetKey) -> Option<Value> {
        let (latest, changes, fault, owner) = {
            let all = self.all();
            let of = all.targets.get(key)?;
            let changes: Vec<Decision> = of
                .changes
                .iter()
                .map(|(_, decision)| decision.clone())
                .collect();
            (
                of.latest.clone(),
                changes,
                of.fault.clone(),
                of.owner.clone(),
            )
        };
        Some(json!({
            "namespace": &*key.namespace,
            "name": &*key.name,
            "fault": fault,
            "owner": owner,
            "latest": latest.as_ref().map(render),
            "changes": changes.iter().rev().map(render).collect::<Vec<_>>(),
        }))
    }
}

fn render(decision: &Decision) -> Value {
    json!({
        "at": decision.wall.to_string(),
        "scaled": decision.scaled,
        "evaluation": serde_json::to_value(&*decision.evaluation).unwrap_or_default(),
    })
}

/// About how many bytes a decision takes.
fn size_of(evaluation: &Evaluation) -> usize {
    let texts: usize = evaluation
        .conditions
        .iter()
        .map(|condition| condition.message.len())
        .sum::<usize>()
        + evaluation
            .events
            .iter()
            .map(|event| event.message.len())
            .sum::<usize>();
    std::mem::size_of::<Evaluation>()
        + texts
        + evaluation.conditions.len() * 128
        + evaluation.why.triggers.len() * 384
        + evaluation.why.steps.len() * 192
        + evaluation.state.encode().len() * 2
}
