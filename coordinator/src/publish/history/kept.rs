//! What is kept in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::change::{Change, ChangeRow};
use super::file::Record;
use crate::keys::TargetKey;

/// Changes kept of one target.
const CHANGES: usize = 50;
/// Bytes kept of all changes, about; the oldest go first.
const BYTES: usize = 32 << 20;
/// Gaps kept.
const GAPS: usize = 50;
/// Silence of the leader up to here loses nothing: it tells each change again for so long.
const TOLD_AGAIN: Duration = Duration::from_secs(9);
/// How often it is noted on disk until when this replica listened.
const NOTE_EACH: Duration = Duration::from_secs(60);
/// Records that wait for the disk; more are kept in memory alone.
const UNWRITTEN: usize = 20_000;

/// The last changes of all targets.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    limit: usize,
    /// Something waits for the disk.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    changes: HashMap<TargetKey, VecDeque<(u64, Arc<Change>)>>,
    /// Every kept change in the order it came, with its size.
    order: BTreeMap<u64, (TargetKey, usize)>,
    next: u64,
    bytes: usize,
    gaps: VecDeque<Gap>,
    /// Until when this replica made the decisions, or was told of them.
    heard: Option<jiff::Timestamp>,
    /// The last such time that goes to disk.
    noted: Option<jiff::Timestamp>,
    unwritten: Vec<Unwritten>,
}

/// A span in which changes may have been made that this replica was not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: jiff::Timestamp,
    pub(super) to: jiff::Timestamp,
}

#[derive(Debug)]
enum Unwritten {
    Change(TargetKey, Arc<Change>),
    Gap(Gap),
    Heard(jiff::Timestamp),
}

impl Default for History {
    fn default() -> Self {
        Self::with_limit(BYTES)
    }
}

impl History {
    pub(in crate::publish) fn with_limit(limit: usize) -> Self {
        Self {
            kept: Mutex::default(),
            limit,
            news: Notify::new(),
        }
    }

    // A panic under this lock may leave sizes wrong by one change; they only bound memory.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a change that a leader told.
    pub(in crate::publish) fn keep_told(&self, row: ChangeRow) {
        let key = row.key.clone();
        self.keep(&key, Arc::new(Change::told(row)));
    }

    /// Keeps a change, unless it is known.
    pub(in crate::publish) fn keep(&self, key: &TargetKey, change: Arc<Change>) {
        let mut kept = self.kept();
        if kept.insert(key, change.clone(), self.limit) && kept.unwritten.len() < UNWRITTEN {
            kept.unwritten.push(Unwritten::Change(key.clone(), change));
            drop(kept);
            self.news.notify_one();
        }
    }

    /// Notes that this replica makes the decisions at `now`, or is told of them. A silence before, in
    /// which others may have decided (`alone` says that there are none), is a gap.
    pub(in crate::publish) fn heard(&self, now: jiff::Timestamp, alone: bool) {
        let before = {
            let mut kept = self.kept();
            let due = kept
                .noted
                .is_none_or(|noted| now.duration_since(noted).unsigned_abs() >= NOTE_EACH);
            if due {
                kept.noted = Some(now);
                kept.unwritten.push(Unwritten::Heard(now));
                self.news.notify_one();
            }
            kept.heard.replace(now)
        };
        let Some(before) = before.filter(|_| !alone) else {
            return;
        };
        let silent = now.duration_since(before);
        if !silent.is_negative() && silent.unsigned_abs() > TOLD_AGAIN {
            self.gap(before, now);
        }
    }

    /// Notes that another leader decides from `now` on: what the former one decided since it was
    /// heard last is not known here.
    pub(in crate::publish) fn leader_changed(&self, now: jiff::Timestamp) {
        let before = self.kept().heard.replace(now);
        if let Some(before) = before {
            self.gap(before, now);
        }
    }

    /// Notes that changes between these instants may be missing.
    pub(in crate::publish) fn gap(&self, from: jiff::Timestamp, to: jiff::Timestamp) {
        if from >= to {
            return;
        }
        let mut kept = self.kept();
        kept.note_gap(Gap { from, to });
        kept.unwritten.push(Unwritten::Gap(Gap { from, to }));
        drop(kept);
        self.news.notify_one();
    }

    /// Takes in what was on disk.
    pub(super) fn load(&self, records: Vec<Record>) {
        let at = |micros| jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        let mut kept = self.kept();
        for record in records {
            let until = match record {
                Record::Change(row) => {
                    let (key, change) = (row.key.clone(), Change::told(row));
                    let made = change.at;
                    kept.insert(&key, Arc::new(change), self.limit);
                    made
                }
                Record::Gap { from, to } => {
                    let (from, to) = (at(from), at(to));
                    kept.note_gap(Gap { from, to });
                    to
                }
                Record::Heard { at: micros } => at(micros),
            };
            kept.heard = kept.heard.max(Some(until));
        }
    }

    /// What waits for the disk. Rendered without the lock.
    pub(super) fn take_unwritten(&self) -> Vec<Record> {
        let taken = std::mem::take(&mut self.kept().unwritten);
        let records = taken.iter().map(|unwritten| match unwritten {
            Unwritten::Change(key, change) => Record::Change(change.row(key)),
            Unwritten::Gap(gap) => Record::Gap {
                from: gap.from.as_microsecond(),
                to: gap.to.as_microsecond(),
            },
            Unwritten::Heard(at) => Record::Heard {
                at: at.as_microsecond(),
            },
        });
        records.collect()
    }

    /// The replicas that the last change of a target decided on.
    pub(in crate::publish) fn last_desired(&self, key: &TargetKey) -> Option<i32> {
        let kept = self.kept();
        let (_, last) = kept.changes.get(key)?.back()?;
        Some(last.desired)
    }

    /// What is to be told of this process's own changes from the number `since` on, and the number
    /// to go on from.
    pub(in crate::publish) fn own_since(&self, since: u64) -> (Vec<(TargetKey, Arc<Change>)>, u64) {
        let kept = self.kept();
        let own = kept.order.range(since..).filter_map(|(id, (key, _))| {
            let of = kept.changes.get(key)?;
            let (_, change) = of.iter().rev().find(|(other, _)| other == id)?;
            change.is_own().then(|| (key.clone(), change.clone()))
        });
        (own.collect(), kept.next)
    }

    /// The target is gone.
    pub(in crate::publish) fn forget(&self, key: &TargetKey) {
        self.kept().forget(key);
    }

    /// Drops the changes of all targets that are not among those.
    pub(in crate::publish) fn retain(&self, is_known: impl Fn(&TargetKey) -> bool) {
        let mut kept = self.kept();
        let gone: Vec<TargetKey> = kept
            .changes
            .keys()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        for key in gone {
            kept.forget(&key);
        }
    }

    /// The changes of one target, the newest first, and the gaps since the oldest of them.
    pub(in crate::publish) fn of(&self, key: &TargetKey) -> (Vec<Value>, Value) {
        let (changes, gaps) = {
            let kept = self.kept();
            let changes: Vec<Arc<Change>> = kept
                .changes
                .get(key)
                .into_iter()
                .flatten()
                .map(|(_, change)| change.clone())
                .collect();
            let oldest = changes.first().map(|change| change.at);
            let gaps = kept.gaps.iter().rev();
            let gaps = gaps.filter(|gap| oldest.is_none_or(|oldest| gap.to > oldest));
            (changes, gaps.copied().collect::<Vec<_>>())
        };
        let gaps = gaps
            .iter()
            .map(|gap| json!({"from": gap.from.to_string(), "to": gap.to.to_string()}))
            .collect();
        (
            changes.iter().rev().map(|change| change.json()).collect(),
            gaps,
        )
    }
}

impl Kept {
    /// True where it was not known.
    fn insert(&mut self, key: &TargetKey, change: Arc<Change>, limit: usize) -> bool {
        let of = self.changes.entry(key.clone()).or_default();
        if of.iter().rev().any(|(_, known)| known.at == change.at) {
            return false;
        }
        let (id, size) = (self.next, change.size());
        self.next += 1;
        self.bytes += size;
        self.order.insert(id, (key.clone(), size));
        // What is told late stands where it belongs.
        let newer = of
            .iter()
            .rev()
            .take_while(|(_, known)| known.at > change.at);
        let place = of.len() - newer.count();
        of.insert(place, (id, change));
        if of.len() > CHANGES
            && let Some((oldest, _)) = of.pop_front()
            && let Some((_, size)) = self.order.remove(&oldest)
        {
            self.bytes -= size;
        }
        while self.bytes > limit
            && let Some((oldest, (key, size))) = self.order.pop_first()
        {
            self.bytes -= size;
            if let Some(of) = self.changes.get_mut(&key) {
                of.retain(|(id, _)| *id != oldest);
            }
        }
        true
    }

    fn note_gap(&mut self, gap: Gap) {
        self.gaps.push_back(gap);
        if self.gaps.len() > GAPS {
            self.gaps.pop_front();
        }
    }

    fn forget(&mut self, key: &TargetKey) {
        for (id, _) in self.changes.remove(key).into_iter().flatten() {
            if let Some((_, size)) = self.order.remove(&id) {
                self.bytes -= size;
            }
        }
    }
}

#[cfg(test)]
#[path = "kept_test.rs"]
mod tests;
