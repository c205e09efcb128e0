//! The last decision about each target and the last changes, in memory, for people who ask why.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neap_engine::Evaluation;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::history::{Change, ChangeRow, History};
use super::summary::{self, Summary};
use super::table::TargetRow;
use crate::clock::Clock;
use crate::decide::Targets;
use crate::keys::TargetKey;
use crate::world::Owner;

/// A change is told to the other replicas so often.
const TELLINGS: usize = 10;
/// Bytes of decisions that one telling carries at most; what is left out is left out whole.
const TOLD_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
struct Of {
    latest: Option<Arc<Change>>,
    /// What the triggers aimed at in the latest.
    targets: Arc<Targets>,
    fault: Option<String>,
    owner: Option<String>,
}

#[derive(Debug, Default)]
struct All {
    targets: HashMap<TargetKey, Of>,
    /// What the history went on from at the last few tellings.
    told: VecDeque<u64>,
}

/// Remembers decisions. Cheap to feed: nothing is rendered before somebody asks.
#[derive(Debug)]
pub struct Explain {
    all: Mutex<All>,
    history: Arc<History>,
    clock: Arc<dyn Clock>,
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
    /// Remembers nothing yet but what `history` holds, which changes go to.
    pub fn new(clock: Arc<dyn Clock>, history: Arc<History>) -> Self {
        Self {
            all: Mutex::default(),
            history,
            clock,
            changed: watch::Sender::new(0),
        }
    }

    // Every entry under this lock is whole by itself.
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
        // One for both: it is rendered once, and is of one instant.
        let decision = Arc::new(Change::made(self.clock.wall(), evaluation, owner.is_neap()));
        {
            let mut all = self.all();
            let of = all.targets.entry(key.clone()).or_default();
            of.fault = None;
            of.owner = Some(owner.to_string());
            of.targets = targets.clone();
            of.latest = Some(decision.clone());
        }
        let former = self.history.last_desired(key);
        if evaluation.write.is_some() || former != Some(evaluation.desired) {
            self.history.keep(key, decision);
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
            let evaluation = of.latest.as_ref().and_then(|latest| latest.evaluation());
            let evaluation = evaluation.cloned();
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
        self.all().targets.remove(key);
        self.history.forget(key);
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
                let evaluation = latest.as_ref().and_then(|latest| latest.evaluation());
                Summary {
                    current: evaluation.map(|evaluation| evaluation.why.current),
                    desired: evaluation.map(|evaluation| evaluation.desired),
                    scaled: latest.as_ref().is_some_and(|latest| latest.is_scaled()),
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

    /// What the other replicas are told: every target that this process has looked at, and the changes since a few tellings ago.
    pub(super) fn tell(&self) -> (Vec<TargetRow>, Vec<ChangeRow>) {
        let summaries = self.list();
        let (latest, changes) = {
            let mut all = self.all();
            // Before the first telling there was none: everything is news.
            let since = all.told.front().copied().unwrap_or_default();
            if all.told.is_empty() {
                all.told.push_back(0);
            }
            let (changes, next) = self.history.own_since(since);
            all.told.push_back(next);
            if all.told.len() > TELLINGS {
                all.told.pop_front();
            }
            let latest = summaries.iter().map(|summary| {
                let key = TargetKey::new(summary.namespace.as_str(), summary.name.as_str());
                let latest = all.targets.get(&key).and_then(|of| of.latest.clone());
                (key, latest)
            });
            (latest.collect::<Vec<_>>(), changes)
        };
        // Rendered without the lock; a decision is rendered once, however often it is told.
        let mut bytes = 0;
        let mut fits = |text: &str| {
            bytes += text.len();
            bytes <= TOLD_BYTES
        };
        let changes = changes
            .into_iter()
            .filter(|(_, change)| fits(change.text()))
            .map(|(key, change)| change.row(&key));
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
        let (latest, fault, owner) = {
            let all = self.all();
            let of = all.targets.get(key)?;
            (of.latest.clone(), of.fault.clone(), of.owner.clone())
        };
        let (changes, gaps) = self.history.of(key);
        Some(json!({
            "namespace": &*key.namespace,
            "name": &*key.name,
            "fault": fault,
            "owner": owner,
            "latest": latest.as_ref().map(|latest| latest.json()),
            "changes": changes,
            "gaps": gaps,
        }))
    }
}
