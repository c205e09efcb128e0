//! The replicated state: for each target what must survive a leader, and the decision time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use neap_consensus::{ApplyError, LogPosition, RestoreError, SnapshotWriter, StateMachine};
use neap_units::Timestamp;
use serde::{Deserialize, Serialize};

use super::time::TimeAnchor;
use crate::clock::Clock;
use crate::keys::TargetKey;

/// Latest format of commands and snapshots that this build reads.
pub const FORMAT: u8 = 1;

/// What is kept of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// The replicas last decided on.
    pub replicas: i32,
    /// The engine's state in its own encoding.
    pub state: Vec<u8>,
}

/// One log entry: what one tick decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Decision time of the tick.
    pub at: Timestamp,
    /// The proposer's wall clock, microseconds of the epoch: bridges a total stop only.
    pub wall_micros: i64,
    /// Targets whose records change; `None` removes one.
    pub changes: Vec<(TargetKey, Option<TargetRecord>)>,
}

impl Command {
    /// The bytes for the log: a format byte, then the fields.
    pub fn encode(&self) -> Bytes {
        // Plain data into memory cannot fail; an empty command would be refused by `decode`.
        postcard::to_extend(self, vec![FORMAT])
            .unwrap_or_default()
            .into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// A text that says what cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match bytes.split_first() {
        None => Err("it is empty".to_owned()),
        Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((format, _)) => Err(format!(
            "it has format {format}; this version reads {FORMAT}"
        )),
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Snapshot {
    at: Timestamp,
    wall_micros: i64,
    records: BTreeMap<TargetKey, TargetRecord>,
}

#[derive(Debug, Default)]
struct Applied {
    records: HashMap<TargetKey, TargetRecord>,
    anchor: Option<TimeAnchor>,
    wall_micros: i64,
}

/// The replicated table, for reading. Clones are the same table.
#[derive(Debug, Clone)]
pub struct DecisionTable {
    applied: Arc<Mutex<Applied>>,
    clock: Arc<dyn Clock>,
}

impl DecisionTable {
    /// An empty table.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            applied: Arc::default(),
            clock,
        }
    }

    // `apply` replaces whole records, so that even a panic leaves a table that can be read.
    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of one target.
    pub fn record(&self, key: &TargetKey) -> Option<TargetRecord> {
        self.applied().records.get(key).cloned()
    }

    /// The names of all targets that have a record.
    pub fn keys(&self) -> Vec<TargetKey> {
        self.applied().records.keys().cloned().collect()
    }

    /// The last committed time and when it was applied here; `None` before the first.
    pub fn anchor(&self) -> Option<TimeAnchor> {
        self.applied().anchor
    }

    /// The state machine that fills this table.
    pub fn machine(&self) -> DecisionMachine {
        DecisionMachine {
            table: self.clone(),
        }
    }

    fn anchored(&self, at: Timestamp, wall_micros: i64) -> TimeAnchor {
        TimeAnchor {
            at,
            wall_micros,
            applied: self.clock.boottime(),
        }
    }
}

/// Applies committed commands to a [`DecisionTable`].
#[derive(Debug)]
pub struct DecisionMachine {
    table: DecisionTable,
}

impl StateMachine for DecisionMachine {
    fn apply(&mut self, position: LogPosition, command: &[u8]) -> Result<(), ApplyError> {
        let command = Command::decode(command).map_err(|reason| ApplyError {
            reason: format!("entry {position}: {reason}"),
        })?;
        let anchor = self.table.anchored(command.at, command.wall_micros);
        let mut applied = self.table.applied();
        for (key, record) in command.changes {
            match record {
                Some(record) => applied.records.insert(key, record),
                None => applied.records.remove(&key),
            };
        }
        applied.wall_micros = command.wall_micros;
        applied.anchor = Some(anchor);
        Ok(())
    }

    /// There is one format so far, which every version reads.
    fn snapshot(&self, _format: u8) -> SnapshotWriter {
        let applied = self.table.applied();
        let snapshot = Snapshot {
            at: applied
                .anchor
                .map_or(Timestamp::default(), |anchor| anchor.at),
            wall_micros: applied.wall_micros,
            records: applied
                .records
                .iter()
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect(),
        };
        Box::new(move || postcard::to_extend(&snapshot, vec![FORMAT]).unwrap_or_default())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let snapshot: Snapshot = decode(bytes).map_err(|reason| RestoreError { reason })?;
        let anchor = self.table.anchored(snapshot.at, snapshot.wall_micros);
        *self.table.applied() = Applied {
            records: snapshot.records.into_iter().collect(),
            anchor: Some(anchor),
            wall_micros: snapshot.wall_micros,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use neap_consensus::NodeId;

    use super::*;
    use crate::clock::{Boottime, ManualClock};

    fn table() -> DecisionTable {
        DecisionTable::new(Arc::new(ManualClock::new(
            Boottime::from_micros(0),
            jiff::Timestamp::UNIX_EPOCH,
        )))
    }

    fn position(index: u64) -> LogPosition {
        LogPosition {
            term: 1,
            node: NodeId(1),
            index,
        }
    }

    fn record(replicas: i32) -> TargetRecord {
        TargetRecord {
            replicas,
            state: vec![1, 2, 3],
        }
    }

    fn command(at: i64, changes: &[(&str, Option<i32>)]) -> Command {
        Command {
            at: Timestamp::from_millis(at),
            wall_micros: at * 1_000,
            changes: changes
                .iter()
                .map(|(name, n)| (TargetKey::new("ns", *name), n.map(record)))
                .collect(),
        }
    }

    #[test]
    fn a_snapshot_carries_everything() {
        let from = table();
        let mut machine = from.machine();
        machine
            .apply(
                position(1),
                &command(1_000, &[("a", Some(1)), ("b", Some(2))]).encode(),
            )
            .unwrap();
        machine
            .apply(
                position(2),
                &command(2_000, &[("a", None), ("b", Some(3))]).encode(),
            )
            .unwrap();
        let to = table();
        to.machine().restore(&machine.snapshot(FORMAT)()).unwrap();
        assert_eq!(to.keys(), [TargetKey::new("ns", "b")]);
        assert_eq!(to.record(&TargetKey::new("ns", "b")), Some(record(3)));
        assert_eq!(
            to.anchor().map(|anchor| anchor.at),
            Some(Timestamp::from_millis(2_000))
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_changes_nothing() {
        let kept = table();
        let mut machine = kept.machine();
        machine
            .apply(position(1), &command(1_000, &[("a", Some(1))]).encode())
            .unwrap();
        assert!(machine.apply(position(2), &[]).is_err());
        let later = machine.apply(position(2), &[9, 0, 0]).unwrap_err();
        assert!(
            later.reason.contains("format 9; this version reads 1"),
            "{}",
            later.reason
        );
        assert!(machine.restore(&[FORMAT, 0xff]).is_err());
        assert_eq!(kept.record(&TargetKey::new("ns", "a")), Some(record(1)));
    }
}
