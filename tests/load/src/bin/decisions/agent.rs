//! The agent of the one node: its own code for streams, and in place of its sampler one that knows a queue for each
//! target.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use neap_agent::clock::{BootClock, SystemBootClock};
use neap_agent::metrics::Metrics;
use neap_agent::sampler::Mailbox;
use neap_agent::session::Sessions;
use neap_load::replicas::agent::{Feed, config, hello};
use neap_load::replicas::names::pod_uid;
use neap_proto::node::{
    Capabilities, GaugePoint, Replay, ReplaySeries, SeriesDefinition, SeriesKind,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::scales::{BOUNDED, CROSSING, PORT};

/// As often as an agent says something when nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a queue is looked at.
const INTERVAL_MS: u32 = 100;
/// Changes of a queue that a new leader is told of.
const REMEMBERED: usize = 8;

/// The agent.
pub(crate) struct Agent {
    root: PathBuf,
    queues: Arc<Queues>,
    mailbox: Arc<Mailbox>,
    started: u64,
    streams: Option<(CancellationToken, JoinHandle<()>)>,
    sampling: std::thread::JoinHandle<Result<()>>,
}

impl Agent {
    /// One whose CA and token lie in `root`. It has no streams yet.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let started = SystemBootClock.now().as_nanos();
        let queues = Arc::new(Queues {
            each: Mutex::new(vec![Queue::new(started); CROSSING + BOUNDED]),
            directed: AtomicBool::new(false),
        });
        let feed = Feed::new()?;
        let mailbox = feed.mailbox().clone();
        let sampler = Sampler {
            queues: queues.clone(),
            feed,
        };
        Ok(Self {
            root: root.to_owned(),
            queues,
            mailbox,
            started,
            streams: None,
            sampling: std::thread::spawn(move || sampler.run()),
        })
    }

    /// So many connections wait in the queue of `target` from now on.
    pub(crate) fn set(&self, target: usize, connections: u64) {
        let now = SystemBootClock.now().as_nanos();
        if let Some(queue) = self.queues.each().get_mut(target) {
            queue.set(connections, now);
        }
        self.mailbox.nudge();
    }

    /// Opens streams anew, first to the coordinator of `seat`, which follows. It says who leads, and the stream to it
    /// stays as the idle one: an agent that has lost one of two streams would take up to thirteen seconds for another.
    pub(crate) async fn reconnect(&mut self, seat: u8) -> Result<()> {
        if self.sampling.is_finished() {
            bail!("the sampler has ended");
        }
        if let Some((stop, running)) = self.streams.take() {
            stop.cancel();
            running.await.context("the streams panicked")?;
        }
        self.queues.directed.store(false, Ordering::Release);
        let capabilities = Capabilities {
            sockets: true,
            ..Capabilities::default()
        };
        let sessions = Sessions::new(
            Arc::new(config(&self.root, 0, seat)),
            // Always that of the same process, which goes on counting.
            hello(0, self.started, capabilities),
            self.mailbox.clone(),
            Arc::new(Metrics::new("full")),
        );
        let stop = CancellationToken::new();
        let running = tokio::spawn(sessions.run(stop.clone()));
        self.streams = Some((stop, running));
        Ok(())
    }

    /// Whether the leader has told, since the streams were opened, what to read.
    pub(crate) fn directed(&self) -> bool {
        self.queues.directed.load(Ordering::Acquire)
    }
}

struct Queues {
    each: Mutex<Vec<Queue>>,
    directed: AtomicBool,
}

impl Queues {
    // Each change under this lock is one of a single queue.
    fn each(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An accept queue: its changes, the oldest first, and whether the last one was told.
#[derive(Clone)]
struct Queue {
    changes: VecDeque<Change>,
    told: bool,
}

#[derive(Clone, Copy)]
struct Change {
    /// CLOCK_BOOTTIME, nanoseconds.
    at: u64,
    /// Connections times seconds until then.
    integral: f64,
    /// Connections from then on.
    connections: u64,
}

impl Change {
    fn integral_at(&self, at: u64) -> f64 {
        let passed = at.saturating_sub(self.at) as f64 / 1e9;
        self.integral + self.connections as f64 * passed
    }
}

impl Queue {
    fn new(at: u64) -> Self {
        let change = Change {
            at,
            integral: 0.0,
            connections: 0,
        };
        Self {
            changes: VecDeque::from([change]),
            told: false,
        }
    }

    fn set(&mut self, connections: u64, at: u64) {
        let Some(last) = self.changes.back() else {
            return;
        };
        let integral = last.integral_at(at);
        self.changes.push_back(Change {
            at,
            integral,
            connections,
        });
        if self.changes.len() > REMEMBERED {
            self.changes.pop_front();
        }
        self.told = false;
    }

    /// The changes, and a reading of now.
    fn history(&self, series: u32, now: u64) -> ReplaySeries {
        let latest = self.changes.back().map(|last| Change {
            at: now,
            integral: last.integral_at(now),
            ..*last
        });
        let mut history = ReplaySeries {
            series,
            ..ReplaySeries::default()
        };
        for point in self.changes.iter().chain(&latest) {
            let age = now.saturating_sub(point.at) / 1_000;
            history.ages_us.push(age);
            history.values.push(point.connections);
            history.integrals.push(point.integral);
            history.peaks.push(point.connections);
        }
        history
    }

    fn point(&self, series: u32, now: u64) -> Option<GaugePoint> {
        let last = self.changes.back()?;
        Some(GaugePoint {
            series,
            age_us: 0,
            integral: last.integral_at(now),
            last: last.connections,
            peak: last.connections,
        })
    }
}

/// Number of a target's series.
fn series(target: usize) -> u32 {
    u32::try_from(target).unwrap_or(u32::MAX).saturating_add(1)
}

fn definition(target: usize) -> SeriesDefinition {
    SeriesDefinition {
        id: series(target),
        kind: SeriesKind::AcceptBacklog.into(),
        pod_uid: pod_uid(target),
        port: PORT,
        interval_ms: INTERVAL_MS,
        since_agent_start: true,
        ..SeriesDefinition::default()
    }
}

struct Sampler {
    queues: Arc<Queues>,
    feed: Feed,
}

impl Sampler {
    /// Does what the streams want and tells what changes, for as long as the process lives.
    fn run(mut self) -> Result<()> {
        loop {
            let limit = Timespec::try_from(HEARTBEAT)?;
            let mut watched = [PollFd::new(self.feed.mailbox(), PollFlags::IN)];
            match poll(&mut watched, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let news = self.feed.take();
            if news.moved {
                self.replay();
            }
            self.samples();
            if let Some(generation) = news.directives {
                self.feed.follow(generation);
                self.queues.directed.store(true, Ordering::Release);
            }
        }
    }

    /// What a new leader has to know of the past.
    fn replay(&self) {
        let now = SystemBootClock.now().as_nanos();
        let mut queues = self.queues.each();
        let each = queues.iter().enumerate();
        let replay = Replay {
            boottime_ns: now,
            defined: (0..queues.len()).map(definition).collect(),
            series: each
                .map(|(target, queue)| queue.history(series(target), now))
                .collect(),
            last: true,
        };
        // As of the agent's own table: what does not change from here on is not said again.
        queues.iter_mut().for_each(|queue| queue.told = true);
        drop(queues);
        self.feed.send_replay(replay);
    }

    fn samples(&mut self) {
        // Locked before the samples' time is read: no change is later.
        let mut queues = self.queues.each();
        let Some(mut samples) = self.feed.next_samples() else {
            return;
        };
        let now = samples.boottime_ns;
        let changed = queues.iter().enumerate().filter(|(_, queue)| !queue.told);
        samples.gauges = changed
            .filter_map(|(target, queue)| queue.point(series(target), now))
            .collect();
        if samples.sequence == 1 {
            samples.pods_appeared = (0..queues.len()).map(pod_uid).collect();
        }
        if self.feed.send_samples(samples) {
            queues.iter_mut().for_each(|queue| queue.told = true);
        }
    }
}
