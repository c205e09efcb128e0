//! Many agents in one process: the agent's own code for streams, each with its token, and in place of its sampler
//! one that counts a single pod.
//!
//! On standard output: `active INDEX NANOSECONDS` whenever an agent is told what to read by the leader that it has just
//! moved to; after a line `counts` on standard input, `ended REASON COUNT` for the streams that ended, and `counted`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use neap_agent::clock::{BootClock, SystemBootClock};
use neap_agent::metrics::{EndLabels, Metrics};
use neap_agent::sampler::Mailbox;
use neap_agent::session::Sessions;
use neap_load::replicas::agent::{Feed, config, hello};
use neap_load::replicas::names::{SEATS, monotonic, pod_uid};
use neap_proto::node::{Capabilities, CounterPoint, Replay, SeriesDefinition, SeriesKind};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tokio_util::sync::CancellationToken;

/// As often as an agent says something when nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Agents say it at different times of a second: so many groups take turns.
const TICKS: usize = 100;
/// Agents that start at once.
const START: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// All reasons that the agent's metric knows.
const REASONS: [&str; 10] = [
    "connect",
    "credentials",
    "closed",
    "silent",
    "unauthenticated",
    "permission_denied",
    "failed_precondition",
    "resource_exhausted",
    "unavailable",
    "other",
];

/// Whom this process is to be.
pub(crate) struct Arguments {
    /// Index of its first agent.
    pub(crate) first: usize,
    /// Number of its agents.
    pub(crate) count: usize,
    /// Where CA and tokens lie.
    pub(crate) root: PathBuf,
}

/// Runs until standard input ends.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let metrics = Arc::new(Metrics::new("full"));
    let stop = CancellationToken::new();
    let indices = arguments.first..arguments.first + arguments.count;
    let samplers = indices.clone().map(Sampler::new);
    let samplers: Vec<Sampler> = samplers.collect::<Result<_>>()?;
    let mailboxes: Vec<Arc<Mailbox>> = samplers
        .iter()
        .map(|one| one.feed.mailbox().clone())
        .collect();
    let sampling = std::thread::spawn(move || sample(samplers));
    for (index, mailbox) in indices.zip(mailboxes) {
        // A Service leads to any of them.
        let seat = u8::try_from(index % usize::from(SEATS)).unwrap_or_default();
        let config = Arc::new(config(&arguments.root, index, seat));
        let started = SystemBootClock.now().as_nanos();
        let hello = hello(index, started, Capabilities::default());
        let sessions = Sessions::new(config, hello, mailbox, metrics.clone());
        tokio::spawn(sessions.run(stop.clone()));
        if index % START == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            line?;
            for reason in REASONS {
                let ended = metrics.streams_ended.get_or_create(&EndLabels { reason });
                say(&format!("ended {reason} {}", ended.get()));
            }
            say("counted");
        }
        std::io::Result::Ok(())
    })
    .await??;
    stop.cancel();
    if sampling.is_finished() {
        // It ends for no other reason than an error.
        sampling.join().ok().context("the samplers panicked")??;
    }
    Ok(())
}

/// Runs all samplers in this thread, as each agent runs its own.
fn sample(mut samplers: Vec<Sampler>) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, sampler) in samplers.iter().enumerate() {
        let data = epoll::EventData::new_u64(u64::try_from(at)?);
        epoll::add(&epoll, sampler.feed.mailbox(), data, epoll::EventFlags::IN)?;
    }
    let tick = HEARTBEAT / u32::try_from(TICKS)?;
    let (mut slot, mut due) = (0, monotonic());
    let mut events = Vec::with_capacity(256);
    loop {
        let left = Duration::from_nanos(due.saturating_sub(monotonic()));
        let left = Timespec::try_from(left)?;
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&left))?;
        for event in events.drain(..) {
            let at = usize::try_from(event.data.u64())?;
            if let Some(sampler) = samplers.get_mut(at) {
                sampler.take();
            }
        }
        if monotonic() >= due {
            due += u64::try_from(tick.as_nanos())?;
            slot = (slot + 1) % TICKS;
            let now = samplers.iter_mut().skip(slot).step_by(TICKS);
            now.for_each(Sampler::samples);
        }
    }
}

fn say(line: &str) {
    // The reader is gone only when this process is of no use any more.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// One pod's CPU time, told once a second.
struct Sampler {
    index: usize,
    feed: Feed,
    moved: bool,
}

impl Sampler {
    fn new(index: usize) -> Result<Self> {
        Ok(Self {
            index,
            feed: Feed::new()?,
            moved: false,
        })
    }

    /// Does what the streams want.
    fn take(&mut self) {
        let news = self.feed.take();
        if news.moved {
            self.moved = self.feed.is_active();
            self.feed.send_replay(Replay {
                boottime_ns: SystemBootClock.now().as_nanos(),
                last: true,
                ..Replay::default()
            });
            self.samples();
        }
        if let Some(generation) = news.directives {
            self.feed.follow(generation);
            if std::mem::take(&mut self.moved) {
                say(&format!("active {} {}", self.index, monotonic()));
            }
        }
    }

    fn samples(&mut self) {
        let Some(mut samples) = self.feed.next_samples() else {
            return;
        };
        samples.counters = vec![CounterPoint {
            series: 1,
            // A tenth of a processor.
            value: samples.boottime_ns / 10_000,
            ..CounterPoint::default()
        }];
        if samples.sequence == 1 {
            samples.pods_appeared = vec![pod_uid(self.index)];
            samples.defined = vec![SeriesDefinition {
                id: 1,
                kind: SeriesKind::CpuUsage.into(),
                pod_uid: pod_uid(self.index),
                container_id: format!("{:064x}", self.index),
                interval_ms: 1_000,
                ..SeriesDefinition::default()
            }];
        }
        self.feed.send_samples(samples);
    }
}
