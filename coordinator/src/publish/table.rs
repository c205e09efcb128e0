//! The leader's table: what it tells the other replicas each second, outside the log, so that each
//! of them answers questions about decisions, and says how old its answer is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use neap_consensus::LeaderId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::history::{ChangeRow, History};
use super::summary::Summary;
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;
use crate::world::{ObjectKind, World};

/// Format of the table; a replica of another version leaves it alone.
const FORMAT: u8 = 2;

/// One telling. Decisions travel as the JSON that the API answers with.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    /// The leader's own figures.
    pub(super) status: String,
    /// The targets that the leader has looked at: not all yet, where it has just begun to lead.
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
}

/// What a replica was told by the leaders that it followed.
#[derive(Debug)]
pub struct LeaderTable {
    told: Mutex<Told>,
    history: Arc<History>,
    world: Arc<World>,
    clock: Arc<dyn Clock>,
}

impl LeaderTable {
    /// Nothing was told yet. Changes that are told go to `history`, as long as their targets are told of or in `world`.
    pub fn new(clock: Arc<dyn Clock>, history: Arc<History>, world: Arc<World>) -> Self {
        Self {
            told: Mutex::default(),
            history,
            world,
            clock,
        }
    }

    // What a panic leaves under this lock is replaced by the next telling.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the leader `from` told.
    ///
    /// # Errors
    /// Why it cannot be read; the last one stays.
    pub(super) fn take(&self, from: LeaderId, bytes: &[u8]) -> Result<(), String> {
        let mut table = Table::decode(bytes)?;
        let changes = std::mem::take(&mut table.changes);
        let former = self.replace(from, table)?;
        let wall = self.clock.wall();
        if former.is_some_and(|leader| leader != from) {
            self.history.leader_changed(wall);
        }
        self.history.heard(wall, false);
        for change in changes {
            self.history.keep_told(change);
        }
        self.forget_gone();
        Ok(())
    }

    /// Forgets the changes of targets that are gone. A new leader's table lacks those that it has not decided on yet, so
    /// what tells is this replica's own view of the objects, while it is current.
    fn forget_gone(&self) {
        let kinds = self.world.freshness();
        let is_current = {
            let kinds = kinds.borrow();
            let objects = kinds.get(&ObjectKind::ScaledObjects);
            objects.is_some_and(|objects| objects.synced && objects.failing_since.is_none())
        };
        if !is_current {
            return;
        }
        let exists = |key: &TargetKey| {
            self.world.scaled_object(key).is_some() || self.world.unreadable(key).is_some()
        };
        let told = self.told();
        self.history
            .retain(|key| told.targets.contains_key(key) || exists(key));
    }

    /// Keeps what this replica knows at the end of its leadership `from`, so that it answers with that, and
    /// says how old it is, until another leader tells more. Its changes are in the history already.
    ///
    /// # Errors
    /// Why it cannot be read; the last one stays.
    pub(super) fn keep_own(&self, from: LeaderId, table: Table) -> Result<(), String> {
        self.replace(from, table).map(drop)
    }

    /// Puts `table` in the place of what was told last; gives who had told that.
    fn replace(&self, from: LeaderId, table: Table) -> Result<Option<LeaderId>, String> {
        let status = serde_json::from_str(&table.status).map_err(|error| error.to_string())?;
        let now = self.clock.boottime();
        let mut told = self.told();
        let former = told.last.replace((from, now));
        told.status = status;
        told.targets = table
            .targets
            .into_iter()
            .map(|row| (row.key.clone(), row))
            .collect();
        Ok(former.map(|(leader, _)| leader))
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
        let (changes, gaps) = self.history.of(key);
        Some(json!({
            "namespace": &*key.namespace,
            "name": &*key.name,
            "fault": summary["fault"],
            "owner": summary["owner"],
            "latest": row.latest.as_deref().map(read),
            "changes": changes,
            "gaps": gaps,
        }))
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
            desired: 1,
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
        let world = Arc::new(World::new());
        world.mark_synced(ObjectKind::ScaledObjects);
        (
            clock.clone(),
            LeaderTable::new(Arc::new(clock), Arc::default(), world),
        )
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
    fn no_change_outlives_its_target_and_a_new_leader_is_a_gap() {
        let (clock, followed) = followed();
        let take = |leader, table: Table| followed.take(leader, &table.encode()).unwrap();
        let explained = || followed.explain(&key("a")).unwrap();
        take(LEADER, table(&["a"], vec![change("a", 1)]));
        clock.advance(Duration::from_secs(1));
        take(LEADER, table(&["a"], vec![change("a", 1)]));
        assert_eq!(explained()["changes"], json!([{"at": 1}]));
        assert_eq!(explained()["gaps"], json!([]));
        clock.advance(Duration::from_secs(2));
        let next = LeaderId { term: 4, ..LEADER };
        take(next, table(&["a"], Vec::new()));
        let gap = json!({"from": "1970-01-01T00:00:01Z", "to": "1970-01-01T00:00:03Z"});
        assert_eq!(explained()["gaps"], json!([gap]));
        take(next, table(&[], Vec::new()));
        take(next, table(&["a"], Vec::new()));
        assert_eq!(explained()["changes"], json!([]));
    }

    #[test]
    fn what_a_new_leader_has_not_decided_on_yet_keeps_its_changes() {
        let (_, followed) = followed();
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "a", "namespace": "ns", "uid": "u"},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": []},
        });
        let world = followed.world.clone();
        world.apply_scaled_object(serde_json::from_value(object).unwrap());
        let take = |leader, names: &[&str], changes| {
            let told = table(names, changes);
            followed.take(leader, &told.encode()).unwrap();
        };
        let kept = |name| followed.history.of(&key(name)).0.len();
        take(LEADER, &["a", "b"], vec![change("a", 1), change("b", 1)]);
        let next = LeaderId { term: 4, ..LEADER };
        // While the API server is not heard, `b` may exist as well.
        world.mark_failing(ObjectKind::ScaledObjects, Boottime::from_micros(0), "gone");
        take(next, &[], Vec::new());
        assert_eq!((kept("a"), kept("b")), (1, 1));
        world.mark_current(ObjectKind::ScaledObjects);
        take(next, &[], Vec::new());
        assert_eq!((kept("a"), kept("b")), (1, 0));
        world.remove_scaled_object(&key("a"));
        take(next, &[], Vec::new());
        assert_eq!(kept("a"), 0);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (_, followed) = followed();
        followed
            .take(LEADER, &table(&["a"], Vec::new()).encode())
            .unwrap();
        let error = followed.take(LEADER, &[9, 1]).unwrap_err();
        assert!(error.contains("format 9; this version reads 2"), "{error}");
        assert!(followed.take(LEADER, &[]).is_err());
        assert!(followed.take(LEADER, &[FORMAT, 0xff]).is_err());
        assert_eq!(followed.list().len(), 1);
    }
}
