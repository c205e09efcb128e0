//! CPU and memory of one container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::SeriesKind;

use super::usage::{MemoryFile, UsageFile};
use crate::cgroup::file::{CgroupFile, Scratch};
use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::parse::{self, CpuStat, MemoryEvents};
use crate::clock::BootTime;
use crate::process;
use crate::series::slot::Slot;
use crate::series::table::{Meaning, Table};

/// v1: looks at a group that was never throttled are this many CPU readings apart. Most groups
/// have no quota, and the file is one more to read.
const UNTHROTTLED_PAUSE: u8 = 10;

const CPU_KINDS: [SeriesKind; 4] = [
    SeriesKind::CpuUsage,
    SeriesKind::CpuPeriods,
    SeriesKind::CpuThrottledPeriods,
    SeriesKind::CpuThrottled,
];
const MEMORY_KINDS: [SeriesKind; 5] = [
    SeriesKind::MemoryWorkingSet,
    SeriesKind::MemoryEventsHigh,
    SeriesKind::MemoryEventsMax,
    SeriesKind::MemoryEventsOom,
    SeriesKind::MemoryEventsOomKill,
];

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: Arc<str>,
    /// Relative to the root of each hierarchy.
    pub(super) path: PathBuf,
    /// Of a container without a group: its first process.
    process: Option<Process>,
    usage: UsageFile,
    throttling: CgroupFile,
    throttling_pause: u8,
    last_throttling: CpuStat,
    current: MemoryFile,
    stat: CgroupFile,
    events: CgroupFile,
    failcnt: CgroupFile,
    cpu: [Slot; 4],
    memory: [Slot; 5],
}

/// A container that is read by /proc.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// CPU time so far. A descendant that ends without being waited for takes its own along.
    cpu_us: u64,
}

impl Container {
    pub(super) fn new(id: Arc<str>, path: PathBuf, process: Option<u32>) -> Self {
        Self {
            id,
            path,
            process: process.map(|pid| Process { pid, cpu_us: 0 }),
            usage: UsageFile::default(),
            throttling: CgroupFile::default(),
            throttling_pause: 0,
            last_throttling: CpuStat::default(),
            current: MemoryFile::default(),
            stat: CgroupFile::default(),
            events: CgroupFile::default(),
            failcnt: CgroupFile::default(),
            cpu: Default::default(),
            memory: Default::default(),
        }
    }

    /// The first process, where it has no group.
    pub(super) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Reads the CPU counters.
    pub(super) fn read_cpu(
        &mut self,
        pod: &Arc<str>,
        each: Duration,
        at: BootTime,
        reading: &mut Reading<'_>,
    ) {
        let stat = self.cpu_stat(each, reading);
        let values = [
            stat.usage_us,
            stat.periods,
            stat.throttled_periods,
            stat.throttled_us,
        ];
        for ((slot, kind), value) in self.cpu.iter_mut().zip(CPU_KINDS).zip(values) {
            slot.set(reading.table, value, at, || {
                Meaning::of_container(kind, pod, &self.id, each)
            });
        }
    }

    fn cpu_stat(&mut self, each: Duration, reading: &mut Reading<'_>) -> CpuStat {
        if let Some(process) = &mut self.process {
            let used = process::usage(Path::new("/proc"), process.pid);
            return CpuStat {
                usage_us: used.map(|used| {
                    process.cpu_us = process.cpu_us.max(used.cpu_us);
                    process.cpu_us
                }),
                ..CpuStat::default()
            };
        }
        let keep = keep(each);
        let stat = self.usage.read(&self.path, keep, reading);
        match &reading.hierarchies.cpu {
            Some(root) if stat.periods.is_none() => {
                let throttling = self.throttling(root, keep, reading.scratch);
                CpuStat {
                    usage_us: stat.usage_us,
                    ..throttling
                }
            }
            _ => stat,
        }
    }

    /// It is known that the CPU counters have not moved.
    pub(super) fn hold_cpu(&self, at: BootTime, table: &mut Table) {
        self.cpu.iter().for_each(|slot| slot.hold(table, at));
    }

    fn throttling(&mut self, root: &Path, keep: bool, scratch: &mut Scratch) -> CpuStat {
        if self.throttling_pause > 0 {
            self.throttling_pause -= 1;
            return self.last_throttling;
        }
        let read = self
            .throttling
            .read(root, &self.path, "cpu.stat", keep, scratch);
        self.last_throttling = read.map(parse::cpu_stat).unwrap_or_default();
        if self.last_throttling.periods == Some(0) {
            self.throttling_pause = UNTHROTTLED_PAUSE;
        }
        self.last_throttling
    }

    /// Reads the working set and the memory events.
    pub(super) fn read_memory(
        &mut self,
        pod: &Arc<str>,
        each: Duration,
        at: BootTime,
        reading: &mut Reading<'_>,
    ) {
        let (working_set, events) = self.memory(each, reading);
        let values = [
            working_set,
            events.high,
            events.max,
            events.oom,
            events.oom_kill,
        ];
        for ((slot, kind), value) in self.memory.iter_mut().zip(MEMORY_KINDS).zip(values) {
            slot.set(reading.table, value, at, || {
                Meaning::of_container(kind, pod, &self.id, each)
            });
        }
    }

    fn memory(&mut self, each: Duration, reading: &mut Reading<'_>) -> (Option<u64>, MemoryEvents) {
        if let Some(process) = &self.process {
            let used = process::usage(Path::new("/proc"), process.pid);
            return (used.map(|used| used.resident), MemoryEvents::default());
        }
        let keep = keep(each);
        let usage = self.current.read(&self.path, keep, reading);
        let Reading {
            hierarchies,
            scratch,
            ..
        } = reading;
        let (root, v1) = match (&hierarchies.memory, &hierarchies.unified) {
            (Some(root), _) => (root, true),
            (None, Some(root)) => (root, false),
            (None, None) => return (None, MemoryEvents::default()),
        };
        let inactive = self
            .stat
            .read(root, &self.path, "memory.stat", keep, scratch)
            .and_then(parse::inactive_file);
        let name = if v1 {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        let mut events = self
            .events
            .read(root, &self.path, name, keep, scratch)
            .map(parse::memory_events)
            .unwrap_or_default();
        if v1 {
            events.max = self
                .failcnt
                .read(root, &self.path, "memory.failcnt", keep, scratch)
                .and_then(parse::number);
        }
        (working_set(usage, inactive), events)
    }

    /// It is known that memory has not moved.
    pub(super) fn hold_memory(&self, at: BootTime, table: &mut Table) {
        self.memory.iter().for_each(|slot| slot.hold(table, at));
    }

    pub(super) fn set_intervals(&self, cpu: Duration, memory: Duration, table: &mut Table) {
        self.cpu
            .iter()
            .for_each(|slot| slot.set_interval(table, cpu));
        self.memory
            .iter()
            .for_each(|slot| slot.set_interval(table, memory));
    }

    pub(super) fn end(&mut self, table: &mut Table) {
        self.cpu
            .iter_mut()
            .chain(&mut self.memory)
            .for_each(|slot| slot.end(table));
    }
}

fn working_set(usage: Option<u64>, inactive: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive?))
}

/// What a reading needs at hand.
pub(super) struct Reading<'a> {
    pub(super) hierarchies: &'a Hierarchies,
    pub(super) scratch: &'a mut Scratch,
    pub(super) table: &'a mut Table,
}

/// Files that are read at least this often are kept open.
pub(super) fn keep(each: Duration) -> bool {
    each <= Duration::from_secs(2)
}

#[cfg(test)]
#[path = "container_test.rs"]
mod tests;
