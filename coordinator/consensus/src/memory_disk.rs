//! A disk in memory, for simulations and tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::log_store::MemoryFile;
use crate::position::LogPosition;
use crate::snapshot_store::MemorySnapshot;

/// A disk in memory that outlives the members that use it, as a disk would, with what they have
/// committed to it and nothing else. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    pub(crate) log: MemoryFile,
    pub(crate) snapshot: MemorySnapshot,
    /// In nanoseconds.
    commit_time: Arc<AtomicU64>,
}

/// One entry of the log as a disk holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Where it stands, and under which leader it came there.
    pub position: LogPosition,
    /// What was proposed; `None` for entries of the cluster itself.
    pub command: Option<Bytes>,
}

impl MemoryDisk {
    /// An empty disk on which each commit takes `commit_time`.
    pub fn new(commit_time: Duration) -> Self {
        let disk = Self::default();
        disk.set_commit_time(commit_time);
        disk
    }

    /// From the next commit on each takes so long: a disk that slows down or stalls.
    pub fn set_commit_time(&self, commit_time: Duration) {
        let nanos = u64::try_from(commit_time.as_nanos()).unwrap_or(u64::MAX);
        self.commit_time.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn commit_time(&self) -> Duration {
        Duration::from_nanos(self.commit_time.load(Ordering::Relaxed))
    }

    /// Another disk with what this one holds now, like an old backup later on.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self {
            log: self.log.copy(),
            snapshot: self.snapshot.copy(),
            ..Self::default()
        };
        copy.set_commit_time(self.commit_time());
        copy
    }

    /// How many commits there were: nothing has changed while this does not.
    pub fn commits(&self) -> u64 {
        self.log.commits()
    }

    /// The entries of the log that are neither cut off nor part of a snapshot alone, in order.
    pub fn entries(&self) -> Vec<Logged> {
        self.log.entries()
    }

    /// Up to where the disk says that the log is committed. It may lag behind what its member knows,
    /// never lead.
    pub fn committed(&self) -> Option<LogPosition> {
        self.log.committed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Identity;
    use crate::log_store::{Change, LogFile};
    use crate::types::{Command, Entry, Payload, log_id};

    fn entry(index: u64, command: &'static [u8]) -> Entry {
        Entry {
            log_id: log_id(2, 1, index),
            payload: Payload::Normal(Command::App(Bytes::from_static(command))),
        }
    }

    #[test]
    fn what_a_disk_holds_can_be_read_and_copied() {
        let disk = MemoryDisk::new(Duration::from_millis(3));
        let mut file = disk.log.clone();
        let identity = Identity {
            cluster: "a.1".into(),
            node: 1,
            founder: true,
        };
        let blank = Entry {
            log_id: log_id(2, 1, 0),
            payload: Payload::Blank,
        };
        file.commit(&[Change::Identity(identity), Change::Append(vec![blank])])
            .unwrap();
        file.commit(&[
            Change::Append(vec![entry(1, b"one")]),
            Change::Committed(Some(log_id(2, 1, 0))),
        ])
        .unwrap();
        let copy = disk.copy();
        file.commit(&[Change::Append(vec![entry(2, b"two")])])
            .unwrap();

        let commands = |disk: &MemoryDisk| {
            let entries = disk.entries().into_iter();
            entries.map(|entry| entry.command).collect::<Vec<_>>()
        };
        let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        assert_eq!(commands(&disk), [None, Some(one.clone()), Some(two)]);
        assert_eq!(disk.entries()[1].position.index, 1);
        assert_eq!((disk.commits(), copy.commits()), (3, 2));
        assert_eq!(commands(&copy), [None, Some(one)]);
        assert_eq!(copy.committed().map(|at| (at.term, at.index)), Some((2, 0)));
        assert_eq!(copy.commit_time(), Duration::from_millis(3));
    }
}
