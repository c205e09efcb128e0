//! Pods' network namespaces: found by the processes in their cgroups, entered only to open a
//! socket there.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::diag::DiagSocket;

/// Which namespace: device and inode of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

/// A process's network namespace.
#[derive(Debug)]
pub struct Namespace {
    /// The process it was taken from.
    pub pid: u32,
    /// Which one it is.
    pub id: NamespaceId,
    file: File,
}

/// The way to namespaces. Belongs to one thread, which it moves for the length of a call.
#[derive(Debug)]
pub struct Namespaces {
    proc_root: PathBuf,
    own: File,
}

/// A thread that could not return from a pod's namespace must not go on.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The pod's namespace cannot be entered, or has no sock_diag.
    #[error("cannot open a sock_diag socket in the namespace of process {pid}")]
    Open {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Namespaces {
    /// Remembers the namespace of the calling thread. `proc_root` must show the processes of the
    /// node (hostPID).
    ///
    /// # Errors
    /// /proc/thread-self/ns/net cannot be opened.
    pub fn new(proc_root: &Path) -> io::Result<Self> {
        Ok(Self {
            proc_root: proc_root.to_owned(),
            own: File::open("/proc/thread-self/ns/net")?,
        })
    }

    /// Whether this process may enter namespaces at all: enters its own.
    pub fn permitted(&self) -> bool {
        move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Network)).is_ok()
            && self.sees_the_node()
    }

    /// With a pid namespace of its own the agent sees 0 for the processes of others.
    fn sees_the_node(&self) -> bool {
        let own = std::process::id();
        let inner = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("NSpid:"))?;
                line.split_whitespace().last()?.parse::<u32>().ok()
            });
        inner == Some(own) && self.proc_root.join("1/ns/net").symlink_metadata().is_ok()
    }

    /// Which namespace a process is in; none if it ended or may not be asked.
    pub fn id_of(&self, pid: u32) -> Option<NamespaceId> {
        let metadata = std::fs::metadata(self.path(pid)).ok()?;
        Some(NamespaceId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The namespace of a pod, given the processes of one of its containers.
    ///
    /// Taken from the container's first process: the one whose parent is outside the container.
    /// A runtime starts it in the node's namespace and moves it, so for a pod with a namespace
    /// of its own (`host_network` false) the answer is none as long as it shares its
    /// parent's.
    pub fn of_container(&self, pids: &[u32], host_network: bool) -> Option<Namespace> {
        let mut pid = *pids.first()?;
        let mut parent = self.parent_of(pid)?;
        // A chain of parents is at most as long as there are processes.
        for _ in 0..pids.len() {
            if !pids.contains(&parent) {
                break;
            }
            pid = parent;
            parent = self.parent_of(pid)?;
        }
        let file = File::open(self.path(pid)).ok()?;
        let metadata = file.metadata().ok()?;
        let id = NamespaceId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        if !host_network && parent != 0 && self.id_of(parent) == Some(id) {
            return None;
        }
        Some(Namespace { pid, id, file })
    }

    /// Opens a sock_diag socket inside a namespace. The calling thread enters it and returns.
    ///
    /// # Errors
    /// [`EnterError`].
    ///
    /// # Panics
    /// When the thread cannot return to its own namespace, which it was in a moment before: to go
    /// on in a pod's would be worse than to end.
    pub fn open_diag(&self, namespace: &Namespace) -> Result<DiagSocket, EnterError> {
        let failed = |source| EnterError::Open {
            pid: namespace.pid,
            source,
        };
        if self.is_own(namespace.id) {
            // Nothing to enter, and no right needed.
            return DiagSocket::open().map_err(failed);
        }
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.file.as_fd(), kind)
            .map_err(|errno| failed(errno.into()))?;
        let socket = DiagSocket::open();
        let back = move_into_link_name_space(self.own.as_fd(), kind);
        assert!(
            back.is_ok(),
            "cannot return to the agent's own network namespace: {back:?}"
        );
        socket.map_err(failed)
    }

    fn is_own(&self, id: NamespaceId) -> bool {
        self.own.metadata().is_ok_and(|own| {
            id == NamespaceId {
                device: own.dev(),
                inode: own.ino(),
            }
        })
    }

    /// `/proc/PID/net/snmp` of a process in the namespace. An open one holds the namespace.
    ///
    /// # Errors
    /// The process ended.
    pub fn open_snmp(&self, pid: u32) -> io::Result<File> {
        File::open(self.proc_root.join(pid.to_string()).join("net/snmp"))
    }

    fn parent_of(&self, pid: u32) -> Option<u32> {
        let stat =
            std::fs::read_to_string(self.proc_root.join(pid.to_string()).join("stat")).ok()?;
        // "PID (name) state ppid ...", and the name may hold anything, ")" included.
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.proc_root.join(pid.to_string()).join("ns/net")
    }
}

/// Connections that entered an accept queue of the namespace: `PassiveOpens` of the two `Tcp:`
/// lines of /proc/PID/net/snmp.
pub fn passive_opens(snmp: &[u8]) -> Option<u64> {
    let mut lines = snmp
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let words = |line| <[u8]>::split(line, |byte| *byte == b' ');
    let at = words(names).position(|name| name == b"PassiveOpens")?;
    crate::cgroup::parse::number(words(values).nth(at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passive_opens_are_found_by_name() {
        let snmp = b"Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm RtoMin ActiveOpens PassiveOpens AttemptFails\nTcp: 1 200 17 34 0\nUdp: x\n";
        assert_eq!(passive_opens(snmp), Some(34));
        assert_eq!(passive_opens(b"Tcp: ActiveOpens\nTcp: 17\n"), None);
        assert_eq!(passive_opens(b"Tcp: PassiveOpens\n"), None);
    }

    #[test]
    fn a_process_in_its_parents_namespace_is_not_yet_in_its_own() {
        let namespaces = Namespaces::new(Path::new("/proc")).unwrap();
        let own = std::process::id();
        let shared = namespaces.of_container(&[own], true).unwrap();
        assert_eq!((shared.pid, Some(shared.id)), (own, namespaces.id_of(own)));
        assert!(namespaces.of_container(&[own], false).is_none());
        assert!(namespaces.of_container(&[], true).is_none());
        assert!(namespaces.id_of(u32::MAX).is_none());
    }
}
