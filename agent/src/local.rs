//! Pods that are processes of this machine and no kubelet's: what `neap up` runs.
//!
//! Whoever starts the processes keeps a [`LocalPods`] current. All of them share the machine's
//! network namespace, so each listens on a port of its own in place of the one that its
//! container declares; what is read there is reported under the declared one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::EventfdFlags;

use crate::cgroup::hierarchy::{Hierarchies, Mode};
use crate::cgroup::tree::{Change, Tree};

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its running containers.
    pub containers: Vec<LocalContainer>,
    /// Each declared port and the port that stands for it.
    pub ports: Vec<(u16, u16)>,
}

/// One container: a process and its descendants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalContainer {
    /// Its id, as in the pod's status.
    pub id: Arc<str>,
    /// The first process.
    pub pid: u32,
}

/// The pods of this machine, shared between whoever starts them and the sampler.
#[derive(Debug)]
pub struct LocalPods {
    pods: Mutex<HashMap<Arc<str>, LocalPod>>,
    changed: OwnedFd,
}

impl LocalPods {
    /// None yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Arc<Self>> {
        let changed = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self {
            pods: Mutex::default(),
            changed,
        }))
    }

    // Each change under this lock is one assignment: a panic leaves nothing half done.
    fn pods(&self) -> MutexGuard<'_, HashMap<Arc<str>, LocalPod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all of them, and wakes the sampler.
    pub fn set(&self, pods: impl IntoIterator<Item = LocalPod>) {
        *self.pods() = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        // Fails only when the counter is full, and then the sampler is awake.
        let _ = rustix::io::write(&self.changed, &1u64.to_ne_bytes());
    }

    fn ports(&self, uid: &str) -> Vec<(u16, u16)> {
        self.pods()
            .get(uid)
            .map(|pod| pod.ports.clone())
            .unwrap_or_default()
    }

    fn pid(&self, uid: &str, container: &str) -> Option<u32> {
        let pods = self.pods();
        let containers = &pods.get(uid)?.containers;
        containers
            .iter()
            .find(|known| *known.id == *container)
            .map(|known| known.pid)
    }
}

/// Where pods are found.
#[derive(Debug)]
pub enum PodSource {
    /// In the cgroup tree; of local pods it is known besides which ports they have.
    Cgroups(Tree, Option<Arc<LocalPods>>),
    /// In a list, and read by /proc: without the right to make groups.
    Processes(ProcessList),
}

/// Local pods without groups.
#[derive(Debug)]
pub struct ProcessList {
    pods: Arc<LocalPods>,
    /// Serves nothing.
    none: Hierarchies,
    known: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl ProcessList {
    /// Follows `pods`.
    pub fn new(pods: Arc<LocalPods>) -> Self {
        Self {
            pods,
            none: Hierarchies {
                mode: Mode::V2,
                unified: None,
                cpu: None,
                cpuacct: None,
                memory: None,
                systemd: None,
            },
            known: HashMap::new(),
        }
    }

    fn scan(&mut self, changes: &mut Vec<Change>) {
        // Emptied, so that poll sleeps until the next change.
        let _ = rustix::io::read(&self.pods.changed, &mut [0u8; 8]);
        let now: HashMap<Arc<str>, Vec<Arc<str>>> = self
            .pods
            .pods()
            .iter()
            .filter(|(_, pod)| !pod.containers.is_empty())
            .map(|(uid, pod)| {
                let ids = pod.containers.iter().map(|known| known.id.clone());
                (uid.clone(), ids.collect())
            })
            .collect();
        for (uid, known) in &self.known {
            let Some(ids) = now.get(uid) else {
                changes.push(Change::PodVanished { pod: uid.clone() });
                continue;
            };
            for id in known.iter().filter(|id| !ids.contains(id)) {
                changes.push(Change::ContainerVanished {
                    pod: uid.clone(),
                    container: id.clone(),
                });
            }
        }
        for (uid, ids) in &now {
            let known = self.known.get(uid).map(Vec::as_slice).unwrap_or_default();
            for id in ids.iter().filter(|id| !known.contains(id)) {
                changes.push(Change::ContainerAppeared {
                    pod: uid.clone(),
                    container: id.clone(),
                    path: Path::new(&**uid).join(&**id),
                });
            }
        }
        self.known = now;
    }
}

impl PodSource {
    /// The hierarchies that counters are read from.
    pub fn hierarchies(&self) -> &Hierarchies {
        match self {
            Self::Cgroups(tree, _) => tree.hierarchies(),
            Self::Processes(list) => &list.none,
        }
    }

    /// The directory that containers' paths are relative to, for `cgroup.procs`.
    pub fn root(&self) -> Option<PathBuf> {
        match self {
            Self::Cgroups(tree, _) => tree
                .root()
                .or_else(|| tree.hierarchies().discovery_order().next())
                .map(Path::to_owned),
            Self::Processes(_) => None,
        }
    }

    /// Becomes readable when something came or went.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Cgroups(tree, _) => tree.as_fd(),
            Self::Processes(list) => Some(list.pods.changed.as_fd()),
        }
    }

    /// Looks only where something is known to have changed.
    pub fn follow(&mut self, changes: &mut Vec<Change>) {
        match self {
            Self::Cgroups(tree, _) => tree.follow(changes),
            Self::Processes(list) => list.scan(changes),
        }
    }

    /// Looks at everything.
    pub fn scan(&mut self, changes: &mut Vec<Change>) {
        match self {
            Self::Cgroups(tree, _) => tree.scan(changes),
            Self::Processes(list) => list.scan(changes),
        }
    }

    /// The ports that stand for those which the pod declares; empty where it has its own network.
    pub fn ports(&self, uid: &str) -> Vec<(u16, u16)> {
        match self {
            Self::Cgroups(_, None) => Vec::new(),
            Self::Cgroups(_, Some(pods)) => pods.ports(uid),
            Self::Processes(list) => list.pods.ports(uid),
        }
    }

    /// The first process of a container that has no group of its own.
    pub fn pid(&self, uid: &str, container: &str) -> Option<u32> {
        match self {
            Self::Cgroups(..) => None,
            Self::Processes(list) => list.pods.pid(uid, container),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, containers: &[(&str, u32)]) -> LocalPod {
        LocalPod {
            uid: uid.into(),
            containers: containers
                .iter()
                .map(|(id, pid)| LocalContainer {
                    id: (*id).into(),
                    pid: *pid,
                })
                .collect(),
            ports: vec![(8080, 40_001)],
        }
    }

    #[test]
    fn pods_and_containers_come_and_go() {
        let pods = LocalPods::new().unwrap();
        let mut source = PodSource::Processes(ProcessList::new(pods.clone()));
        let mut changes = Vec::new();
        source.scan(&mut changes);
        assert_eq!(changes, []);

        pods.set([pod("a", &[("1", 10)]), pod("b", &[])]);
        source.follow(&mut changes);
        assert!(
            matches!(&changes[..], [Change::ContainerAppeared { pod, .. }] if &**pod == "a"),
            "a pod counts from its first container: {changes:?}"
        );
        assert_eq!(source.pid("a", "1"), Some(10));
        assert_eq!(source.ports("a"), [(8080, 40_001)]);

        // A restart: another container of the same pod.
        changes.clear();
        pods.set([pod("a", &[("2", 11)])]);
        source.follow(&mut changes);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(
            (source.pid("a", "1"), source.pid("a", "2")),
            (None, Some(11))
        );

        changes.clear();
        pods.set([]);
        source.follow(&mut changes);
        assert_eq!(changes, [Change::PodVanished { pod: "a".into() }]);
    }
}
