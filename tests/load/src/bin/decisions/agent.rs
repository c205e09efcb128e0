//! The agent of the one node: its own code for streams, and in place of its sampler one that knows a queue for each
//! target.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use neap_agent::clock::{BootClock, SystemBootClock};
use neap_agent::config::{LogFormat, Profile};
use neap_agent::metrics::Metrics;
use neap_agent::sampler::{Mailbox, Outlet};
use neap_agent::session::Sessions;
use neap_proto::node::agent_message::Message;
use neap_proto::node::{
    AgentMessage, Capabilities, GaugePoint, Hello, PROTOCOL_VERSION, Replay, ReplaySeries, Samples,
    SeriesDefinition, SeriesKind,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::names::{NODE_PORT, host, node, pod_uid};
use crate::scales::{BOUNDED, CROSSING, PORT};
use crate::tokens;

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
        let mailbox = Arc::new(Mailbox::new()?);
        let sampler = Sampler {
            queues: queues.clone(),
            mailbox: mailbox.clone(),
            outlet: None,
            sequence: 0,
            generation: 0,
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
        let sessions = Sessions::new(
            Arc::new(self.config(seat)),
            self.hello(),
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

    fn config(&self, seat: u8) -> neap_agent::Config {
        neap_agent::Config {
            coordinator: format!("{}:{NODE_PORT}", host(seat)),
            server_name: None,
            token_file: tokens::file(&self.root, 0),
            ca_file: self.root.join("ca.crt"),
            node_name: node(0),
            cgroup_root: "/nonexistent".into(),
            kubelet_cgroup_root: None,
            proc_root: "/proc".into(),
            http_listen: ([127, 0, 0, 1], 0).into(),
            profile: Profile::Full,
            spool_roots: Vec::new(),
            spool_prefix: "/".into(),
            log_format: LogFormat::Text,
        }
    }

    /// Always that of the same process, which goes on counting.
    fn hello(&self) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            node_name: node(0),
            boot_id: "00000000-0000-4000-8000-000000000000".into(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            agent_start_boottime_ns: self.started,
            capabilities: Some(Capabilities {
                sockets: true,
                ..Capabilities::default()
            }),
        }
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

    fn history(&self, series: u32, now: u64) -> ReplaySeries {
        let ages = self.changes.iter();
        let ages = ages.map(|change| now.saturating_sub(change.at) / 1_000);
        let values: Vec<u64> = self.changes.iter().map(|one| one.connections).collect();
        ReplaySeries {
            series,
            ages_us: ages.collect(),
            peaks: values.clone(),
            values,
            integrals: self.changes.iter().map(|one| one.integral).collect(),
        }
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
    mailbox: Arc<Mailbox>,
    outlet: Option<Outlet>,
    sequence: u64,
    generation: u64,
}

impl Sampler {
    /// Does what the streams want and tells what changes, for as long as the process lives.
    fn run(mut self) -> Result<()> {
        loop {
            let limit = Timespec::try_from(HEARTBEAT)?;
            let mut watched = [PollFd::new(self.mailbox.as_ref(), PollFlags::IN)];
            match poll(&mut watched, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let wishes = self.mailbox.take();
            if let Some(outlet) = wishes.outlet {
                self.outlet = outlet;
                self.sequence = 0;
                self.replay();
            }
            self.samples();
            if let Some(directives) = wishes.directives {
                self.generation = directives.generation;
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
        // The first samples hold every queue.
        queues.iter_mut().for_each(|queue| queue.told = false);
        drop(queues);
        self.send(Message::Replay(replay));
    }

    fn samples(&mut self) {
        let Some(outlet) = self.outlet.clone() else {
            return;
        };
        let mut queues = self.queues.each();
        let now = SystemBootClock.now().as_nanos();
        let first = self.sequence == 0;
        let changed = queues.iter().enumerate().filter(|(_, queue)| !queue.told);
        let samples = Samples {
            sequence: self.sequence + 1,
            boottime_ns: now,
            directives_generation: self.generation,
            gauges: changed
                .filter_map(|(target, queue)| queue.point(series(target), now))
                .collect(),
            pods_appeared: if first {
                (0..queues.len()).map(pod_uid).collect()
            } else {
                Vec::new()
            },
            ..Samples::default()
        };
        if self.send(Message::Samples(samples)) {
            queues.iter_mut().for_each(|queue| queue.told = true);
            self.sequence += 1;
            outlet.sent.store(self.sequence, Ordering::Release);
        }
    }

    /// Whether there was room.
    fn send(&self, message: Message) -> bool {
        let message = AgentMessage {
            message: Some(message),
        };
        match &self.outlet {
            Some(outlet) => outlet.messages.try_send(message).is_ok(),
            None => false,
        }
    }
}
