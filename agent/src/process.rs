//! What a process and its descendants use, from /proc: for containers that have no group.

use std::fs;
use std::path::Path;

use crate::cgroup::parse::number;

/// USER_HZ is 100 on every Linux architecture that Neap is built for.
const MICROS_PER_TICK: u64 = 10_000;
/// Descendants that are looked at; one that forks without end is not followed for ever.
const MOST: usize = 4_096;

/// Totals of a process and its living descendants, and what those that ended left to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, microseconds. In steps of 10 ms.
    pub cpu_us: u64,
    /// Resident memory, bytes. Pages that processes share count for each.
    pub resident: u64,
}

/// What `pid` and its descendants use; none once it ended.
pub fn usage(proc_root: &Path, pid: u32) -> Option<Usage> {
    let page = rustix::param::page_size() as u64;
    let mut sum = Usage::default();
    let mut next = vec![pid];
    let mut seen = 0;
    while let Some(one) = next.pop() {
        seen += 1;
        let directory = proc_root.join(one.to_string());
        let read = fs::read(directory.join("stat"))
            .ok()
            .and_then(|stat| read_stat(&stat));
        let Some((cpu_us, pages)) = read else {
            if one == pid {
                return None;
            }
            continue;
        };
        sum.cpu_us += cpu_us;
        sum.resident += pages * page;
        if seen + next.len() >= MOST {
            continue;
        }
        let threads = fs::read_dir(directory.join("task"));
        for thread in threads.into_iter().flatten().filter_map(Result::ok) {
            let children = fs::read(thread.path().join("children")).unwrap_or_default();
            let pids = children.split(|byte| *byte == b' ').filter_map(number);
            next.extend(pids.filter_map(|pid| u32::try_from(pid).ok()));
        }
    }
    Some(sum)
}

/// CPU time of a living process and of its children that ended and were waited for, and its
/// resident pages (proc_pid_stat(5): utime, stime, cutime, cstime, rss). A zombie uses nothing more.
fn read_stat(stat: &[u8]) -> Option<(u64, u64)> {
    // "PID (name) state ...", and the name may hold anything, ")" included.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&[u8]> = stat.get(after + 2..)?.split(|byte| *byte == b' ').collect();
    if matches!(fields.first(), Some(&b"Z" | &b"X")) {
        return None;
    }
    let field = |at: usize| fields.get(at - 3).copied().and_then(number);
    let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
    Some((ticks * MICROS_PER_TICK, field(24)?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_of_stat_is_read_from_the_end_of_the_name() {
        let line = b"7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 11 22 33 44 20 0 1 0 5 1000 9 0";
        assert_eq!(read_stat(line), Some((1_100_000, 9)));
        assert_eq!(
            read_stat(b"7 (a) Z 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 5 0 0 0"),
            None
        );
        assert_eq!(read_stat(b"7 (a"), None);
    }

    #[test]
    fn a_child_counts_with_its_parent() {
        let proc_root = Path::new("/proc");
        // The shell stays and waits; its child burns.
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let burnt = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            usage(proc_root, shell.id()).is_some_and(|usage| usage.cpu_us >= 50_000)
        });
        let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id())).unwrap();
        let pid = child
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(burnt, "the child's time was not found at its parent");
        assert_eq!(usage(proc_root, shell.id()), None, "it ended");
    }
}
