//! CPU time and memory of a process, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// User and system CPU time since it started.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss: u64,
}

/// Reads what process `id` has used.
///
/// # Errors
/// When there is no such process.
pub fn usage(id: u32) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))
        .with_context(|| format!("process {id}"))?;
    // The second field is the program's name in brackets, which may hold spaces.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<u64>().ok())
            .context("fields of /proc/ID/stat")
    };
    // utime and stime are fields 14 and 15 of the whole line, in ticks of 10 ms.
    let cpu = Duration::from_millis(10 * (ticks(11)? + ticks(12)?));
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let rss = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .context("VmRSS of /proc/ID/status")?;
    Ok(Usage {
        cpu,
        rss: rss * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::usage;

    #[test]
    fn reads_this_process() {
        let seen = usage(std::process::id()).unwrap();
        assert!(seen.rss > 100_000, "{seen:?}");
    }
}
