//! One pod: its containers, its pressure and its sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::{PortListening, SeriesKind};

use super::container::{Container, Reading, keep};
use super::sockets::{Sockets, Surroundings};
use super::usage::{MemoryFile, UsageFile};
use crate::cgroup::file::CgroupFile;
use crate::cgroup::parse::{self, Pressure};
use crate::clock::BootTime;
use crate::directives::PodPlan;
use crate::series::slot::Slot;
use crate::series::table::{Meaning, Table};

const PRESSURE: [(&str, SeriesKind, SeriesKind); 3] = [
    (
        "cpu.pressure",
        SeriesKind::PressureCpuSome,
        SeriesKind::PressureCpuFull,
    ),
    (
        "memory.pressure",
        SeriesKind::PressureMemorySome,
        SeriesKind::PressureMemoryFull,
    ),
    (
        "io.pressure",
        SeriesKind::PressureIoSome,
        SeriesKind::PressureIoFull,
    ),
];

/// Readings of a pod at rest between two looks at its pressure.
///
/// Nothing can stall that did not run before, so a pod that used no CPU time since the last
/// reading, and was not stalled then, has nothing new to say but in one case: a task that was woken and has
/// waited for a CPU since. That case is seen as soon as it runs, and this often if it never does.
pub(super) const PRESSURE_PAUSE: u8 = 5;

/// Readings of a pod at rest between two looks at the memory of its containers.
///
/// Memory is charged by those who run. A pod that used no CPU time since the last reading and
/// holds to the page what it held then has the working sets and the events that it had, but
/// where the node's own reclaim has called some of its file cache inactive without taking it.
pub(super) const MEMORY_PAUSE: u8 = 5;

/// One pod.
#[derive(Debug)]
pub(super) struct Pod {
    uid: Arc<str>,
    path: PathBuf,
    plan: PodPlan,
    containers: Vec<Container>,
    usage: UsageFile,
    /// CPU time of all containers together at the last reading.
    used: Option<u64>,
    pressure: [PressureFile; 3],
    pressure_pause: u8,
    memory: MemoryFile,
    /// CPU time and memory of all containers together at the last reading of memory.
    charged: Option<(u64, u64)>,
    memory_pause: u8,
    sockets: Sockets,
    usage_due: BootTime,
    memory_due: BootTime,
}

#[derive(Debug, Default)]
struct PressureFile {
    file: CgroupFile,
    last: Pressure,
    some: Slot,
    full: Slot,
}

impl Pod {
    /// A pod whose containers are not known yet; `path` is its cgroup.
    /// `ports` stand for those that the pod declares, where it has no network of its own.
    pub(super) fn new(
        uid: Arc<str>,
        path: PathBuf,
        plan: PodPlan,
        ports: Vec<(u16, u16)>,
        now: BootTime,
    ) -> Self {
        let mut pod = Self {
            uid,
            path,
            plan: plan.clone(),
            containers: Vec::new(),
            usage: UsageFile::default(),
            used: None,
            pressure: Default::default(),
            pressure_pause: 0,
            memory: MemoryFile::default(),
            charged: None,
            memory_pause: 0,
            sockets: Sockets::new(ports),
            usage_due: now,
            memory_due: now,
        };
        pod.sockets.set_plan(&plan, now, &mut Table::default());
        pod
    }

    /// `process` is the first one of a container without a group.
    pub(super) fn add_container(
        &mut self,
        id: Arc<str>,
        path: PathBuf,
        process: Option<u32>,
        now: BootTime,
    ) {
        if !self.containers.iter().any(|container| container.id == id) {
            self.containers.push(Container::new(id, path, process));
            // A first point as early as possible: a rate needs two. And of all, whatever was used.
            self.used = None;
            self.charged = None;
            self.usage_due = now;
            self.memory_due = now;
            self.sockets.check_now(now);
        }
    }

    pub(super) fn remove_container(&mut self, id: &str, now: BootTime, table: &mut Table) {
        self.containers.retain_mut(|container| {
            let stays = *container.id != *id;
            if !stays {
                container.end(table);
            }
            stays
        });
        self.sockets.check_now(now);
    }

    pub(super) fn containers(&self) -> usize {
        self.containers.len()
    }

    pub(super) fn set_plan(&mut self, plan: PodPlan, now: BootTime, table: &mut Table) {
        if plan == self.plan {
            return;
        }
        if plan.interval != self.plan.interval || plan.memory_interval != self.plan.memory_interval
        {
            for container in &self.containers {
                container.set_intervals(plan.interval, plan.memory_interval, table);
            }
            for pressure in &self.pressure {
                pressure.some.set_interval(table, plan.interval);
                pressure.full.set_interval(table, plan.interval);
            }
            self.usage_due = self.usage_due.min(now);
            self.memory_due = self.memory_due.min(now);
        }
        self.sockets.set_plan(&plan, now, table);
        self.plan = plan;
    }

    /// When something has to be read next.
    pub(super) fn due(&self) -> BootTime {
        self.usage_due.min(self.memory_due).min(self.sockets.due())
    }

    /// Looks up the sockets that are due.
    pub(super) fn read_sockets(
        &mut self,
        now: BootTime,
        surroundings: &mut Surroundings<'_>,
        table: &mut Table,
    ) {
        if self.sockets.due() <= now {
            let containers = self
                .containers
                .iter()
                .map(|container| (container.path.as_path(), container.process()));
            self.sockets
                .read(&self.uid, &self.plan, containers, now, surroundings, table);
        }
    }

    /// Reads the cgroup files that are due. `now` decides what is, `at` says when it was read.
    pub(super) fn read_cgroups(
        &mut self,
        now: BootTime,
        at: &dyn Fn() -> BootTime,
        reading: &mut Reading<'_>,
    ) {
        if self.usage_due <= now {
            self.read_usage(at, reading);
            self.usage_due = now.next_multiple(self.plan.interval);
        }
        if self.memory_due <= now {
            self.read_memory(at, reading);
            self.memory_due = now.next_multiple(self.plan.memory_interval);
        }
    }

    /// The pod's own group counts for all that are in it, so one file tells whether the others have to be
    /// read: most pods of most nodes are at rest.
    fn read_usage(&mut self, at: &dyn Fn() -> BootTime, reading: &mut Reading<'_>) {
        let each = self.plan.interval;
        let now = at();
        let used = self.usage.read(&self.path, keep(each), reading).usage_us;
        let rested = used.is_some() && used == self.used;
        self.used = used;
        if rested {
            self.containers
                .iter()
                .for_each(|container| container.hold_cpu(now, reading.table));
        } else {
            for container in &mut self.containers {
                container.read_cpu(&self.uid, each, at(), reading);
            }
        }
        if rested && self.pressure_pause > 0 {
            self.pressure_pause -= 1;
        } else {
            let stalled = self.read_pressure(each, at(), reading);
            self.pressure_pause = if rested && !stalled {
                PRESSURE_PAUSE
            } else {
                0
            };
        }
    }

    /// As with usage: one file tells whether those of the containers have to be read.
    fn read_memory(&mut self, at: &dyn Fn() -> BootTime, reading: &mut Reading<'_>) {
        let each = self.plan.memory_interval;
        let now = at();
        let used = self
            .usage
            .read(&self.path, keep(self.plan.interval), reading)
            .usage_us;
        let charged = used.zip(self.memory.read(&self.path, keep(each), reading));
        let rested = charged.is_some() && charged == self.charged;
        self.charged = charged;
        if rested && self.memory_pause > 0 {
            self.memory_pause -= 1;
            self.containers
                .iter()
                .for_each(|container| container.hold_memory(now, reading.table));
            return;
        }
        self.memory_pause = if rested { MEMORY_PAUSE } else { 0 };
        for container in &mut self.containers {
            container.read_memory(&self.uid, each, at(), reading);
        }
    }

    /// Whether anything was stalled since the last reading.
    fn read_pressure(&mut self, each: Duration, at: BootTime, reading: &mut Reading<'_>) -> bool {
        let Some(root) = &reading.hierarchies.unified else {
            return false;
        };
        let mut stalled = false;
        for (pressure, (name, some, full)) in self.pressure.iter_mut().zip(PRESSURE) {
            let bytes = pressure
                .file
                .read(root, &self.path, name, keep(each), reading.scratch);
            let read = bytes.map(parse::pressure).unwrap_or_default();
            stalled |= read != pressure.last;
            pressure.last = read;
            pressure.some.set(reading.table, read.some_us, at, || {
                Meaning::of_pod(some, &self.uid, each)
            });
            pressure.full.set(reading.table, read.full_us, at, || {
                Meaning::of_pod(full, &self.uid, each)
            });
        }
        stalled
    }

    /// Reads usage and pressure at the next step, whatever the interval.
    pub(super) fn hurry(&mut self, now: BootTime) {
        self.usage_due = self.usage_due.min(now);
    }

    /// Ports that were found listening and not told to the stream.
    pub(super) fn take_listening(&mut self, found: &mut Vec<PortListening>) {
        self.sockets.take_listening(&self.uid, found);
    }

    /// A new stream has to be told again.
    pub(super) fn forget_told(&mut self) {
        self.sockets.forget_told();
    }

    pub(super) fn end(&mut self, table: &mut Table) {
        for container in &mut self.containers {
            container.end(table);
        }
        for pressure in &mut self.pressure {
            pressure.some.end(table);
            pressure.full.end(table);
        }
        self.sockets.end(table);
    }

    /// Whether the pod's namespace is held open.
    pub(super) fn holds_namespace(&self) -> bool {
        self.sockets.attached()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
