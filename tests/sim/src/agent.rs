//! Fake agents: two nodes on which files wait. Each has one stream, to the coordinator that leads as
//! far as it has been told, and tries another one where it hears nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use neap_coordinator::clock::Boottime;
use neap_coordinator::signals::{
    BootId, NodeName, NodeTime, SeriesKey, Signal, SignalStore, Spool, StreamWriter, Subject,
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

/// One node's agent.
pub(crate) struct Agent {
    to: Host,
    session: u64,
    answered: Time,
    next: Time,
    /// Of each target's files, over seconds.
    integrals: [f64; TARGETS.len()],
    read: Time,
}

/// What an agent tells at a time.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) agent: usize,
    session: u64,
    at: NodeTime,
    /// Files and their integral; `None` where they cannot be read.
    files: [Option<(u64, f64)>; TARGETS.len()],
}

impl Agent {
    /// The agents of all nodes.
    pub(crate) fn all() -> Vec<Self> {
        let agents = (0..NODES).map(|at| Self {
            to: at,
            session: 1,
            answered: 0,
            next: micros(ms(30 * at as u64)),
            integrals: [0.0; TARGETS.len()],
            read: 0,
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
            let passed = (now - agent.read) as f64 / 1e6;
            agent.read = now;
            let mut files = [None; TARGETS.len()];
            for (target, known) in TARGETS.iter().enumerate() {
                let all = self.load.of(target) * FILES;
                // The first node has the odd one.
                let own = if at == 0 { all - all / 2 } else { all / 2 };
                agent.integrals[target] += f64::from(own) * passed;
                let unreadable = known.fallback.is_some() && self.load.unreadable;
                if known.signal == From::Files && !unreadable {
                    let own = u64::try_from(own).unwrap();
                    files[target] = Some((own, agent.integrals[target]));
                }
            }
            let report = Report {
                agent: at,
                session: agent.session,
                at: NodeTime::from_nanos(BOOTED + now * 1_000),
                files,
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
    readable: [Option<bool>; TARGETS.len()],
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
                readable: [None; TARGETS.len()],
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
        for (at, files) in report.files.iter().enumerate() {
            let target = &TARGETS[at];
            if target.signal != From::Files {
                continue;
            }
            let id = u32::try_from(at).unwrap();
            let spool = Spool {
                path: target.path().into(),
                max_age: None,
            };
            let was = self.readable[at].replace(files.is_some());
            match files {
                None if was != Some(false) => {
                    batch.gone(id);
                    batch.spool_problem(spool, Some("Permission denied (os error 13)".into()));
                }
                None => {}
                Some((files, integral)) => {
                    if was != Some(true) {
                        let node = NodeName::new(NAMES[report.agent]).unwrap();
                        let key = SeriesKey {
                            subject: Subject::Node(node),
                            signal: Signal::SpoolFiles(spool.clone()),
                        };
                        batch.spool_problem(spool, None);
                        batch.define(id, key, EVERY, false).unwrap();
                    }
                    batch.gauge(id, report.at, *integral, *files, *files);
                }
            }
        }
        batch.heartbeat(report.at, now);
    }
}
