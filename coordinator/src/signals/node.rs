//! The series of one node.

use std::collections::HashMap;
use std::time::Duration;

use neap_units::{BootId, PodUid};

use super::key::{SeriesKey, Signal};
use super::offset::Offset;
use super::series::{Form, Series, Span};
use super::spools::NodeSpools;
use crate::clock::Boottime;

/// Series of the former stream that the new one has not named by then are dropped.
const ADOPT_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: SeriesKey,
    pub(super) series: Series,
}

#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) boot: BootId,
    pub(super) agent_start_ns: u64,
    /// Which connection may write.
    pub(super) connection: u64,
    pub(super) connected: Boottime,
    pub(super) offset: Option<Offset>,
    /// When the newest batch was closed, microseconds of the node's boottime.
    pub(super) frame: i64,
    pub(super) received: Boottime,
    /// Its targets were told that it has gone silent.
    pub(super) told_silent: bool,
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    index: HashMap<SeriesKey, usize>,
    pods: HashMap<PodUid, Vec<usize>>,
    pub(super) spools: NodeSpools,
}

impl NodeState {
    pub(super) fn new(boot: BootId, agent_start_ns: u64, connection: u64, now: Boottime) -> Self {
        Self {
            boot,
            agent_start_ns,
            connection,
            connected: now,
            offset: None,
            frame: i64::MIN / 2,
            received: now,
            told_silent: false,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            pods: HashMap::new(),
            spools: NodeSpools::default(),
        }
    }

    /// A new stream of the same node begins. Counters of another boot, and what another agent
    /// process counted itself, cannot be continued.
    pub(super) fn reconnect(
        &mut self,
        boot: BootId,
        agent_start_ns: u64,
        connection: u64,
        now: Boottime,
    ) {
        let spools = NodeSpools::held(self.last_spools());
        if boot != self.boot {
            *self = Self::new(boot, agent_start_ns, connection, now);
            self.spools = spools;
            return;
        }
        self.spools = spools;
        let same_agent = agent_start_ns == self.agent_start_ns;
        for slot in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[slot] else {
                continue;
            };
            entry.series.current = false;
            if entry.series.since_agent_start && !same_agent {
                self.remove(slot);
            }
        }
        self.agent_start_ns = agent_start_ns;
        self.connection = connection;
        self.connected = now;
        self.offset = None;
    }

    /// The series of `key`, made if need be. Returns its slot.
    pub(super) fn define(
        &mut self,
        key: SeriesKey,
        interval: i64,
        since_agent_start: bool,
    ) -> usize {
        let form = form(&key.signal);
        if let Some(&slot) = self.index.get(&key) {
            if let Some(entry) = &mut self.slots[slot] {
                entry.series.interval = interval;
                entry.series.since_agent_start = since_agent_start;
                entry.series.current = true;
            }
            return slot;
        }
        let entry = Entry {
            key: key.clone(),
            series: Series::new(form, interval, since_agent_start),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(entry);
                slot
            }
            None => {
                self.slots.push(Some(entry));
                self.slots.len() - 1
            }
        };
        if let Some(pod) = key.subject.pod() {
            self.pods.entry(pod.clone()).or_default().push(slot);
        }
        self.index.insert(key, slot);
        slot
    }

    pub(super) fn entry(&mut self, slot: usize) -> Option<&mut Entry> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<SeriesKey> {
        let entry = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.index.remove(&entry.key);
        if let Some(pod) = entry.key.subject.pod()
            && let Some(slots) = self.pods.get_mut(pod)
        {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.pods.remove(pod);
            }
        }
        Some(entry.key)
    }

    /// Drops what the former stream had and the present one did not take up.
    pub(super) fn drop_orphans(&mut self, now: Boottime) {
        if now.since(self.connected) < ADOPT_WITHIN
            || self.connected == Boottime::from_micros(i64::MAX)
        {
            return;
        }
        // Done once per stream: from here on every series is current.
        self.connected = Boottime::from_micros(i64::MAX);
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|entry| !entry.series.current)
            {
                self.remove(slot);
            }
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &SeriesKey> {
        self.index.keys()
    }

    pub(super) fn series_of(&self, key: &SeriesKey) -> Option<&Series> {
        let slot = *self.index.get(key)?;
        self.slots.get(slot)?.as_ref().map(|entry| &entry.series)
    }

    /// The pods that have series here.
    pub(super) fn pods(&self) -> impl Iterator<Item = &PodUid> {
        self.pods.keys()
    }

    /// The series of a pod and of its containers that are on the present stream.
    fn keys_of(&self, pod: &PodUid) -> impl Iterator<Item = &SeriesKey> {
        let slots = self.pods.get(pod).into_iter().flatten();
        let entries = slots.filter_map(|slot| self.slots.get(*slot)?.as_ref());
        entries
            .filter(|entry| entry.series.current)
            .map(|entry| &entry.key)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn points(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .map(|entry| entry.series.points())
            .sum()
    }
}

/// How a signal's totals are to be read.
pub(super) fn form(signal: &Signal) -> Form {
    match signal {
        Signal::MemoryWorkingSet
        | Signal::AcceptBacklog(_)
        | Signal::AcceptLimit(_)
        | Signal::UnixBacklog(_)
        | Signal::UnixLimit(_)
        | Signal::SpoolFiles(_)
        | Signal::NodeMemoryWorkingSet
        | Signal::NodeLoad => Form::Gauge,
        Signal::CpuUsage
        | Signal::CpuThrottledTime
        | Signal::CpuThrottledPeriods
        | Signal::CpuPeriods
        | Signal::MemoryOomKills
        | Signal::Pressure(..)
        | Signal::AcceptDrops(_)
        | Signal::PassiveOpens
        | Signal::NodeCpuUsage => Form::Counter,
    }
}

/// A window as it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowReading {
    /// A counter's rate, in its unit per second; a gauge's mean, in its unit.
    pub value: f64,
    /// What `value` gains per second if nothing new is read: 0 once the window is level.
    pub drift: f64,
    /// When the window ended, on our clock.
    pub at: Boottime,
}

/// What is known of one node at one moment, for reading. Every answer is `None` where the series
/// is not there, the node's stream is stale, or the window is not covered: absent is not zero.
pub struct NodeView<'a> {
    state: &'a NodeState,
    offset: &'a Offset,
    now: i64,
}

impl<'a> NodeView<'a> {
    /// `None` while the node's stream is stale.
    pub(super) fn new(state: &'a NodeState, now: Boottime, stale_after: Duration) -> Option<Self> {
        let offset = state.offset.as_ref()?;
        if now.since(state.received) > stale_after {
            return None;
        }
        Some(Self {
            state,
            offset,
            now: offset.theirs(now),
        })
    }

    fn series(&self, key: &SeriesKey) -> Option<&'a Series> {
        self.state.series_of(key).filter(|series| series.current)
    }

    /// The rate (counter) or mean (gauge) over the newest `window`.
    pub fn window(&self, key: &SeriesKey, window: Duration) -> Option<WindowReading> {
        let Span {
            per_second,
            end,
            drift,
        } = self
            .series(key)?
            .window(window, self.state.frame, self.now)?;
        Some(WindowReading {
            value: per_second,
            drift,
            at: self.offset.ours(end),
        })
    }

    /// When a window of this length will be covered whole if nothing changes but time, on our
    /// clock; that may be in the past. `None` where the series is not there.
    pub fn covered_at(&self, key: &SeriesKey, window: Duration) -> Option<Boottime> {
        let at = self.series(key)?.covered_at(window)?;
        Some(self.offset.ours(at))
    }

    /// The value last read.
    pub fn last(&self, key: &SeriesKey) -> Option<u64> {
        self.series(key)?.last()
    }

    /// Growth of a total over the `window` that ends at `at` on our clock.
    pub fn growth(&self, key: &SeriesKey, at: Boottime, window: Duration) -> Option<f64> {
        let end = self.offset.theirs(at);
        let start = end.checked_sub(i64::try_from(window.as_micros()).ok()?)?;
        self.series(key)?.growth(start, end)
    }

    /// The value of a gauge at `at` on our clock; `None` before its first reading.
    pub fn value_at(&self, key: &SeriesKey, at: Boottime) -> Option<f64> {
        self.series(key)?.value_at(self.offset.theirs(at))
    }

    /// For how long before `at` on our clock a gauge has been above zero, as far back as is known.
    pub fn nonzero_for(&self, key: &SeriesKey, at: Boottime) -> Option<Duration> {
        let micros = self.series(key)?.nonzero_for(self.offset.theirs(at))?;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    }

    /// The series of a pod and of its containers, in no order.
    pub fn keys_of(&self, pod: &PodUid) -> impl Iterator<Item = &'a SeriesKey> {
        self.state.keys_of(pod)
    }

    /// The pods that have series here, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &'a PodUid> {
        self.state.pods()
    }

    /// When the newest batch was taken on the node, on our clock.
    pub fn sampled(&self) -> Boottime {
        self.offset.ours(self.state.frame)
    }
}
