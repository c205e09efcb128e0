//! Totals of the node, from /proc.
//!
//! Read directly rather than through a library: one kept file each, and no allocation per
//! reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::cgroup::parse::{Pressure, number, pressure};

/// Clock ticks per second in /proc/stat: USER_HZ, 100 on every Linux architecture that Neap
/// is built for.
const MICROS_PER_TICK: u64 = 10_000;

/// Memory of the node, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal.
    pub total: u64,
    /// MemAvailable.
    pub available: u64,
    /// MemTotal - MemFree - Inactive(file), as the kubelet counts a node's working set.
    pub working_set: u64,
}

/// Which pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// cpu
    Cpu,
    /// memory
    Memory,
    /// io
    Io,
}

/// The files, kept open.
#[derive(Debug)]
pub struct NodeReader {
    stat: File,
    meminfo: File,
    loadavg: File,
    pressure: [Option<File>; 3],
}

impl NodeReader {
    /// Opens them below `proc_root`. Pressure may be missing, the others not.
    ///
    /// # Errors
    /// The file that cannot be opened, by name.
    pub fn open(proc_root: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            File::open(proc_root.join(name)).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{}: {error}", proc_root.join(name).display()),
                )
            })
        };
        // Without CONFIG_PSI the files are missing; with psi=0 they exist and cannot be opened.
        let pressure =
            ["pressure/cpu", "pressure/memory", "pressure/io"].map(|name| open(name).ok());
        Ok(Self {
            stat: open("stat")?,
            meminfo: open("meminfo")?,
            loadavg: open("loadavg")?,
            pressure,
        })
    }

    /// Whether the kernel has PSI.
    pub fn has_pressure(&self) -> bool {
        self.pressure.iter().any(Option::is_some)
    }

    /// CPU time used by all CPUs, microseconds: not idle, and not waiting for I/O.
    pub fn cpu_usage_us(&self, buffer: &mut [u8]) -> Option<u64> {
        cpu_usage_us(read(&self.stat, buffer)?)
    }

    /// Memory.
    pub fn memory(&self, buffer: &mut [u8]) -> Option<Memory> {
        memory(read(&self.meminfo, buffer)?)
    }

    /// One minute load average in thousandths.
    pub fn load1_milli(&self, buffer: &mut [u8]) -> Option<u64> {
        load1_milli(read(&self.loadavg, buffer)?)
    }

    /// Totals of one resource.
    pub fn pressure(&self, resource: Resource, buffer: &mut [u8]) -> Option<Pressure> {
        let file = self.pressure.get(resource as usize)?.as_ref()?;
        Some(pressure(read(file, buffer)?))
    }
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = file.read_at(buffer, 0).ok()?;
    buffer.get(..length)
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; guest
/// time is part of user.
fn cpu_usage_us(stat: &[u8]) -> Option<u64> {
    let line = stat
        .split(|byte| *byte == b'\n')
        .next()?
        .strip_prefix(b"cpu ")?;
    let fields = line
        .split(|byte| *byte == b' ')
        .filter(|field| !field.is_empty());
    let mut ticks = 0u64;
    let mut seen = 0;
    for (at, field) in fields.enumerate().take(8) {
        let value = number(field)?;
        seen += 1;
        if at != 3 && at != 4 {
            ticks = ticks.checked_add(value)?;
        }
    }
    (seen >= 4).then(|| ticks.saturating_mul(MICROS_PER_TICK))
}

fn memory(meminfo: &[u8]) -> Option<Memory> {
    let (mut total, mut free, mut available, mut inactive) = (None, None, None, None);
    for line in meminfo.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let wanted = match name {
            b"MemTotal" => &mut total,
            b"MemFree" => &mut free,
            b"MemAvailable" => &mut available,
            b"Inactive(file)" => &mut inactive,
            _ => continue,
        };
        *wanted = value
            .get(1..)
            .map(|value| value.strip_suffix(b" kB").unwrap_or(value))
            .and_then(number);
    }
    let kib = |value: Option<u64>| value.map(|value| value.saturating_mul(1024));
    let (total, free) = (kib(total)?, kib(free)?);
    Some(Memory {
        total,
        available: kib(available)?,
        working_set: total.saturating_sub(free).saturating_sub(kib(inactive)?),
    })
}

/// `0.52 0.58 0.59 1/467 12345`: two decimals.
fn load1_milli(loadavg: &[u8]) -> Option<u64> {
    let first = loadavg.split(|byte| *byte == b' ').next()?;
    let dot = first.iter().position(|byte| *byte == b'.')?;
    let (whole, fraction) = first.split_at(dot);
    let hundredths = number(fraction.get(1..3)?)?;
    number(whole)?
        .checked_mul(1000)?
        .checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_usage_leaves_idle_and_iowait_out() {
        let stat = b"cpu  100 20 30 5000 700 1 2 3 50 6\ncpu0 1 2 3\nintr 99\n";
        assert_eq!(
            cpu_usage_us(stat),
            Some((100 + 20 + 30 + 1 + 2 + 3) * 10_000)
        );
        assert_eq!(cpu_usage_us(b"cpu  1 2\n"), None);
        assert_eq!(cpu_usage_us(b"intr 1\n"), None);
    }

    #[test]
    fn memory_as_the_kubelet_counts_it() {
        let meminfo =
            b"MemTotal:       1000 kB\nMemFree:         400 kB\nMemAvailable:    700 kB\n\
                        Inactive:        300 kB\nInactive(file):  150 kB\n";
        let kib = 1024;
        assert_eq!(
            memory(meminfo),
            Some(Memory {
                total: 1000 * kib,
                available: 700 * kib,
                working_set: 450 * kib
            })
        );
        assert_eq!(memory(b"MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn load_in_thousandths() {
        assert_eq!(load1_milli(b"12.34 0.58 0.59 1/467 12345\n"), Some(12_340));
        assert_eq!(load1_milli(b"0.05 0 0"), Some(50));
        assert_eq!(load1_milli(b"x"), None);
    }

    #[test]
    fn the_real_node_reads_plausibly() {
        let node = NodeReader::open(Path::new("/proc")).unwrap();
        let mut buffer = [0u8; 8192];
        let memory = node.memory(&mut buffer).unwrap();
        assert!(
            memory.total > memory.working_set && memory.working_set > 0,
            "{memory:?}"
        );
        assert!(node.cpu_usage_us(&mut buffer).unwrap() > 0);
        assert!(node.load1_milli(&mut buffer).is_some());
        assert_eq!(
            node.has_pressure(),
            node.pressure(Resource::Cpu, &mut buffer).is_some()
        );
    }

    #[test]
    fn a_missing_proc_is_an_error_that_names_the_file() {
        let empty = tempfile::tempdir().unwrap();
        let error = NodeReader::open(empty.path()).unwrap_err().to_string();
        assert!(error.contains("stat"), "{error}");
    }
}
