//! Fake agents: two nodes on which files wait. Each has one stream, to the coordinator that leads as
//! far as it has been told, and tries another one where it hears nothing.
//!
//! Like the real ones they tell a new stream what they remember, and from then on what changes alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use neap_coordinator::clock::Boottime;
use neap_coordinator::signals::{
    Batch, BootId, NodeName, NodeTime, ReplayPoint, SeriesKey, Signal, SignalStore, Spool,
    StreamWriter, Subject,
};

use crate::api::API;
use crate::load::{FILES, Signal as From, TARGETS};
use crate::net::{Host, UNORDERED};
use crate::sim::{COORDINATORS, Sim};
use crate::time::{Time, micros, ms};

/// The first agent's host.
pub(crate) const AGENTS: Host = API + 1;
/// How many there are.
pub(crate) const NODES: usize = 2;
const NAMES: [&str; NODES] = ["n1", "n2"];
/// Between two reports.
const EVERY: Duration = ms(200);
/// A coordinator that has not answered for so long is left.
const PATIENCE: Duration = ms(1_200);
/// The nodes were booted so long before the simulation began, in nanoseconds.
const BOOTED: u64 = 5_000_000_000_000;
/// Changes of a directory that a new stream is told of.
const REMEMBERED: usize = 16;

fn node_time(now: Time) -> NodeTime {
    NodeTime::from_nanos(BOOTED + now * 1_000)
}

/// One node's agent.
pub(crate) struct Agent {
    to: Host,
    session: u64,
    answered: Time,
    next: Time,
    /// Each target's files; `None` where they cannot be read.
    series: [Option<Series>; TARGETS.len()],
}

/// The files of one directory, since it can be read.
struct Series {
    read: Time,
    files: u64,
    /// Of the files, over seconds.
    integral: f64,
    /// The latest readings that differed from the ones before.
    changes: VecDeque<ReplayPoint>,
}

impl Series {
    fn begin(files: u64, now: Time) -> Self {
        let first = ReplayPoint {
            at: node_time(now),
            total: 0.0,
        };
        Self {
            read: now,
            files,
            integral: 0.0,
            changes: VecDeque::from([first]),
        }
    }

    fn read(&mut self, files: u64, now: Time) {
        self.integral += self.files as f64 * (now - self.read) as f64 / 1e6;
        self.read = now;
        if files != self.files {
            self.files = files;
            self.changes.push_back(self.latest());
            if self.changes.len() > REMEMBERED {
                self.changes.pop_front();
            }
        }
    }

    fn latest(&self) -> ReplayPoint {
        ReplayPoint {
            at: node_time(self.read),
            total: self.integral,
        }
    }

    fn reading(&self) -> Reading {
        let latest = Some(self.latest()).filter(|latest| self.changes.back() != Some(latest));
        Reading {
            files: self.files,
            integral: self.integral,
            remembered: self.changes.iter().copied().chain(latest).collect(),
        }
    }
}

/// Files, their integral, and what is remembered of them.
#[derive(Debug, Clone)]
struct Reading {
    files: u64,
    integral: f64,
    remembered: Vec<ReplayPoint>,
}

/// What an agent tells at a time.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) agent: usize,
    session: u64,
    at: NodeTime,
    /// Of each target's files; `None` where they cannot be read.
    readings: [Option<Reading>; TARGETS.len()],
}

impl Agent {
    /// The agents of all nodes.
    pub(crate) fn all() -> Vec<Self> {
        let agents = (0..NODES).map(|at| Self {
            to: at,
            session: 1,
            answered: 0,
            next: micros(ms(30 * at as u64)),
            series: [const { None }; TARGETS.len()],
        });
        agents.collect()
    }

    fn move_to(&mut self, host: Host, now: Time) {
        self.to = host;
        self.session += 1;
        self.answered = now;
        self.next = now;
    }
}

impl Sim {
    pub(crate) fn step_agents(&mut self) {
        for at in 0..self.agents.len() {
            let now = self.now;
            let agent = &mut self.agents[at];
            if now - agent.answered > micros(PATIENCE) {
                agent.move_to((agent.to + 1) % COORDINATORS, now);
            }
            if now < agent.next {
                continue;
            }
            agent.next = now + micros(EVERY);
            for (target, known) in TARGETS.iter().enumerate() {
                if known.signal != From::Files {
                    continue;
                }
                let all = self.load.of(target) * FILES;
                // The first node has the odd one.
                let own = if at == 0 { all - all / 2 } else { all / 2 };
                let own = u64::try_from(own).unwrap();
                let series = &mut agent.series[target];
                if known.fallback.is_some() && self.load.unreadable {
                    *series = None;
                } else if let Some(series) = series {
                    series.read(own, now);
                } else {
                    *series = Some(Series::begin(own, now));
                }
            }
            let report = Report {
                agent: at,
                session: agent.session,
                at: node_time(now),
                readings: agent
                    .series
                    .each_ref()
                    .map(|series| series.as_ref().map(Series::reading)),
            };
            let (from, to) = (AGENTS + at, agent.to);
            self.net.send(from, to, UNORDERED, move |sim: &mut Self| {
                sim.take_report(to, report);
            });
        }
    }

    fn take_report(&mut self, host: Host, report: Report) {
        match &mut self.coordinators[host].process {
            Some(process) => process.inbox.push(report),
            None => self.answer_agent(host, report.agent, report.session, None),
        }
    }

    /// Tells an agent who leads; `None` where its stream is closed.
    pub(crate) fn answer_agent(
        &mut self,
        from: Host,
        agent: usize,
        session: u64,
        leader: Option<Option<Host>>,
    ) {
        let answer = move |sim: &mut Self| {
            let now = sim.now;
            let agent = &mut sim.agents[agent];
            if agent.session != session {
                return;
            }
            match leader {
                None => agent.move_to((agent.to + 1) % COORDINATORS, now),
                Some(Some(leader)) if leader != agent.to => agent.move_to(leader, now),
                Some(_) => agent.answered = now,
            }
        };
        self.net.send(from, AGENTS + agent, UNORDERED, answer);
    }
}

/// A coordinator's end of the agents' streams.
#[derive(Default)]
pub(crate) struct Streams(BTreeMap<usize, Stream>);

struct Stream {
    session: u64,
    writer: StreamWriter,
    last: Option<NodeTime>,
    /// Of each target's files.
    told: [Told; TARGETS.len()],
}

/// What an agent has told on a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Files(u64),
    Unreadable,
}

impl Streams {
    /// Takes a report in. Gives the session that it is of, if that is the latest.
    pub(crate) fn take(
        &mut self,
        report: &Report,
        store: &Arc<SignalStore>,
        now: Boottime,
    ) -> Option<u64> {
        let session = report.session;
        let known = self.0.get(&report.agent).map(|stream| stream.session);
        if known.is_some_and(|known| known > session) {
            return None;
        }
        if known != Some(session) {
            let node = NodeName::new(NAMES[report.agent]).unwrap();
            let boot = BootId::new("boot").unwrap();
            let stream = Stream {
                session,
                writer: store.connect(node, boot, 1, now).unwrap(),
                last: None,
                told: [Told::Nothing; TARGETS.len()],
            };
            self.0.insert(report.agent, stream);
        }
        let stream = self.0.get_mut(&report.agent)?;
        // Reports travel each for itself; a stream has an order.
        if stream.last.is_some_and(|last| last >= report.at) {
            return Some(session);
        }
        let first = stream.last.replace(report.at).is_none();
        stream.take(report, first, now);
        Some(session)
    }
}

impl Stream {
    fn take(&mut self, report: &Report, first: bool, now: Boottime) {
        let mut batch = self.writer.batch().unwrap();
        if first {
            batch.spool_roots(Arc::from([Arc::from("/var/spool")]));
        }
        for (at, reading) in report.readings.iter().enumerate() {
            let target = &TARGETS[at];
            if target.signal != From::Files {
                continue;
            }
            let id = u32::try_from(at).unwrap();
            let told = reading
                .as_ref()
                .map_or(Told::Unreadable, |reading| Told::Files(reading.files));
            let before = std::mem::replace(&mut self.told[at], told);
            if before == told {
                continue;
            }
            let spool = Spool {
                path: target.path().into(),
                max_age: None,
            };
            let Some(reading) = reading else {
                batch.gone(id);
                batch.spool_problem(spool, Some("Permission denied (os error 13)".into()));
                continue;
            };
            if !matches!(before, Told::Files(_)) {
                batch.spool_problem(spool.clone(), None);
                define(&mut batch, id, NAMES[report.agent], spool);
            }
            if before == Told::Nothing {
                // Counts as told: it is not said again until it changes.
                batch.replay(id, &reading.remembered, reading.files);
            } else {
                batch.gauge(
                    id,
                    report.at,
                    reading.integral,
                    reading.files,
                    reading.files,
                );
            }
        }
        batch.heartbeat(report.at, now);
    }
}

fn define(batch: &mut Batch<'_>, id: u32, node: &str, spool: Spool) {
    let key = SeriesKey {
        subject: Subject::Node(NodeName::new(node).unwrap()),
        signal: Signal::SpoolFiles(spool),
    };
    batch.define(id, key, EVERY, true).unwrap();
}
