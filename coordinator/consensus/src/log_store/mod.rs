//! Openraft's log on disk.
//!
//! One writer owns the file. Every write goes to it through one queue, in order, and it takes what
//! has queued up into one transaction: a vote and an entry are never reordered, and one fsync
//! serves them all. Only a vote for another leader is waited for; an append answers through its
//! callback once it is on disk, and the rest needs no answer, for the order alone makes it safe.
//! `committed`, and that a leader which was voted for has been elected, are notes: they go with the
//! next commit. Reads never touch the disk: a mirror of the whole log, which snapshots keep short,
//! is in memory.
//!
//! After a failed commit nothing is known of the file, so the writer ends and every later write
//! fails: openraft stops, and so must the process.

mod memory;
mod mirror;
mod redb_file;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};
use tokio::sync::oneshot;

pub(crate) use memory::MemoryFile;
pub(crate) use redb_file::{RedbFile, sync_dir};
pub(crate) use writer::{Stats, Writer};

use self::mirror::Mirror;
use self::writer::{Done, Op};
use crate::codec::Identity;
use crate::error::OpenError;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of commands that one replication message carries at most, unless its first entry alone
/// is larger.
const READ_LIMIT: usize = 2 << 20;

/// One change of the file.
#[derive(Debug)]
pub(crate) enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Removes the entries after this one; all of them where it is `None`.
    TruncateAfter(Option<LogId>),
    /// Removes the entries up to this one.
    Purge(LogId),
    Identity(Identity),
}

/// What a file holds when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) entries: Vec<Entry>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) identity: Option<Identity>,
}

/// Where the log lies.
pub(crate) trait LogFile: Send + 'static {
    /// Reads and checks everything.
    fn load(&mut self) -> Result<Loaded, OpenError>;
    /// Makes the changes durable, all of them or none, in order.
    fn commit(&mut self, changes: &[Change]) -> io::Result<()>;
}

/// The log, as openraft and the rest of this crate hold it.
#[derive(Clone)]
pub(crate) struct LogStore {
    mirror: SharedMirror,
    writer: Writer,
}

/// Reads the log, for replication and for the state machine.
#[derive(Clone)]
pub(crate) struct LogReader {
    mirror: SharedMirror,
}

#[derive(Clone)]
struct SharedMirror(Arc<Mutex<Mirror>>);

impl SharedMirror {
    /// The mirror is whole whenever the lock is free, so a panic elsewhere does not spoil it.
    fn with<T>(&self, action: impl FnOnce(&mut Mirror) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogStore {
    /// Loads the file and gives it to a writer. `make_writer` starts the writer on the file.
    pub(crate) fn open<F: LogFile>(
        mut file: F,
        make_writer: impl FnOnce(F) -> Result<Writer, OpenError>,
    ) -> Result<(Self, Option<Identity>), OpenError> {
        let loaded = file.load()?;
        let identity = loaded.identity.clone();
        let mirror = SharedMirror(Arc::new(Mutex::new(Mirror::new(loaded))));
        let writer = make_writer(file)?;
        Ok((Self { mirror, writer }, identity))
    }

    /// Stores who this member is, and returns once that is on disk.
    pub(crate) async fn save_identity(&self, identity: Identity) -> io::Result<()> {
        self.wait(Change::Identity(identity)).await
    }

    /// Commit times, live. Does not keep the writer alive.
    pub(crate) fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// Resolves once all of these are gone and the file is closed.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.writer.closed()
    }

    /// The reader for other parts of this crate.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader {
            mirror: self.mirror.clone(),
        }
    }

    /// Whether the log was ever written to.
    pub(crate) fn is_pristine(&self) -> bool {
        self.mirror.with(|mirror| mirror.is_pristine())
    }

    async fn wait(&self, change: Change) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.writer
            .send(Op::new(change, Done::Reply(sender)))
            .await?;
        receiver.await.map_err(|_| writer::ended())?
    }
}

impl LogReader {
    /// Bytes of commands in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.mirror.with(|mirror| mirror.bytes())
    }

    /// Index up to which entries would have to go so that the rest is at most `bytes` long.
    pub(crate) fn cut_point(&self, bytes: usize) -> Option<u64> {
        self.mirror.with(|mirror| mirror.cut_point(bytes))
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        Ok(self.mirror.with(|mirror| mirror.range(range, usize::MAX)))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.mirror.with(|mirror| mirror.vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self
            .mirror
            .with(|mirror| mirror.range(start..end, READ_LIMIT)))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(self.mirror.with(|mirror| LogState {
            last_purged_log_id: mirror.purged,
            last_log_id: mirror.last(),
        }))
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let before = self.mirror.with(|mirror| mirror.vote.replace(*vote));
        // That the leader which was voted for has been elected is no new promise. Its entries, and
        // any later vote, come behind this one in the queue.
        let elected = vote.committed && before.is_some_and(|old| old.leader_id == vote.leader_id);
        if elected {
            let note = Op::new(Change::Vote(*vote), Done::Nobody);
            return self.writer.send(note).await;
        }
        self.wait(Change::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.mirror.with(|mirror| mirror.committed = committed);
        self.writer
            .send(Op::new(Change::Committed(committed), Done::Nobody))
            .await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.mirror.with(|mirror| mirror.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.mirror.with(|mirror| mirror.append(&entries));
        self.writer
            .send(Op::new(Change::Append(entries), Done::Flushed(callback)))
            .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.mirror.with(|mirror| mirror.truncate_after(last));
        self.writer
            .send(Op::new(Change::TruncateAfter(last), Done::Nobody))
            .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.mirror.with(|mirror| mirror.purge(upto));
        self.writer
            .send(Op::new(Change::Purge(upto), Done::Nobody))
            .await
    }
}
