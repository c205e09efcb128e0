//! Which processes were started, on disk: what a `kill -9` of this process leaves running is found and
//! stopped at the next start.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::environment::STATE;
use super::objects::replace;

const FILE: &str = "processes.json";
/// What does not end on SIGTERM within this time gets SIGKILL.
const TERM_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EACH: Duration = Duration::from_millis(20);

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    pod: String,
    /// Start of the process in clock ticks since boot (field 22 of /proc/PID/stat): a process id
    /// alone comes again.
    started: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    boot: String,
    processes: BTreeMap<u32, Entry>,
}

/// Keeps the list.
#[derive(Debug)]
pub(super) struct Journal {
    file: PathBuf,
    written: Mutex<Written>,
}

impl Journal {
    /// An empty one in `state_dir`, in place of any former.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join(FILE),
            written: Mutex::new(Written {
                boot: boot_id(),
                processes: BTreeMap::new(),
            }),
        }
    }

    // Each change under this lock is one insertion or removal: a panic leaves nothing half done.
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `pid` runs for `pod`.
    pub(super) fn add(&self, pid: u32, pod: &str) {
        let Some(stat) = Stat::read(pid) else { return };
        let mut written = self.written();
        let entry = Entry {
            pod: pod.to_owned(),
            started: stat.started,
        };
        written.processes.insert(pid, entry);
        self.write(&written);
    }

    /// `pid` ended.
    pub(super) fn remove(&self, pid: u32) {
        let mut written = self.written();
        written.processes.remove(&pid);
        self.write(&written);
    }

    fn write(&self, written: &Written) {
        let bytes = serde_json::to_vec(written).unwrap_or_default();
        if let Err(error) = replace(&self.file, &bytes) {
            tracing::warn!(file = %self.file.display(), %error, "started processes are not noted");
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Of /proc/PID/stat.
struct Stat {
    group: u32,
    started: u64,
    gone: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // "PID (name) state ppid pgrp ...", and the name may hold anything, ")" included.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            gone: matches!(fields.first(), Some(&"Z" | &"X")),
        })
    }
}

/// Processes that an earlier run on this state folder left behind: those of its journal, their process
/// groups, and whatever carries the folder's name in its environment.
fn orphans(state_dir: &Path) -> Vec<u32> {
    let journal: Written = std::fs::read(state_dir.join(FILE))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let same_boot = journal.boot == boot_id();
    let mark = format!("{STATE}={}", state_dir.display());
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let Some(stat) = Stat::read(*pid).filter(|stat| !stat.gone) else {
                return false;
            };
            let noted = journal.processes.get(pid);
            if same_boot && noted.is_some_and(|entry| entry.started == stat.started) {
                return true;
            }
            // A group keeps its number taken: one whose leader ended is still the noted one, unless the
            // leader lives with another start.
            let leader = Stat::read(stat.group).map(|leader| leader.started);
            let of_group = journal
                .processes
                .get(&stat.group)
                .is_some_and(|entry| leader.is_none_or(|started| started == entry.started));
            (same_boot && of_group) || is_marked(*pid, mark.as_bytes())
        })
        .collect()
}

fn is_marked(pid: u32, mark: &[u8]) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark))
}

/// Stops what an earlier run left behind, first by SIGTERM. Gives the processes that it stopped.
///
/// # Errors
/// Some of them do not go.
pub(super) async fn stop_orphans(state_dir: &Path) -> io::Result<Vec<u32>> {
    let found = orphans(state_dir);
    let mut left = found.clone();
    for signal in [Signal::TERM, Signal::KILL] {
        for pid in &left {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                // Fails when it went by itself.
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
        let mut looks = TERM_WITHIN.as_millis() / LOOK_EACH.as_millis();
        while !left.is_empty() && looks > 0 {
            tokio::time::sleep(LOOK_EACH).await;
            looks -= 1;
            left = orphans(state_dir);
        }
    }
    if left.is_empty() {
        return Ok(found);
    }
    Err(io::Error::other(format!(
        "processes {left:?} of an earlier run do not end; stop them"
    )))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn what_a_killed_run_left_is_stopped_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let sleeper = |marked: bool| {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null());
            if marked {
                command.env(STATE, state);
            }
            command.spawn().unwrap()
        };
        let (mut noted, mut marked, mut other, mut reused) = (
            sleeper(false),
            sleeper(true),
            sleeper(false),
            sleeper(false),
        );
        let journal = Journal::new(state);
        journal.add(noted.id(), "default/web-1");
        // A process id that came again: another start.
        journal.add(reused.id(), "default/web-2");
        journal
            .written()
            .processes
            .get_mut(&reused.id())
            .unwrap()
            .started -= 1;
        journal.write(&journal.written());

        // The parent has to wait for them before they are gone.
        let waits = std::thread::spawn(move || (noted.wait().unwrap(), marked.wait().unwrap()));
        let mut stopped = stop_orphans(state).await.unwrap();
        stopped.sort_unstable();
        let (noted, marked) = waits.join().unwrap();
        assert_eq!(stopped.len(), 2, "{stopped:?}");
        assert!(!noted.success() && !marked.success());
        for alive in [&mut other, &mut reused] {
            assert!(alive.try_wait().unwrap().is_none(), "it was not of the run");
            alive.kill().unwrap();
            alive.wait().unwrap();
        }
        assert!(stop_orphans(state).await.unwrap().is_empty());
    }
}
