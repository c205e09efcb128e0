//! Series of the node itself.

use std::time::Duration;

use neap_proto::node::SeriesKind;

use crate::clock::BootTime;
use crate::directives::Settings;
use crate::node::{NodeReader, Resource};
use crate::series::slot::Slot;
use crate::series::table::{Meaning, Table};

const PRESSURE: [(Resource, SeriesKind, SeriesKind); 3] = [
    (
        Resource::Cpu,
        SeriesKind::NodePressureCpuSome,
        SeriesKind::NodePressureCpuFull,
    ),
    (
        Resource::Memory,
        SeriesKind::NodePressureMemorySome,
        SeriesKind::NodePressureMemoryFull,
    ),
    (
        Resource::Io,
        SeriesKind::NodePressureIoSome,
        SeriesKind::NodePressureIoFull,
    ),
];

#[derive(Debug)]
pub(super) struct NodeSeries {
    interval: Duration,
    due: BootTime,
    totals: [(SeriesKind, Slot); 4],
    pressure: [(Slot, Slot); 3],
}

impl Default for NodeSeries {
    fn default() -> Self {
        let kinds = [
            SeriesKind::NodeCpuUsage,
            SeriesKind::NodeMemoryWorkingSet,
            SeriesKind::NodeMemoryAvailable,
            SeriesKind::NodeLoad1,
        ];
        Self {
            interval: Settings::default().node_interval,
            due: BootTime::default(),
            totals: kinds.map(|kind| (kind, Slot::default())),
            pressure: Default::default(),
        }
    }
}

impl NodeSeries {
    pub(super) fn due(&self) -> BootTime {
        self.due
    }

    pub(super) fn hurry(&mut self, now: BootTime) {
        self.due = self.due.min(now);
    }

    pub(super) fn set_interval(&mut self, interval: Duration, now: BootTime, table: &mut Table) {
        if self.interval == interval {
            return;
        }
        self.interval = interval;
        self.due = now;
        let pressure = self.pressure.iter().flat_map(|(some, full)| [some, full]);
        for slot in self.totals.iter().map(|(_, slot)| slot).chain(pressure) {
            slot.set_interval(table, interval);
        }
    }

    pub(super) fn read(
        &mut self,
        node: &NodeReader,
        now: BootTime,
        at: BootTime,
        buffer: &mut [u8],
        table: &mut Table,
    ) {
        let each = self.interval;
        let memory = node.memory(buffer);
        let values = [
            node.cpu_usage_us(buffer),
            memory.map(|memory| memory.working_set),
            memory.map(|memory| memory.available),
            node.load1_milli(buffer),
        ];
        for ((kind, slot), value) in self.totals.iter_mut().zip(values) {
            slot.set(table, value, at, || Meaning::of_node(*kind, each));
        }
        for ((some, full), (resource, some_kind, full_kind)) in
            self.pressure.iter_mut().zip(PRESSURE)
        {
            let pressure = node.pressure(resource, buffer).unwrap_or_default();
            some.set(table, pressure.some_us, at, || {
                Meaning::of_node(some_kind, each)
            });
            full.set(table, pressure.full_us, at, || {
                Meaning::of_node(full_kind, each)
            });
        }
        self.due = now.next_multiple(each);
    }
}
