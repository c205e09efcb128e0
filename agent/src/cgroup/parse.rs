//! Parsers of the kernel's cgroup and PSI files. They read bytes, allocate nothing, skip keys
//! they do not know, and give `None` for what is not there.

/// `cpu.stat` of cgroup v2, or the throttling part of it from v1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// CPU time used, microseconds.
    pub usage_us: Option<u64>,
    /// CFS periods in which the group was runnable.
    pub periods: Option<u64>,
    /// Of them, throttled.
    pub throttled_periods: Option<u64>,
    /// Time throttled, microseconds.
    pub throttled_us: Option<u64>,
}

/// `memory.events` of cgroup v2, or what v1 has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Times the group was throttled at memory.high.
    pub high: Option<u64>,
    /// Times usage was about to go over memory.max.
    pub max: Option<u64>,
    /// Times an allocation was about to fail.
    pub oom: Option<u64>,
    /// Processes killed.
    pub oom_kill: Option<u64>,
}

/// Totals of one PSI file, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Time in which some task was stalled.
    pub some_us: Option<u64>,
    /// Time in which all non-idle tasks were.
    pub full_us: Option<u64>,
}

/// A decimal number, surrounded by whitespace at most.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The `key value` lines of a flat keyed file.
pub fn keyed(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        let (key, value) = line.split_at(at);
        Some((key, number(value)?))
    })
}

/// Parses `cpu.stat`; v1 gives `throttled_time` in nanoseconds, v2 `throttled_usec`.
pub fn cpu_stat(bytes: &[u8]) -> CpuStat {
    let mut stat = CpuStat::default();
    for (key, value) in keyed(bytes) {
        match key {
            b"usage_usec" => stat.usage_us = Some(value),
            b"nr_periods" => stat.periods = Some(value),
            b"nr_throttled" => stat.throttled_periods = Some(value),
            b"throttled_usec" => stat.throttled_us = Some(value),
            b"throttled_time" => stat.throttled_us = Some(value / 1000),
            _ => {}
        }
    }
    stat
}

/// Parses `memory.events`, and v1's `memory.oom_control`, which has `oom_kill` alone.
pub fn memory_events(bytes: &[u8]) -> MemoryEvents {
    let mut events = MemoryEvents::default();
    for (key, value) in keyed(bytes) {
        match key {
            b"high" => events.high = Some(value),
            b"max" => events.max = Some(value),
            b"oom" => events.oom = Some(value),
            b"oom_kill" => events.oom_kill = Some(value),
            _ => {}
        }
    }
    events
}

/// File cache that is easily given back, from `memory.stat`: `inactive_file` of v2, or v1's
/// `total_inactive_file`, which includes children as v2's does.
pub fn inactive_file(bytes: &[u8]) -> Option<u64> {
    let mut plain = None;
    for (key, value) in keyed(bytes) {
        match key {
            b"total_inactive_file" => return Some(value),
            b"inactive_file" => plain = Some(value),
            _ => {}
        }
    }
    plain
}

/// Parses a PSI file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`.
pub fn pressure(bytes: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(at) = line.windows(6).rposition(|window| window == b"total=") else {
            continue;
        };
        let total = line.get(at + 6..).and_then(number);
        if line.starts_with(b"some ") {
            pressure.some_us = total;
        } else if line.starts_with(b"full ") {
            pressure.full_us = total;
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_stat_of_v2_and_of_v1() {
        let v2 = b"usage_usec 8123456\nuser_usec 5\nsystem_usec 6\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
                   nr_periods 40\nnr_throttled 3\nthrottled_usec 71234\nnr_bursts 0\nburst_usec 0\n";
        assert_eq!(
            cpu_stat(v2),
            CpuStat {
                usage_us: Some(8_123_456),
                periods: Some(40),
                throttled_periods: Some(3),
                throttled_us: Some(71_234)
            }
        );
        let short = b"usage_usec 12\nuser_usec 5\nsystem_usec 6\n";
        assert_eq!(
            cpu_stat(short),
            CpuStat {
                usage_us: Some(12),
                ..CpuStat::default()
            }
        );
        let v1 = b"nr_periods 40\nnr_throttled 3\nthrottled_time 71234999\n";
        assert_eq!(
            cpu_stat(v1),
            CpuStat {
                usage_us: None,
                periods: Some(40),
                throttled_periods: Some(3),
                throttled_us: Some(71_234)
            }
        );
    }

    #[test]
    fn memory_of_v2_and_of_v1() {
        assert_eq!(
            memory_events(b"low 0\nhigh 7\nmax 5\noom 1\noom_kill 2\noom_group_kill 0\n"),
            MemoryEvents {
                high: Some(7),
                max: Some(5),
                oom: Some(1),
                oom_kill: Some(2)
            }
        );
        assert_eq!(
            memory_events(b"oom_kill_disable 0\nunder_oom 0\noom_kill 9\n"),
            MemoryEvents {
                oom_kill: Some(9),
                ..MemoryEvents::default()
            }
        );
        assert_eq!(
            inactive_file(b"anon 1\ninactive_file 4096\nactive_file 2\n"),
            Some(4096)
        );
        assert_eq!(
            inactive_file(b"cache 1\ninactive_file 1\ntotal_inactive_file 8192\n"),
            Some(8192)
        );
        assert_eq!(inactive_file(b"anon 1\n"), None);
    }

    #[test]
    fn pressure_with_and_without_full() {
        let both = b"some avg10=1.53 avg60=0.00 avg300=0.00 total=9876543210\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
        assert_eq!(
            pressure(both),
            Pressure {
                some_us: Some(9_876_543_210),
                full_us: Some(17)
            }
        );
        let some = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(
            pressure(some),
            Pressure {
                some_us: Some(1),
                full_us: None
            }
        );
    }

    #[test]
    fn nonsense_is_absent_and_not_zero() {
        assert_eq!(number(b"max"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"99999999999999999999999"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(
            cpu_stat(b"usage_usec x\nnr_periods\n\n"),
            CpuStat::default()
        );
        assert_eq!(pressure(b"some total=\nfull nothing"), Pressure::default());
    }
}
