//! The leader's table: what it tells the other replicas each second, outside the log, so that each
//! of them answers questions about decisions, and says how old its answer is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use neap_consensus::LeaderId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::summary::Summary;
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;

/// Format of the table; a replica of another version leaves it alone.
const FORMAT: u8 = 1;
/// Changes kept of one target.
const CHANGES: usize = 50;
/// Bytes kept of all changes; the oldest go first.
const BYTES: usize = 32 << 20;

/// One telling. Decisions travel as the JSON that the API answers with.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    /// The leader's own figures.
    pub(super) status: String,
    /// All targets.
    pub(super) targets: Vec<TargetRow>,
    /// The changes of the last few seconds, oldest first. Each is told several times, for a replica
    /// that missed one.
    pub(super) changes: Vec<ChangeRow>,
}

/// One target.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TargetRow {
    pub(super) key: TargetKey,
    /// Its line in the list of targets.
    pub(super) summary: String,
    /// The last decision; absent where the table would grow too large.
    pub(super) latest: Option<String>,
}

/// One change of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ChangeRow {
    pub(super) key: TargetKey,
    /// When, on the leader's wall: with the target it is what tells one change from another.
    pub(super) at_micros: i64,
    pub(super) decision: String,
}

impl Table {
    pub(super) fn encode(&self) -> Bytes {
        // Plain data into memory cannot fail; an empty table would be refused by `decode`.
        postcard::to_extend(self, vec![FORMAT])
            .unwrap_or_default()
            .into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some((format, _)) => Err(format!(
                "it has format {format}; this version reads {FORMAT}"
            )),
            None => Err("it is empty".to_owned()),
        }
    }
}

#[derive(Debug, Default)]
struct Told {
    /// Who told it last, and when.
    last: Option<(LeaderId, Boottime)>,
    status: Value,
    targets: BTreeMap<TargetKey, TargetRow>,
    changes: BTreeMap<TargetKey, VecDeque<(u64, ChangeRow)>>,
    /// Every kept change in the order it came, with its size.
    order: BTreeMap<u64, (TargetKey, usize)>,
    next: u64,
    bytes: usize,
}

/// What a replica was told by the leaders that it followed.
#[derive(Debug)]
pub struct LeaderTable {
    told: Mutex<Told>,
    clock: Arc<dyn Clock>,
    limit: usize,
}

impl LeaderTable {
    /// Nothing was told yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            told: Mutex::default(),
            clock,
            limit: BYTES,
        }
    }

    // A panic under this lock may leave the size wrong by one change; it only bounds memory.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the leader `from` told.
    ///
    /// # Errors
    /// Why it cannot be read; the last one stays.
    pub(super) fn take(&self, from: LeaderId, bytes: &[u8]) -> Result<(), String> {
        let table = Table::decode(bytes)?;
        let status = serde_json::from_str(&table.status).map_err(|error| error.to_string())?;
        let now = self.clock.boottime();
        let mut told = self.told();
        let told = &mut *told;
        told.last = Some((from, now));
        told.status = status;
        told.targets = table
            .targets
            .into_iter()
            .map(|row| (row.key.clone(), row))
            .collect();
        for change in table.changes {
            told.keep(change, self.limit);
        }
        let (targets, mut gone) = (&told.targets, Vec::new());
        told.changes.retain(|key, changes| {
            let stays = targets.contains_key(key);
            if !stays {
                gone.extend(changes.iter().map(|(id, _)| *id));
            }
            stays
        });
        gone.into_iter().for_each(|id| told.forget(id));
        Ok(())
    }

    /// Who told it, and how long ago; `None` before the first time.
    pub(super) fn as_of(&self) -> Option<(LeaderId, Duration)> {
        let last = self.told().last;
        last.map(|(from, at)| (from, self.clock.boottime().since(at)))
    }

    /// The leader's figures.
    pub(super) fn status(&self) -> Value {
        self.told().status.clone()
    }

    /// What was decided about each target, by name.
    pub(super) fn list(&self) -> Vec<Summary> {
        let told = self.told();
        let rows = told.targets.values();
        rows.filter_map(|row| serde_json::from_str(&row.summary).ok())
            .collect()
    }

    /// Everything about one target; `None` where nothing is known of it.
    pub(super) fn explain(&self, key: &TargetKey) -> Option<Value> {
        let told = self.told();
        let row = told.targets.get(key)?;
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let summary = read(&row.summary);
        let changes = told.changes.get(key).into_iter().flatten().rev();
        Some(json!({
            "namespace": &*key.namespace,
            "name": &*key.name,
            "fault": summary["fault"],
            "owner": summary["owner"],
            "latest": row.latest.as_deref().map(read),
            "changes": changes.map(|(_, change)| read(&change.decision)).collect::<Vec<_>>(),
        }))
    }

    /// The changes of one target that were told, the newest first.
    pub(super) fn changes(&self, key: &TargetKey) -> Vec<Value> {
        let told = self.told();
        let changes = told.changes.get(key).into_iter().flatten().rev();
        changes
            .filter_map(|(_, change)| serde_json::from_str(&change.decision).ok())
            .collect()
    }
}

impl Told {
    fn keep(&mut self, change: ChangeRow, limit: usize) {
        let of = self.changes.entry(change.key.clone()).or_default();
        let mut kept = of.iter().rev();
        if kept.any(|(_, kept)| kept.at_micros == change.at_micros) {
            return;
        }
        let (id, size) = (self.next, change.decision.len());
        self.next += 1;
        self.bytes += size;
        self.order.insert(id, (change.key.clone(), size));
        of.push_back((id, change));
        if of.len() > CHANGES
            && let Some((oldest, _)) = of.pop_front()
        {
            self.forget(oldest);
        }
        while self.bytes > limit
            && let Some((oldest, (key, size))) = self.order.pop_first()
        {
            self.bytes -= size;
            if let Some(of) = self.changes.get_mut(&key) {
                of.retain(|(id, _)| *id != oldest);
            }
        }
    }

    /// A change is kept no more.
    fn forget(&mut self, id: u64) {
        if let Some((_, size)) = self.order.remove(&id) {
            self.bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use neap_consensus::NodeId;

    use super::*;
    use crate::clock::ManualClock;

    const LEADER: LeaderId = LeaderId {
        term: 3,
        node: NodeId(7),
    };

    fn key(name: &str) -> TargetKey {
        TargetKey::new("ns", name)
    }

    fn change(name: &str, at: i64) -> ChangeRow {
        ChangeRow {
            key: key(name),
            at_micros: at,
            decision: json!({"at": at}).to_string(),
        }
    }

    fn table(names: &[&str], changes: Vec<ChangeRow>) -> Table {
        let row = |name: &&str| TargetRow {
            key: key(name),
            summary: json!({"name": name, "owner": "neap", "fault": null}).to_string(),
            latest: Some(json!({"at": "now"}).to_string()),
        };
        Table {
            status: json!({"series": 4}).to_string(),
            targets: names.iter().map(row).collect(),
            changes,
        }
    }

    fn followed() -> (ManualClock, LeaderTable) {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        (clock.clone(), LeaderTable::new(Arc::new(clock)))
    }

    #[test]
    fn it_answers_as_the_leader_does_and_says_how_old_that_is() {
        let (clock, followed) = followed();
        assert_eq!(followed.as_of(), None);
        let told = table(&["a", "b"], vec![change("a", 1), change("a", 2)]);
        followed.take(LEADER, &told.encode()).unwrap();
        clock.advance(Duration::from_millis(700));
        assert_eq!(followed.as_of(), Some((LEADER, Duration::from_millis(700))));
        assert_eq!(followed.status()["series"], 4);
        assert_eq!(followed.list().len(), 2);
        let a = followed.explain(&key("a")).unwrap();
        assert_eq!(
            (&a["owner"], &a["latest"]["at"]),
            (&json!("neap"), &json!("now"))
        );
        assert_eq!(a["changes"], json!([{"at": 2}, {"at": 1}]));
        assert_eq!(followed.explain(&key("c")), None);
    }

    #[test]
    fn a_change_that_is_told_again_is_kept_once_and_none_outlives_its_target() {
        let (_, followed) = followed();
        let take = |table: Table| followed.take(LEADER, &table.encode()).unwrap();
        take(table(&["a"], vec![change("a", 1)]));
        take(table(&["a"], vec![change("a", 1), change("a", 2)]));
        assert_eq!(
            followed.changes(&key("a")),
            [json!({"at": 2}), json!({"at": 1})]
        );
        take(table(&[], Vec::new()));
        take(table(&["a"], Vec::new()));
        assert_eq!(followed.changes(&key("a")), [] as [Value; 0]);
    }

    #[test]
    fn the_oldest_changes_go_first() {
        let (_, mut followed) = followed();
        let one = change("a", 1).decision.len();
        followed.limit = 3 * one;
        let changes = (1..=5).map(|at| change("a", at)).collect();
        followed
            .take(LEADER, &table(&["a"], changes).encode())
            .unwrap();
        let kept = followed.changes(&key("a"));
        assert_eq!(kept, [json!({"at": 5}), json!({"at": 4}), json!({"at": 3})]);
        followed.limit = BYTES;
        let changes = (6..100).map(|at| change("a", at)).collect();
        followed
            .take(LEADER, &table(&["a"], changes).encode())
            .unwrap();
        assert_eq!(followed.changes(&key("a")).len(), CHANGES);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (_, followed) = followed();
        followed
            .take(LEADER, &table(&["a"], Vec::new()).encode())
            .unwrap();
        let error = followed.take(LEADER, &[9, 1]).unwrap_err();
        assert!(error.contains("format 9; this version reads 1"), "{error}");
        assert!(followed.take(LEADER, &[]).is_err());
        assert!(followed.take(LEADER, &[FORMAT, 0xff]).is_err());
        assert_eq!(followed.list().len(), 1);
    }
}
