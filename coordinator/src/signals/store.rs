//! [`SignalStore`]: the series of all nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use neap_units::{BootId, NodeName, PodUid};

use super::dirty::DirtyTargets;
use super::node::{NodeState, NodeView};
use super::stream::StreamWriter;
use super::watches::{SignalSet, Watches};
use crate::clock::Boottime;
use crate::keys::TargetKey;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalLimits {
    /// Most nodes; streams of further ones are refused.
    pub nodes: usize,
    /// Most series of one node; further ones are refused.
    pub series_per_node: usize,
    /// A node that says nothing for so long has no signals: three heartbeats of its agent.
    pub stale_after: Duration,
    /// A node that says nothing for so long is forgotten.
    pub forget_after: Duration,
}

impl Default for SignalLimits {
    fn default() -> Self {
        Self {
            nodes: 10_000,
            series_per_node: 65_536,
            stale_after: Duration::from_secs(3),
            forget_after: Duration::from_secs(900),
        }
    }
}

/// Why something was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Too many nodes.
    #[error("{limit} nodes are connected already: at most {limit} are allowed")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
    /// Too many series.
    #[error("the node has {limit} series already: at most {limit} are allowed")]
    TooManySeries {
        /// The limit.
        limit: usize,
    },
    /// A newer stream of the same node has taken over.
    #[error("a newer stream of the node has taken over")]
    Superseded,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) points: AtomicU64,
    pub(super) backwards: AtomicU64,
    pub(super) restarted: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) unknown: AtomicU64,
}

/// Figures of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalFigures {
    /// Nodes held.
    pub nodes: usize,
    /// Nodes whose streams are not stale.
    pub fresh_nodes: usize,
    /// Series held.
    pub series: usize,
    /// Points held.
    pub points: usize,
    /// Points taken in since the start.
    pub taken: u64,
    /// Points left out because their total was below the former one.
    pub backwards: u64,
    /// Series that began anew within a boot.
    pub restarted: u64,
    /// Points left out because they were not newer.
    pub stale: u64,
    /// Points of series that the stream never defined.
    pub unknown: u64,
}

/// The signals of all nodes, in memory. Writers of different nodes do not meet.
#[derive(Debug)]
pub struct SignalStore {
    pub(super) limits: SignalLimits,
    pub(super) nodes: RwLock<HashMap<NodeName, Arc<Mutex<NodeState>>>>,
    pub(super) watches: Watches,
    dirty: Arc<DirtyTargets>,
    pub(super) counts: Counts,
    connections: AtomicU64,
    first_stream: OnceLock<Boottime>,
    /// When this replica began to lead.
    led_from: Mutex<Option<Boottime>>,
}

// A panic while a node is locked leaves at worst a half-applied batch: soft state, made good by
// the next one.
pub(super) fn lock(node: &Mutex<NodeState>) -> MutexGuard<'_, NodeState> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SignalStore {
    /// An empty store.
    pub fn new(limits: SignalLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            nodes: RwLock::default(),
            watches: Watches::default(),
            dirty: Arc::default(),
            counts: Counts::default(),
            connections: AtomicU64::new(0),
            first_stream: OnceLock::new(),
            led_from: Mutex::default(),
        })
    }

    /// The targets with news.
    pub fn dirty(&self) -> &Arc<DirtyTargets> {
        &self.dirty
    }

    /// Begins a stream of `node`, in place of a former one. `agent_start_ns` tells one process of
    /// the agent from another.
    ///
    /// # Errors
    /// [`SignalError::TooManyNodes`].
    pub fn connect(
        self: &Arc<Self>,
        node: NodeName,
        boot: BootId,
        agent_start_ns: u64,
        now: Boottime,
    ) -> Result<StreamWriter, SignalError> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let state = match nodes.get(&node) {
            Some(state) => {
                lock(state).reconnect(boot, agent_start_ns, connection, now);
                state.clone()
            }
            None => {
                if nodes.len() >= self.limits.nodes {
                    return Err(SignalError::TooManyNodes {
                        limit: self.limits.nodes,
                    });
                }
                let state = Arc::new(Mutex::new(NodeState::new(
                    boot,
                    agent_start_ns,
                    connection,
                    now,
                )));
                nodes.insert(node, state.clone());
                state
            }
        };
        self.first_stream.get_or_init(|| now);
        Ok(StreamWriter::new(self.clone(), state, connection))
    }

    /// This replica leads from `now` on. Agents are on their way to it, and what some of them told it
    /// before is old.
    pub fn lead(&self, now: Boottime) {
        *self.led_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether agents are on their way still: the first of all have just connected, or this replica
    /// has just begun to lead.
    pub(super) fn settling(&self, now: Boottime) -> bool {
        let led_from = *self.led_from.lock().unwrap_or_else(PoisonError::into_inner);
        let just = |since: Boottime| now.since(since) < self.limits.stale_after;
        self.first_stream.get().is_none_or(|first| just(*first)) || led_from.is_some_and(just)
    }

    /// Reads from one node: `read` sees all of its series at one moment. `None` when the node is
    /// unknown or its stream is stale. `read` must be short: it holds the node's lock.
    pub fn read<T>(
        &self,
        node: &NodeName,
        now: Boottime,
        read: impl FnOnce(&NodeView<'_>) -> T,
    ) -> Option<T> {
        let state = self
            .nodes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)?
            .clone();
        let state = lock(&state);
        NodeView::new(&state, now, self.limits.stale_after).map(|view| read(&view))
    }

    /// The nodes that have not been forgotten, silent ones too, by name.
    pub fn nodes(&self) -> Vec<NodeName> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<NodeName> = nodes.keys().cloned().collect();
        drop(nodes);
        names.sort();
        names
    }

    /// Says which signals of `pod` the decisions about `target` live on, in place of what was said
    /// before: their changes mark it dirty, and their history is kept for windows. The empty set
    /// ends it.
    pub fn watch(&self, pod: &PodUid, target: &TargetKey, signals: SignalSet) {
        self.watches.set(pod, target, signals);
    }

    /// Tells the targets of nodes that have gone silent, and forgets nodes that have been for long.
    /// To be called now and then.
    pub fn sweep(&self, now: Boottime) {
        let mut silent = Vec::new();
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, state| {
            let mut state = lock(state);
            state.drop_orphans(now);
            let silence = now.since(state.received);
            if silence > self.limits.stale_after && !state.told_silent {
                state.told_silent = true;
                silent.extend(state.pods().map(|pod| (pod.clone(), SignalSet::ALL)));
            }
            silence < self.limits.forget_after
        });
        drop(nodes);
        self.tell(&silent);
    }

    /// Marks the targets that live on these signals of these pods.
    pub(super) fn tell(&self, touched: &[(PodUid, SignalSet)]) {
        if touched.is_empty() {
            return;
        }
        let watches = self.watches.read();
        for (pod, signals) in touched {
            for (target, wanted) in watches.get(pod).into_iter().flat_map(|watch| watch.iter()) {
                if wanted.intersects(*signals) {
                    self.dirty.mark(target);
                }
            }
        }
    }

    /// What the store holds and has counted.
    pub fn figures(&self, now: Boottime) -> SignalFigures {
        let nodes: Vec<_> = self
            .nodes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        let mut figures = SignalFigures {
            nodes: nodes.len(),
            taken: self.counts.points.load(Ordering::Relaxed),
            backwards: self.counts.backwards.load(Ordering::Relaxed),
            restarted: self.counts.restarted.load(Ordering::Relaxed),
            stale: self.counts.stale.load(Ordering::Relaxed),
            unknown: self.counts.unknown.load(Ordering::Relaxed),
            ..SignalFigures::default()
        };
        for state in nodes {
            let state = lock(&state);
            figures.series += state.len();
            figures.points += state.points();
            figures.fresh_nodes +=
                usize::from(now.since(state.received) <= self.limits.stale_after);
        }
        figures
    }
}
