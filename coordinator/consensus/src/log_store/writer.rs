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
            while let Some(first) = queue.blocking_recv() {
                let batch = fill(first, &mut queue);
                let start = Instant::now();
                let result = match &hook {
                    Some(hook) => hook().and_then(|()| file.commit(&batch.changes)),
                    None => file.commit(&batch.changes),
                };
                stats.record(start.elapsed());
                if !batch.finish(result) {
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
            while let Some(first) = queue.recv().await {
                let batch = fill(first, &mut queue);
                let start = Instant::now();
                tokio::time::sleep(delay()).await;
                let result = file.commit(&batch.changes);
                stats.record(start.elapsed());
                if !batch.finish(result) {
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

struct Batch {
    changes: Vec<Change>,
    done: Vec<Done>,
}

/// Takes what has queued up behind `first`.
fn fill(first: Op, queue: &mut mpsc::Receiver<Op>) -> Batch {
    let mut bytes = first.bytes();
    let mut batch = Batch {
        changes: vec![first.change],
        done: vec![first.done],
    };
    while batch.changes.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(op) = queue.try_recv() else { break };
        bytes += op.bytes();
        batch.changes.push(op.change);
        batch.done.push(op.done);
    }
    batch
}

impl Batch {
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
