//! CPU time and memory in use of one cgroup, from whichever hierarchy has it.

use std::path::Path;

use super::container::Reading;
use crate::cgroup::file::CgroupFile;
use crate::cgroup::parse::{self, CpuStat};

/// `cpu.stat` of the cgroup2 tree, or v1's `cpuacct.usage`.
#[derive(Debug, Default)]
pub(super) struct UsageFile {
    v2: CgroupFile,
    v1: CgroupFile,
}

impl UsageFile {
    /// Reads it; throttling comes along where the cgroup2 tree has the cpu controller.
    pub(super) fn read(&mut self, cgroup: &Path, keep: bool, reading: &mut Reading<'_>) -> CpuStat {
        let Reading {
            hierarchies,
            scratch,
            ..
        } = reading;
        if let Some(root) = &hierarchies.unified
            && let Some(bytes) = self.v2.read(root, cgroup, "cpu.stat", keep, scratch)
        {
            return parse::cpu_stat(bytes);
        }
        let nanos = hierarchies.cpuacct.as_ref().and_then(|root| {
            self.v1
                .read(root, cgroup, "cpuacct.usage", keep, scratch)
                .and_then(parse::number)
        });
        CpuStat {
            usage_us: nanos.map(|nanos| nanos / 1000),
            ..CpuStat::default()
        }
    }
}

/// `memory.current`, or v1's `memory.usage_in_bytes`.
#[derive(Debug, Default)]
pub(super) struct MemoryFile(CgroupFile);

impl MemoryFile {
    /// Reads it, bytes.
    pub(super) fn read(
        &mut self,
        cgroup: &Path,
        keep: bool,
        reading: &mut Reading<'_>,
    ) -> Option<u64> {
        let Reading {
            hierarchies,
            scratch,
            ..
        } = reading;
        let (root, name) = match (&hierarchies.memory, &hierarchies.unified) {
            (Some(root), _) => (root, "memory.usage_in_bytes"),
            (None, Some(root)) => (root, "memory.current"),
            (None, None) => return None,
        };
        self.0
            .read(root, cgroup, name, keep, scratch)
            .and_then(parse::number)
    }
}
