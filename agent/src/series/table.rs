//! All series of the node: their last readings, and what the stream has been told of them.

use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::{self, SeriesKind};

use super::ring::{Point, Ring};
use crate::clock::BootTime;
use crate::directives::Spool;

/// Number of a series in the table, and on the stream.
pub type SeriesId = u32;

/// What a series measures: the wire's definition without its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What is measured, and so its unit.
    pub kind: SeriesKind,
    /// Pod UID; none for the node's own.
    pub pod: Option<Arc<str>>,
    /// Container id, for what is per container.
    pub container: Option<Arc<str>>,
    /// TCP port, for accept queues; 0 otherwise.
    pub port: u16,
    /// Socket path, for unix backlogs.
    pub path: Option<Arc<str>>,
    /// Directory, for spools.
    pub spool: Option<Arc<Spool>>,
    /// How often it is read.
    pub interval: Duration,
    /// Whether the agent, not the kernel, keeps the sum.
    pub since_agent_start: bool,
}

impl Meaning {
    /// A series of the node itself.
    pub fn of_node(kind: SeriesKind, interval: Duration) -> Self {
        Self {
            kind,
            pod: None,
            container: None,
            port: 0,
            path: None,
            spool: None,
            interval,
            since_agent_start: is_gauge(kind),
        }
    }

    /// A series of a pod.
    pub fn of_pod(kind: SeriesKind, pod: &Arc<str>, interval: Duration) -> Self {
        Self {
            pod: Some(pod.clone()),
            ..Self::of_node(kind, interval)
        }
    }

    /// A series of a container.
    pub fn of_container(
        kind: SeriesKind,
        pod: &Arc<str>,
        container: &Arc<str>,
        interval: Duration,
    ) -> Self {
        Self {
            container: Some(container.clone()),
            ..Self::of_pod(kind, pod, interval)
        }
    }

    /// A series of a TCP port of a pod.
    pub fn of_port(kind: SeriesKind, pod: &Arc<str>, port: u16, interval: Duration) -> Self {
        Self {
            port,
            since_agent_start: true,
            ..Self::of_pod(kind, pod, interval)
        }
    }

    /// A series of a unix socket of a pod.
    pub fn of_socket(
        kind: SeriesKind,
        pod: &Arc<str>,
        path: &Arc<str>,
        interval: Duration,
    ) -> Self {
        Self {
            path: Some(path.clone()),
            ..Self::of_pod(kind, pod, interval)
        }
    }

    /// A series of a directory of the node.
    pub fn of_spool(kind: SeriesKind, spool: &Arc<Spool>, interval: Duration) -> Self {
        Self {
            spool: Some(spool.clone()),
            ..Self::of_node(kind, interval)
        }
    }

    fn definition(&self, id: SeriesId) -> node::SeriesDefinition {
        let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        node::SeriesDefinition {
            id,
            kind: self.kind.into(),
            pod_uid: text(&self.pod),
            container_id: text(&self.container),
            port: self.port.into(),
            socket_path: text(&self.path),
            interval_ms: u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX),
            since_agent_start: self.since_agent_start,
            spool_path: self
                .spool
                .as_ref()
                .map_or_else(String::new, |spool| (*spool.path).to_owned()),
            spool_max_age_ms: self.spool.as_ref().map_or(0, |spool| spool.max_age_ms()),
        }
    }
}

/// Whether a kind is a gauge; the others are counters.
pub fn is_gauge(kind: SeriesKind) -> bool {
    matches!(
        kind,
        SeriesKind::MemoryWorkingSet
            | SeriesKind::AcceptBacklog
            | SeriesKind::AcceptLimit
            | SeriesKind::UnixBacklog
            | SeriesKind::UnixLimit
            | SeriesKind::SpoolFiles
            | SeriesKind::NodeMemoryWorkingSet
            | SeriesKind::NodeMemoryAvailable
            | SeriesKind::NodeLoad1
    )
}

#[derive(Debug)]
struct Series {
    meaning: Meaning,
    gauge: bool,
    /// The last reading: time, value, integral, and the largest value since `told`.
    last: Point,
    /// What the stream was told last.
    told: Option<Told>,
    /// The definition is on the stream with this interval.
    defined: bool,
    /// In `Table::dirty`.
    dirty: bool,
    ring: Ring,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: BootTime,
    value: u64,
    /// The last reading that still had this value.
    held_until: BootTime,
}

/// The table. Ids are indices; an id that the stream knows is used again only after the
/// stream was told that it is gone.
#[derive(Debug, Default)]
pub struct Table {
    series: Vec<Option<Series>>,
    free: Vec<SeriesId>,
    gone: Vec<SeriesId>,
    dirty: Vec<SeriesId>,
    live: usize,
    /// A stream takes what changes.
    streaming: bool,
    backwards: u64,
}

/// What changed since the last batch.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ids that end.
    pub gone: Vec<SeriesId>,
    /// Ids that begin.
    pub defined: Vec<node::SeriesDefinition>,
    /// Counters that moved.
    pub counters: Vec<node::CounterPoint>,
    /// Gauges that moved.
    pub gauges: Vec<node::GaugePoint>,
}

impl Table {
    /// Begins a series with its first reading.
    pub fn begin(&mut self, meaning: Meaning, value: u64, at: BootTime) -> SeriesId {
        let gauge = is_gauge(meaning.kind);
        let first = Point {
            at,
            value,
            integral: 0.0,
            peak: value,
        };
        let mut ring = Ring::default();
        ring.push(first);
        let series = Series {
            meaning,
            gauge,
            last: first,
            told: None,
            defined: false,
            dirty: false,
            ring,
        };
        self.live += 1;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.series.push(None);
                SeriesId::try_from(self.series.len() - 1).unwrap_or(SeriesId::MAX)
            }
        };
        if let Some(slot) = self.series.get_mut(id as usize) {
            *slot = Some(series);
        }
        self.mark(id);
        id
    }

    /// Takes a reading of a series that has begun.
    pub fn read(&mut self, id: SeriesId, value: u64, at: BootTime) {
        let Some(Some(series)) = self.series.get_mut(id as usize) else {
            return;
        };
        let last = series.last;
        if let Some(told) = &mut series.told
            && told.value == value
        {
            told.held_until = at;
        }
        if series.gauge {
            let held = at.since(last.at).as_secs_f64();
            series.last = Point {
                at,
                value,
                integral: last.integral + last.value as f64 * held,
                peak: last.peak.max(value),
            };
            if value == last.value {
                return;
            }
            series.ring.push(Point {
                peak: value.max(last.value),
                ..series.last
            });
        } else if value < last.value {
            // Within one life a counter only grows: this is a reading gone wrong.
            self.backwards += 1;
            return;
        } else {
            series.last = Point { at, value, ..last };
            if value == last.value {
                return;
            }
            if series
                .ring
                .points()
                .last()
                .is_some_and(|point| point.at < last.at)
            {
                series.ring.push(last);
            }
            series.ring.push(series.last);
        }
        self.mark(id);
    }

    /// Takes the last reading once more.
    pub fn hold(&mut self, id: SeriesId, at: BootTime) {
        if let Some(Some(series)) = self.series.get(id as usize) {
            let value = series.last.value;
            self.read(id, value, at);
        }
    }

    /// Ends a series.
    pub fn end(&mut self, id: SeriesId) {
        let Some(slot) = self.series.get_mut(id as usize) else {
            return;
        };
        let Some(series) = slot.take() else { return };
        self.live -= 1;
        if series.dirty {
            self.dirty.retain(|dirty| *dirty != id);
        }
        if self.streaming && series.defined {
            self.gone.push(id);
        } else {
            self.free.push(id);
        }
    }

    /// Tells the interval at which a series is read from now on.
    pub fn set_interval(&mut self, id: SeriesId, interval: Duration) {
        let Some(Some(series)) = self.series.get_mut(id as usize) else {
            return;
        };
        if series.meaning.interval != interval {
            series.meaning.interval = interval;
            series.defined = false;
            self.mark(id);
        }
    }

    /// Series that live.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Readings dropped because a counter went backwards, since the start.
    pub fn backwards(&self) -> u64 {
        self.backwards
    }

    /// Whether a batch would carry anything.
    pub fn has_changes(&self) -> bool {
        !(self.dirty.is_empty() && self.gone.is_empty())
    }

    /// A new stream that knows nothing takes what changes from now on. All series are
    /// to be told by [`Table::replay`].
    pub fn attach(&mut self) {
        self.forget_stream();
        self.streaming = true;
    }

    /// No stream takes anything.
    pub fn detach(&mut self) {
        self.forget_stream();
        self.streaming = false;
    }

    fn forget_stream(&mut self) {
        self.free.append(&mut self.gone);
        self.dirty.clear();
        for series in self.series.iter_mut().flatten() {
            series.told = None;
            series.defined = false;
            series.dirty = false;
        }
    }

    fn mark(&mut self, id: SeriesId) {
        if !self.streaming {
            return;
        }
        if let Some(Some(series)) = self.series.get_mut(id as usize)
            && !series.dirty
        {
            series.dirty = true;
            self.dirty.push(id);
        }
    }

    /// History of the series from index `from` on, of at most `limit` series, and where to go
    /// on; `None` when that was the last. Marks them as told.
    pub fn replay(
        &mut self,
        from: usize,
        limit: usize,
        now: BootTime,
    ) -> (node::Replay, Option<usize>) {
        let mut replay = node::Replay {
            boottime_ns: now.as_nanos(),
            ..node::Replay::default()
        };
        let mut next = from;
        for (index, slot) in self.series.iter_mut().enumerate().skip(from) {
            if replay.series.len() >= limit {
                break;
            }
            next = index + 1;
            let (Some(series), Ok(id)) = (slot, SeriesId::try_from(index)) else {
                continue;
            };
            replay.defined.push(series.meaning.definition(id));
            replay.series.push(series.history(id, now));
            series.defined = true;
            series.told = Some(Told::now(series.last));
            series.last.peak = series.last.value;
        }
        let more = next < self.series.len();
        replay.last = !more;
        (replay, more.then_some(next))
    }

    /// What changed since the last call, relative to `now`. Marks it as told.
    pub fn take_changes(&mut self, now: BootTime) -> Changes {
        let mut changes = Changes {
            gone: std::mem::take(&mut self.gone),
            ..Changes::default()
        };
        self.free.extend_from_slice(&changes.gone);
        for id in self.dirty.drain(..) {
            let Some(Some(series)) = self.series.get_mut(id as usize) else {
                continue;
            };
            series.dirty = false;
            if !series.defined {
                changes.defined.push(series.meaning.definition(id));
                series.defined = true;
            }
            series.tell(id, now, &mut changes);
        }
        changes
    }
}

impl Told {
    fn now(last: Point) -> Self {
        Self {
            at: last.at,
            value: last.value,
            held_until: last.at,
        }
    }
}

impl Series {
    fn tell(&mut self, id: SeriesId, now: BootTime, changes: &mut Changes) {
        let Point {
            at,
            value,
            integral,
            peak,
        } = self.last;
        let age_us = now.micros_since_u32(at);
        if self.gauge {
            changes.gauges.push(node::GaugePoint {
                series: id,
                age_us,
                integral,
                last: value,
                peak,
            });
            self.last.peak = value;
        } else {
            let unchanged_us = match self.told {
                // Only its definition changed.
                Some(told) if told.value == value => return,
                Some(told) if told.held_until > told.at => at.micros_since_u32(told.held_until),
                _ => 0,
            };
            changes.counters.push(node::CounterPoint {
                series: id,
                age_us,
                value,
                unchanged_us,
            });
        }
        self.told = Some(Told::now(self.last));
    }

    fn history(&self, id: SeriesId, now: BootTime) -> node::ReplaySeries {
        let points = self.ring.points();
        let mut history = node::ReplaySeries {
            series: id,
            ..node::ReplaySeries::default()
        };
        let latest =
            Some(self.last).filter(|last| points.last().is_none_or(|point| point.at < last.at));
        for point in points.iter().chain(&latest) {
            history
                .ages_us
                .push(u64::try_from(now.since(point.at).as_micros()).unwrap_or(u64::MAX));
            history.values.push(point.value);
            if self.gauge {
                history.integrals.push(point.integral);
                history.peaks.push(point.peak);
            }
        }
        history
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
