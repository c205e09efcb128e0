//! The one writer of a log file.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Change, LogFile};
use crate::error::OpenError;
use crate::ports::CommitHook;
use crate::status::FsyncStats;
use crate::types::{Command, Payload, TypeConfig};

/// Writes that may wait for the disk. At a few dozen a second a disk may stall for minutes before
/// openraft itself has to wait.
const QUEUE: usize = 4096;
/// Writes that one commit takes at most.
const BATCH: usize = 1024;
/// Bytes of commands after which a batch takes no further write.
const BATCH_BYTES: usize = 8 << 20;

/// One write, and who wants to hear of it.
pub(crate) struct Op {
    change: Change,
    done: Done,
}

/// Who is told once a write is on disk.
pub(crate) enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<io::Result<()>>),
    Nobody,
}

impl Op {
    pub(super) fn new(change: Change, done: Done) -> Self {
        Self { change, done }
    }

    /// Whether this is a note that no commit is begun for. It goes with the next one: a commit of
    /// its own would keep the entry waiting that comes right after it.
    fn is_note(&self) -> bool {
        let note = matches!(self.change, Change::Committed(_) | Change::Vote(_));
        note && matches!(self.done, Done::Nobody)
    }

    fn bytes(&self) -> usize {
        let Change::Append(entries) = &self.change else {
            return 0;
        };
        let sizes = entries.iter().map(|entry| match &entry.payload {
            Payload::Normal(Command::App(bytes)) => bytes.len(),
            _ => 0,
        });
        sizes.sum()
    }
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Done::Flushed(callback) => callback.io_completed(result),
            // A receiver that is gone has given up on the write.
            Done::Reply(sender) => drop(sender.send(result)),
            Done::Nobody => {}
        }
    }
}

/// What every write gets once the writer has ended.
pub(super) fn ended() -> io::Error {
    io::Error::other("the log's writer has ended after a failed commit or at shutdown")
}

/// The queue to a writer, and its times. The writer ends when all of these are gone.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Op>,
    stats: Stats,
    /// Holds `true` once the writer has ended and its file is closed.
    closed: watch::Receiver<bool>,
}

/// Commit times, shared between the writer and who reads them.
#[derive(Clone, Default)]
pub(crate) struct Stats(Arc<Mutex<FsyncStats>>);

impl Stats {
    /// The times so far.
    pub(crate) fn get(&self) -> FsyncStats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn record(&self, took: Duration) {
        let mut stats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stats.count += 1;
        stats.total += took;
        stats.last = took;
        stats.max = stats.max.max(took);
        let bounds = FsyncStats::BOUNDS;
        for (bucket, bound) in stats.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(took <= bound);
        }
        if let Some(all) = stats.buckets.last_mut() {
            *all += 1;
        }
    }
}

impl Writer {
    /// Runs the writer on a thread of its own: fsync blocks.
    pub(crate) fn thread<F: LogFile>(
        mut file: F,
        hook: Option<CommitHook>,
    ) -> Result<Self, OpenError> {
        let (writer, mut queue, closed) = Self::parts();
        let stats = writer.stats.clone();
        let run = move || {
            let mut batch = Batch::default();
            loop {
                let next = queue.blocking_recv();
                let last = next.is_none();
                if !batch.fill(next, &mut queue) {
                    if last {
                        break;
                    }
                    continue;
                }
                let start = Instant::now();
                let result = match &hook {
                    Some(hook) => hook().and_then(|()| file.commit(&batch.changes)),
                    None => file.commit(&batch.changes),
                };
                stats.record(start.elapsed());
                if !std::mem::take(&mut batch).finish(result) || last {
                    break;
                }
            }
            // The file is closed, and its lock gone, before anyone hears of it.
            drop(file);
            closed.send_replace(true);
        };
        let thread = std::thread::Builder::new().name("neap-raft-log".into());
        match thread.spawn(run) {
            Ok(_) => Ok(writer),
            Err(source) => {
                let what = "cannot start the log's writer thread".into();
                Err(OpenError::Io { what, source })
            }
        }
    }

    /// Runs the writer as a task: for a file in memory, on simulated time. Each commit takes
    /// `delay()`.
    pub(crate) fn task<F: LogFile>(
        mut file: F,
        delay: impl Fn() -> Duration + Send + 'static,
    ) -> Self {
        let (writer, mut queue, closed) = Self::parts();
        let stats = writer.stats.clone();
        tokio::spawn(async move {
            let mut batch = Batch::default();
            loop {
                let next = queue.recv().await;
                let last = next.is_none();
                if !batch.fill(next, &mut queue) {
                    if last {
                        break;
                    }
                    continue;
                }
                let start = Instant::now();
                tokio::time::sleep(delay()).await;
                let result = file.commit(&batch.changes);
                stats.record(start.elapsed());
                if !std::mem::take(&mut batch).finish(result) || last {
                    break;
                }
            }
            drop(file);
            closed.send_replace(true);
        });
        writer
    }

    fn parts() -> (Self, mpsc::Receiver<Op>, watch::Sender<bool>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(false);
        let stats = Stats::default();
        let writer = Self {
            queue,
            stats,
            closed,
        };
        (writer, receiver, closing)
    }

    /// Queues a write. Waits only where the queue is full.
    pub(super) async fn send(&self, op: Op) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| ended())
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Resolves once the writer has ended and the file is closed. Does not itself keep it alive.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the writer is gone, which is as good.
            drop(closed.wait_for(|closed| *closed).await);
        }
    }
}

/// What the next commit writes.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    done: Vec<Done>,
}

impl Batch {
    /// Takes `next` and what has queued up behind it; says whether a commit is due. Without a next
    /// one the queue has ended, and the notes that are left are written.
    fn fill(&mut self, next: Option<Op>, queue: &mut mpsc::Receiver<Op>) -> bool {
        let mut due = next.is_none() && !self.changes.is_empty();
        let mut bytes = 0;
        let mut next = next;
        while let Some(op) = next {
            due |= !op.is_note();
            bytes += op.bytes();
            self.take(op);
            if self.changes.len() >= BATCH || bytes >= BATCH_BYTES {
                break;
            }
            next = queue.try_recv().ok();
        }
        due || self.changes.len() >= BATCH
    }

    fn take(&mut self, op: Op) {
        // A later position makes the one before it needless.
        if let (Change::Committed(_), Some(last @ Change::Committed(_))) =
            (&op.change, self.changes.last_mut())
        {
            *last = op.change;
            return;
        }
        self.changes.push(op.change);
        if !matches!(op.done, Done::Nobody) {
            self.done.push(op.done);
        }
    }

    /// Tells everyone, in order; says whether the writer may go on.
    fn finish(self, result: io::Result<()>) -> bool {
        if let Err(error) = &result {
            tracing::error!(%error, "raft log commit failed; this member stops");
        }
        for done in self.done {
            let copy = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            done.tell(copy);
        }
        result.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_store::{Loaded, LogStore};
    use crate::types::{Entry, Vote, log_id};
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

    /// Keeps what each commit wrote.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<Vec<&'static str>>>>);

    impl LogFile for Recorded {
        fn load(&mut self) -> Result<Loaded, OpenError> {
            Ok(Loaded::default())
        }

        fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
            let names = changes.iter().map(|change| match change {
                Change::Append(_) => "append",
                Change::Vote(vote) if vote.committed => "elected",
                Change::Vote(_) => "vote",
                Change::Committed(_) => "committed",
                _ => "other",
            });
            self.0.lock().unwrap().push(names.collect());
            Ok(())
        }
    }

    fn blank(index: u64) -> Entry {
        Entry {
            log_id: log_id(1, 1, index),
            payload: Payload::Blank,
        }
    }

    #[tokio::test]
    async fn notes_go_with_the_commit_that_comes_next() {
        let file = Recorded::default();
        let opened = LogStore::open(file.clone(), |file| Writer::thread(file, None));
        let (mut log, _) = opened.unwrap();
        log.save_vote(&Vote::new(1, 1)).await.unwrap();
        // That the vote was for the one who leads now is waited for by nobody.
        log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
        log.save_committed(Some(log_id(1, 1, 0))).await.unwrap();
        log.save_committed(Some(log_id(1, 1, 1))).await.unwrap();
        log.blocking_append([blank(2)]).await.unwrap();
        log.save_committed(Some(log_id(1, 1, 2))).await.unwrap();
        // A vote for another leader is a promise, whether that one was elected already or not.
        log.save_vote(&Vote::new_committed(2, 3)).await.unwrap();
        log.save_committed(Some(log_id(1, 1, 3))).await.unwrap();
        let closed = log.closed();
        drop(log);
        closed.await;
        let expected: [&[&str]; 4] = [
            &["vote"],
            &["elected", "committed", "append"],
            &["committed", "elected"],
            &["committed"],
        ];
        assert_eq!(*file.0.lock().unwrap(), expected);
    }
}
