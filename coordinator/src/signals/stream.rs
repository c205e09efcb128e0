//! The writing end: one agent's stream.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::key::{SeriesKey, Signal};
use super::node::NodeState;
use super::offset::Offset;
use super::ring::Retention;
use super::series::{Form, Outcome};
use super::spools::Spool;
use super::store::{SignalError, SignalStore, lock};
use super::watches::SignalSet;
use crate::clock::Boottime;

/// An instant of a node's CLOCK_BOOTTIME, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeTime(i64);

impl NodeTime {
    /// From nanoseconds since the node's boot, as messages carry them.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(i64::try_from(nanos / 1_000).unwrap_or(i64::MAX))
    }

    /// So long before this instant.
    #[must_use]
    pub fn before(self, micros: u64) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(micros).unwrap_or(i64::MAX)),
        )
    }
}

/// One replayed reading: of a counter its value; of a gauge its integral over seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplayPoint {
    /// When it was read.
    pub at: NodeTime,
    /// The total.
    pub total: f64,
}

/// Takes in what one stream of one agent says. Ids are the stream's own and end with it.
#[derive(Debug)]
pub struct StreamWriter {
    store: Arc<SignalStore>,
    node: Arc<Mutex<NodeState>>,
    connection: u64,
    ids: HashMap<u32, usize>,
}

impl StreamWriter {
    pub(super) fn new(
        store: Arc<SignalStore>,
        node: Arc<Mutex<NodeState>>,
        connection: u64,
    ) -> Self {
        Self {
            store,
            node,
            connection,
            ids: HashMap::new(),
        }
    }

    /// Begins to take in one message. The batch ends, and targets hear of it, when it is dropped.
    /// Only a live batch ([`Batch::heartbeat`]) moves the stream's time on.
    ///
    /// # Errors
    /// [`SignalError::Superseded`]: the stream must end.
    pub fn batch(&mut self) -> Result<Batch<'_>, SignalError> {
        let state = lock(&self.node);
        if state.connection != self.connection {
            return Err(SignalError::Superseded);
        }
        Ok(Batch {
            store: &self.store,
            ids: &mut self.ids,
            state,
            touched: Vec::new(),
            spools: Vec::new(),
        })
    }
}

/// One message being taken in. Holds the node's lock: do not keep it.
pub struct Batch<'a> {
    store: &'a Arc<SignalStore>,
    ids: &'a mut HashMap<u32, usize>,
    state: MutexGuard<'a, NodeState>,
    touched: Vec<(neap_units::PodUid, SignalSet)>,
    spools: Vec<Spool>,
}

impl Batch<'_> {
    /// Binds `id` to a series that is read every `interval`. A live id may be defined again with
    /// another interval.
    ///
    /// # Errors
    /// [`SignalError::TooManySeries`]: the stream must end.
    pub fn define(
        &mut self,
        id: u32,
        key: SeriesKey,
        interval: Duration,
        since_agent_start: bool,
    ) -> Result<(), SignalError> {
        let limit = self.store.limits.series_per_node;
        if self.state.len() >= limit && self.state.series_of(&key).is_none() {
            return Err(SignalError::TooManySeries { limit });
        }
        let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
        let slot = self.state.define(key, interval, since_agent_start);
        self.ids.insert(id, slot);
        Ok(())
    }

    /// The series can no longer be read: it is absent from here on.
    pub fn gone(&mut self, id: u32) {
        let Some(slot) = self.ids.remove(&id) else {
            return;
        };
        if let Some(key) = self.state.remove(slot) {
            if let Signal::SpoolFiles(spool) = &key.signal {
                self.state.spools.forget(spool);
            }
            self.touch(&key);
        }
    }

    fn touch(&mut self, key: &SeriesKey) {
        if let Signal::SpoolFiles(spool) = &key.signal {
            self.spools.push(spool.clone());
        }
        let Some(pod) = key.subject.pod() else { return };
        let set = SignalSet::of(&key.signal);
        match self.touched.last_mut() {
            Some((last, signals)) if last == pod => *signals |= set,
            _ => self.touched.push((pod.clone(), set)),
        }
    }

    fn take(
        &mut self,
        id: u32,
        read: impl FnOnce(&mut super::series::Series, Retention) -> Option<Outcome>,
    ) {
        let counts = &self.store.counts;
        let entry = self.ids.get(&id).and_then(|slot| self.state.entry(*slot));
        let Some(entry) = entry else {
            counts.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let watched = entry.key.subject.pod().is_none_or(|pod| {
            let set = SignalSet::of(&entry.key.signal);
            self.store
                .watches
                .read()
                .get(pod)
                .is_some_and(|watch| watch.iter().any(|(_, signals)| signals.intersects(set)))
        });
        let retention = if watched {
            Retention::Windows
        } else {
            Retention::Recent
        };
        let Some(outcome) = read(&mut entry.series, retention) else {
            counts.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match outcome {
            Outcome::Stored => counts.points.fetch_add(1, Ordering::Relaxed),
            Outcome::Stale => counts.stale.fetch_add(1, Ordering::Relaxed),
            Outcome::Backwards => counts.backwards.fetch_add(1, Ordering::Relaxed),
            Outcome::Restarted => {
                counts.backwards.fetch_add(1, Ordering::Relaxed);
                counts.restarted.fetch_add(1, Ordering::Relaxed)
            }
        };
        if watched && matches!(outcome, Outcome::Stored | Outcome::Restarted) {
            let key = entry.key.clone();
            self.touch(&key);
        }
    }

    /// A reading of a counter. `unchanged` microseconds before `at` it was last read with its
    /// former value; 0: it was not.
    pub fn counter(&mut self, id: u32, at: NodeTime, value: u64, unchanged: u32) {
        self.take(id, |series, retention| {
            (series.form() == Form::Counter)
                .then(|| series.counter(at.0, value, i64::from(unchanged), retention))
        });
    }

    /// A reading of a gauge: its integral over seconds, its value, and its peak since the last
    /// reading.
    pub fn gauge(&mut self, id: u32, at: NodeTime, integral: f64, last: u64, peak: u64) {
        self.take(id, |series, retention| {
            (series.form() == Form::Gauge)
                .then(|| series.gauge(at.0, integral, last, peak, retention))
        });
    }

    /// Recent history of a series, oldest point first; `last` is the value at the last of them. It need not be
    /// said again: where the series is held already, from an earlier stream, what is newer is taken in too.
    pub fn replay(&mut self, id: u32, points: &[ReplayPoint], last: u64) {
        let points: Vec<(i64, f64)> = points
            .iter()
            .map(|point| (point.at.0, point.total))
            .collect();
        self.take(id, |series, _| Some(series.history(&points, last)));
    }

    /// The directories below which the stream's agent reads spools.
    pub fn spool_roots(&mut self, roots: Arc<[Arc<str>]>) {
        self.state.spools.set_roots(roots);
    }

    /// Why the agent cannot read a spool; none: it can, again.
    pub fn spool_problem(&mut self, spool: Spool, problem: Option<Arc<str>>) {
        self.spools.push(spool.clone());
        self.state.spools.set_problem(spool, problem);
    }

    /// All live series of the stream were read without error up to `closed`; the message came at
    /// `received`.
    pub fn heartbeat(&mut self, closed: NodeTime, received: Boottime) {
        let silent = received.since(self.state.received) > self.store.limits.stale_after;
        if silent || self.state.offset.is_none() {
            // Nothing of the node could be read until now. An idle series says nothing of it.
            let back = self.state.pods().map(|pod| (pod.clone(), SignalSet::ALL));
            self.touched.extend(back);
        }
        match &mut self.state.offset {
            Some(offset) => offset.observe(received, closed.0),
            None => self.state.offset = Some(Offset::new(received, closed.0)),
        }
        self.state.frame = self.state.frame.max(closed.0);
        self.state.received = self.state.received.max(received);
        self.state.told_silent = false;
        self.state.drop_orphans(received);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for spool in &self.spools {
            for target in self.store.watches.of_spool(spool) {
                self.store.dirty().mark(&target);
            }
        }
        self.store.tell(&self.touched);
    }
}
