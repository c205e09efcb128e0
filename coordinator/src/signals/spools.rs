//! Spools: files that wait in directories of the nodes.
//!
//! They are of no pod: every node whose agent may read a directory is asked for it, and what waits is
//! the sum. A node whose agent is silent or has just restarted is taken to hold what it last held, until
//! it says otherwise or is forgotten: what is not known never lets a target shrink.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use neap_units::NodeName;

use super::key::{SeriesKey, Signal, Subject};
use super::node::NodeState;
use super::series::Series;
use super::store::{SignalStore, lock};
use crate::clock::Boottime;
use crate::keys::TargetKey;

/// Which directory, and which of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spool {
    /// Absolute, as the nodes know it.
    pub path: Arc<str>,
    /// Files that were last written longer ago do not count.
    pub max_age: Option<Duration>,
}

/// Problems that one node's agent may tell of: as many spools as it is asked for at most.
const MAX_PROBLEMS: usize = 1_024;

/// What a node's agent said about spools, beside its series.
#[derive(Debug, Default)]
pub(super) struct NodeSpools {
    /// Below which directories it reads any.
    roots: Arc<[Arc<str>]>,
    problems: HashMap<Spool, Arc<str>>,
    /// What the former stream said last, until this one says something.
    held: HashMap<Spool, u64>,
}

impl NodeSpools {
    /// Of a new stream.
    pub(super) fn held(held: HashMap<Spool, u64>) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    pub(super) fn set_roots(&mut self, roots: Arc<[Arc<str>]>) {
        self.held
            .retain(|spool, _| is_below_any(&spool.path, &roots));
        self.roots = roots;
    }

    pub(super) fn forget(&mut self, spool: &Spool) {
        self.held.remove(spool);
    }

    /// Why a spool cannot be read; none: it can, again.
    pub(super) fn set_problem(&mut self, spool: Spool, problem: Option<Arc<str>>) {
        self.forget(&spool);
        match problem {
            None => {
                self.problems.remove(&spool);
            }
            Some(problem) if self.problems.len() < MAX_PROBLEMS => {
                self.problems.insert(spool, problem);
            }
            Some(_) => {}
        }
    }

    fn allows(&self, path: &str) -> bool {
        is_below_any(path, &self.roots)
    }
}

/// Whether a directory is one of `roots`, or below one of them.
pub fn is_below_any(path: &str, roots: &[Arc<str>]) -> bool {
    roots
        .iter()
        .any(|root| std::path::Path::new(path).starts_with(&**root))
}

/// What is known of a spool on all nodes together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpoolReading {
    /// Files that wait.
    pub files: u64,
    /// Nodes they were counted on.
    pub nodes: usize,
    /// Nodes whose agents were asked and have not answered yet.
    pub pending: usize,
    /// Nodes whose agents cannot read it, and why.
    pub problems: Vec<(NodeName, Arc<str>)>,
    /// Nodes whose agents may read other directories only, or none.
    pub forbidden: usize,
    /// The directories that such agents may read, each once.
    pub roots: Vec<Arc<str>>,
    /// The first agents have just connected, or the replica has just begun to lead: others may be on
    /// their way.
    pub settling: bool,
}

/// Roots that a message names at most.
const MAX_ROOTS: usize = 8;

impl SpoolReading {
    /// Why there is no number; none where there is one.
    pub fn failure(&self, path: &str) -> Option<String> {
        if self.nodes > 0 {
            return None;
        }
        if self.pending > 0 {
            return Some(format!(
                "{} agents have not answered yet whether files wait in {path}",
                self.pending
            ));
        }
        if let Some((node, problem)) = self.problems.first() {
            let others = match self.problems.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more nodes)"),
            };
            return Some(format!(
                "metadata.path: {path:?} cannot be read on any node: {node}: {problem}{others}"
            ));
        }
        if self.forbidden == 0 {
            return Some(format!("no agent is connected that could look into {path}"));
        }
        let allowed = if self.roots.is_empty() {
            "none is set".to_owned()
        } else {
            self.roots.join(", ")
        };
        Some(format!(
            "metadata.path: {path:?} is not allowed on any node: it must be below a root of the agents (--spool-root, chart value agent.spoolRoots): {allowed}"
        ))
    }

    fn forbid(&mut self, roots: &[Arc<str>]) {
        self.forbidden += 1;
        for root in roots {
            if self.roots.len() < MAX_ROOTS && !self.roots.contains(root) {
                self.roots.push(root.clone());
            }
        }
    }
}

impl NodeState {
    /// What the spools of this node held last.
    pub(super) fn last_spools(&self) -> HashMap<Spool, u64> {
        let mut held = self.spools.held.clone();
        held.extend(self.keys().filter_map(|key| match &key.signal {
            Signal::SpoolFiles(spool) => Some((spool.clone(), self.series_of(key)?.last()?)),
            _ => None,
        }));
        held
    }

    fn add_spool(&self, node: &NodeName, spool: &Spool, fresh: bool, reading: &mut SpoolReading) {
        let key = SeriesKey {
            subject: Subject::Node(node.clone()),
            signal: Signal::SpoolFiles(spool.clone()),
        };
        let problem = self.spools.problems.get(spool);
        // What an earlier stream left is no number any more, once this one has told of a problem.
        let series = self.series_of(&key);
        let series = series.filter(|series| series.current || problem.is_none());
        let last = series.and_then(Series::last);
        match last.or_else(|| self.spools.held.get(spool).copied()) {
            Some(files) => {
                reading.files = reading.files.saturating_add(files);
                reading.nodes += 1;
            }
            // Of a node that says nothing and said nothing nothing can be told.
            None if !fresh => {}
            None if !self.spools.allows(&spool.path) => reading.forbid(&self.spools.roots),
            None => match problem {
                Some(problem) => reading.problems.push((node.clone(), problem.clone())),
                None => reading.pending += 1,
            },
        }
    }
}

impl SignalStore {
    /// What waits in a spool now.
    pub fn spool(&self, spool: &Spool, now: Boottime) -> SpoolReading {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let mut reading = SpoolReading {
            settling: self.settling(now),
            ..SpoolReading::default()
        };
        for (name, state) in nodes.iter() {
            let state = lock(state);
            let fresh = now.since(state.received) <= self.limits.stale_after;
            state.add_spool(name, spool, fresh, &mut reading);
        }
        reading.problems.sort_unstable();
        reading.roots.sort_unstable();
        reading
    }

    /// Says which spools the decisions about `target` live on, in place of what was said before:
    /// their changes mark it dirty.
    pub fn watch_spools(&self, target: &TargetKey, spools: &[Spool]) {
        self.watches.set_spools(target, spools);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::{BootId, NodeTime, ReplayPoint, SignalLimits, StreamWriter};

    const SPOOL: &str = "/var/spool/jobs";

    fn at(seconds: i64) -> Boottime {
        Boottime::from_micros(seconds * 1_000_000)
    }

    fn jobs() -> Spool {
        Spool {
            path: SPOOL.into(),
            max_age: None,
        }
    }

    struct Node {
        name: NodeName,
        stream: StreamWriter,
    }

    impl Node {
        fn connect(store: &Arc<SignalStore>, name: &str, process: u64, roots: &[&str]) -> Self {
            let name = NodeName::new(name).unwrap();
            let boot = BootId::new("boot").unwrap();
            let mut stream = store.connect(name.clone(), boot, process, at(0)).unwrap();
            let roots = roots.iter().map(|root| Arc::from(*root)).collect();
            stream.batch().unwrap().spool_roots(roots);
            Self { name, stream }
        }

        fn key(&self) -> SeriesKey {
            SeriesKey {
                subject: Subject::Node(self.name.clone()),
                signal: Signal::SpoolFiles(jobs()),
            }
        }

        fn files(&mut self, second: u64, files: u64) {
            let key = self.key();
            let closed = NodeTime::from_nanos(second * 1_000_000_000);
            let mut batch = self.stream.batch().unwrap();
            batch.define(1, key, Duration::from_secs(1), true).unwrap();
            batch.gauge(1, closed, 0.0, files, files);
            batch.heartbeat(closed, at(i64::try_from(second).unwrap()));
        }

        fn problem(&mut self, second: u64, problem: &str) {
            let closed = NodeTime::from_nanos(second * 1_000_000_000);
            let mut batch = self.stream.batch().unwrap();
            batch.gone(1);
            let problem = Some(Arc::from(problem)).filter(|_| !problem.is_empty());
            batch.spool_problem(jobs(), problem);
            batch.heartbeat(closed, at(i64::try_from(second).unwrap()));
        }
    }

    fn failure(store: &SignalStore, now: i64) -> String {
        store
            .spool(&jobs(), at(now))
            .failure(SPOOL)
            .unwrap_or_default()
    }

    #[test]
    fn what_waits_is_the_sum_over_the_nodes_and_silence_takes_nothing_away() {
        let store = SignalStore::new(SignalLimits::default());
        let target = TargetKey::new("ns", "worker");
        store.watch_spools(&target, &[jobs()]);
        let (mut one, mut two) = (
            Node::connect(&store, "n1", 1, &["/var/spool"]),
            Node::connect(&store, "n2", 1, &[SPOOL]),
        );
        one.files(1, 3);
        two.files(1, 4);
        assert!(store.dirty().take().contains(&target));
        let reading = store.spool(&jobs(), at(1));
        assert_eq!((reading.files, reading.nodes), (7, 2));
        one.files(2, 5);
        assert!(store.dirty().take().contains(&target));
        assert_eq!(store.spool(&jobs(), at(2)).files, 9);
        assert_eq!(failure(&store, 60), "", "silent, and held");
        assert_eq!(store.spool(&jobs(), at(60)).files, 9);
        store.sweep(at(2_000));
        assert_eq!(store.spool(&jobs(), at(2_000)).nodes, 0);
    }

    #[test]
    fn an_agent_that_restarts_takes_nothing_away_until_it_has_looked() {
        let store = SignalStore::new(SignalLimits::default());
        Node::connect(&store, "n1", 1, &["/var/spool"]).files(1, 3);
        Node::connect(&store, "n2", 1, &["/var/spool"]).files(1, 4);
        let mut again = Node::connect(&store, "n1", 2, &["/var/spool"]);
        assert_eq!(store.spool(&jobs(), at(2)).files, 7);
        again.files(3, 2);
        assert_eq!(store.spool(&jobs(), at(3)).files, 6);
        let mut again = Node::connect(&store, "n1", 3, &["/var/spool"]);
        again.problem(4, "Permission denied (os error 13)");
        assert_eq!(store.spool(&jobs(), at(4)).files, 4);
        let mut again = Node::connect(&store, "n2", 1, &["/var/spool"]);
        assert_eq!(store.spool(&jobs(), at(5)).files, 4);
        again.problem(5, "Permission denied (os error 13)");
        let reading = store.spool(&jobs(), at(5));
        assert_eq!((reading.nodes, reading.problems.len()), (0, 2));
        // A node that never said anything is waited for, and takes part once it does.
        Node::connect(&store, "n3", 1, &["/var/spool"]);
        let reading = store.spool(&jobs(), at(2));
        assert_eq!((reading.nodes, reading.pending), (0, 1));
    }

    #[test]
    fn a_spool_that_changed_while_the_agent_told_others_is_what_it_says_on_its_return() {
        let store = SignalStore::new(SignalLimits::default());
        let target = TargetKey::new("ns", "worker");
        store.watch_spools(&target, &[jobs()]);
        Node::connect(&store, "n1", 1, &["/var/spool"]).files(1, 8);
        let mut again = Node::connect(&store, "n1", 1, &["/var/spool"]);
        store.dirty().take();
        assert_eq!(store.spool(&jobs(), at(60)).files, 8);
        let key = again.key();
        let mut batch = again.stream.batch().unwrap();
        batch.define(1, key, Duration::from_secs(1), true).unwrap();
        let points = [(1, 0.0), (20, 152.0), (60, 152.0)].map(|(second, total)| ReplayPoint {
            at: NodeTime::from_nanos(second * 1_000_000_000),
            total,
        });
        batch.replay(1, &points, 0);
        drop(batch);
        let reading = store.spool(&jobs(), at(60));
        assert_eq!((reading.files, reading.nodes), (0, 1));
        assert!(store.dirty().take().contains(&target));
    }

    #[test]
    fn after_the_first_stream_others_are_waited_for() {
        let store = SignalStore::new(SignalLimits::default());
        assert!(store.spool(&jobs(), at(0)).settling);
        Node::connect(&store, "n1", 1, &["/var/spool"]).files(1, 3);
        assert!(store.spool(&jobs(), at(2)).settling);
        assert!(!store.spool(&jobs(), at(3)).settling);
        // It leads, long after the one agent that it knows has left it for the former leader.
        store.lead(at(100));
        let reading = store.spool(&jobs(), at(102));
        assert!(reading.settling, "{reading:?}");
        assert!(!store.spool(&jobs(), at(103)).settling);
    }

    #[test]
    fn each_reason_for_no_number_is_told() {
        let store = SignalStore::new(SignalLimits::default());
        assert!(failure(&store, 0).contains("no agent is connected"));
        let mut none = Node::connect(&store, "n0", 1, &[]);
        none.problem(1, "");
        assert!(failure(&store, 1).ends_with("agent.spoolRoots): none is set"));
        let mut other = Node::connect(&store, "n1", 1, &["/srv/in", "/var/spool/jobs2"]);
        other.problem(1, "");
        assert_eq!(
            failure(&store, 1),
            "metadata.path: \"/var/spool/jobs\" is not allowed on any node: it must be below a root of the agents (--spool-root, chart value agent.spoolRoots): /srv/in, /var/spool/jobs2"
        );
        let mut broken = Node::connect(&store, "n2", 1, &["/var"]);
        broken.problem(1, "Permission denied (os error 13)");
        assert_eq!(
            failure(&store, 1),
            "metadata.path: \"/var/spool/jobs\" cannot be read on any node: n2: Permission denied (os error 13)"
        );
        let mut well = Node::connect(&store, "n3", 1, &["/var"]);
        well.files(1, 0);
        assert_eq!(failure(&store, 1), "", "one node is enough");
        well.problem(2, "No such file or directory (os error 2)");
        assert!(failure(&store, 2).ends_with("(and 1 more nodes)"));
        well.files(3, 6);
        assert_eq!(store.spool(&jobs(), at(3)).files, 6);
    }
}
