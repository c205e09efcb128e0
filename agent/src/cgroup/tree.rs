//! Finds the pods and containers of the node by their directories in the cgroup tree.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hierarchy::{Hierarchies, directories, find_kubepods};
use super::names::{Driver, container_id, is_qos_level, pod_uid};
use super::watch::{Dirty, Watched, Watcher};

/// Scans between two searches for the kubepods directories and their levels. They are made when the
/// kubelet starts and then stay; a new level below a known one is seen at once.
const LEVELS_PAUSE: u8 = 10;

/// Something that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A container's cgroup exists. The first of a pod is the pod's appearance.
    ContainerAppeared {
        /// Pod UID or config hash.
        pod: Arc<str>,
        /// Runtime's id.
        container: Arc<str>,
        /// Its directory, relative to the root of each hierarchy. The parent is the pod's.
        path: PathBuf,
    },
    /// A container's cgroup went.
    ContainerVanished {
        /// Pod UID or config hash.
        pod: Arc<str>,
        /// Runtime's id.
        container: Arc<str>,
    },
    /// The last container's cgroup of the pod went, or the pod's own.
    PodVanished {
        /// Pod UID or config hash.
        pod: Arc<str>,
    },
}

/// The pods of one node as the cgroup tree shows them.
///
/// A pod counts from its first container to its last: an empty pod directory can outlive the
/// pod (a kubelet on v1 controllers leaves it in the cgroup2 tree).
#[derive(Debug)]
pub struct Tree {
    hierarchies: Hierarchies,
    kubelet_root: Option<PathBuf>,
    /// Root of the hierarchy that is looked at.
    root: Option<PathBuf>,
    driver: Option<Driver>,
    levels: Vec<Level>,
    /// Scans until the levels are searched anew.
    levels_pause: u8,
    pods: HashMap<Arc<str>, PodDirectory>,
    watcher: Option<Watcher>,
}

/// A directory that holds pods.
#[derive(Debug)]
struct Level {
    path: PathBuf,
    /// As in [`PodDirectory`].
    links: u64,
}

#[derive(Debug)]
struct PodDirectory {
    path: PathBuf,
    /// Links of the directory at the last listing: one more for each directory in it.
    links: u64,
    containers: Vec<(Arc<str>, String)>,
}

impl Tree {
    /// A tree in which nothing has been found yet. `kubelet_root` as in
    /// [`find_kubepods`].
    pub fn new(hierarchies: Hierarchies, kubelet_root: Option<PathBuf>) -> Self {
        let watcher = Watcher::new()
            .inspect_err(|error| tracing::warn!(%error, "no inotify: pods are found by the scan each second alone"))
            .ok();
        Self {
            hierarchies,
            kubelet_root,
            root: None,
            driver: None,
            levels: Vec::new(),
            levels_pause: 0,
            pods: HashMap::new(),
            watcher,
        }
    }

    /// The hierarchies it looks at.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Cgroup driver of the kubelet, once its directory has been seen.
    pub fn driver(&self) -> Option<Driver> {
        self.driver
    }

    /// Root of the hierarchy in which pods were found.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Becomes readable when something came or went.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watcher.as_ref().map(AsFd::as_fd)
    }

    /// Looks only where inotify says that something changed. Cheap when nothing did.
    pub fn follow(&mut self, changes: &mut Vec<Change>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let dirty = watcher.drain();
        if dirty.everything {
            self.scan(changes);
            return;
        }
        let Dirty { levels, pods, .. } = dirty;
        if levels {
            self.scan_levels(true, changes);
        }
        for pod in pods {
            self.scan_pod(&pod, true, changes);
        }
    }

    /// Looks at everything: each level, and each pod whose directory has more or fewer
    /// directories than before.
    pub fn scan(&mut self, changes: &mut Vec<Change>) {
        if let Some(watcher) = &mut self.watcher {
            watcher.drain();
        }
        let known = self.root.as_ref().filter(|_| !self.levels.is_empty());
        let stay = known.is_some_and(|root| {
            self.levels
                .iter()
                .all(|level| root.join(&level.path).is_dir())
        });
        if stay && self.levels_pause > 0 {
            self.levels_pause -= 1;
        } else {
            self.levels_pause = LEVELS_PAUSE;
            self.find_levels();
        }
        // Without inotify, one that came and one that went leave the number of links as it was.
        let always = self.watcher.is_none();
        self.scan_levels(always, changes);
        let pods: Vec<Arc<str>> = self.pods.keys().cloned().collect();
        for pod in pods {
            self.scan_pod(&pod, always, changes);
        }
    }

    /// Finds the kubepods directories and their QoS levels, and watches them.
    fn find_levels(&mut self) {
        let kubelet_root = self.kubelet_root.as_deref();
        let Some((root, found)) = self.hierarchies.discovery_order().find_map(|root| {
            let found = find_kubepods(root, kubelet_root);
            (!found.is_empty()).then(|| (root.to_owned(), found))
        }) else {
            self.levels.clear();
            return;
        };
        if self.root.as_deref() != Some(&root) {
            tracing::info!(root = %root.display(), kubepods = ?found, "pods are found here");
            self.levels.clear();
            if let Some(watcher) = &mut self.watcher {
                watcher.clear();
            }
            let pods: Vec<_> = self
                .pods
                .iter()
                .map(|(uid, pod)| (uid.clone(), root.join(&pod.path)))
                .collect();
            for (uid, path) in pods {
                self.watch(&path, Watched::Pod(uid));
            }
        }
        self.driver = found.first().map(|(_, driver)| *driver);
        let mut levels = Vec::with_capacity(found.len() * 3);
        for (kubepods, _) in found {
            for name in directories(&root.join(&kubepods)) {
                if is_qos_level(&name) {
                    levels.push(kubepods.join(name));
                }
            }
            levels.push(kubepods);
        }
        if !levels
            .iter()
            .eq(self.levels.iter().map(|level| &level.path))
        {
            for level in &levels {
                self.watch(&root.join(level), Watched::Level);
            }
            self.levels = levels
                .into_iter()
                .map(|path| Level { path, links: 0 })
                .collect();
        }
        self.root = Some(root);
    }

    fn scan_levels(&mut self, always: bool, changes: &mut Vec<Change>) {
        let Some(root) = self.root.clone() else {
            return;
        };
        let mut moved = always;
        for level in &mut self.levels {
            let links = links(&root.join(&level.path));
            moved |= links != level.links || links < 2;
            level.links = links;
        }
        if !moved {
            return;
        }
        let levels: Vec<PathBuf> = self.levels.iter().map(|level| level.path.clone()).collect();
        let mut seen: HashSet<Arc<str>> = HashSet::with_capacity(self.pods.len());
        let mut new_level = false;
        for level in &levels {
            for name in directories(&root.join(level)) {
                if let Some(uid) = pod_uid(&name) {
                    let uid: Arc<str> = uid.into();
                    seen.insert(uid.clone());
                    self.take_pod(&root, uid, level.join(name), changes);
                } else {
                    new_level |= is_qos_level(&name) && !levels.contains(&level.join(&name));
                }
            }
        }
        self.pods.retain(|uid, pod| {
            let stays = seen.contains(uid);
            if !stays && !pod.containers.is_empty() {
                changes.push(Change::PodVanished { pod: uid.clone() });
            }
            stays
        });
        if new_level {
            let known = self.levels.len();
            self.find_levels();
            if self.levels.len() > known {
                self.scan_levels(true, changes);
            }
        }
    }

    fn take_pod(&mut self, root: &Path, uid: Arc<str>, path: PathBuf, changes: &mut Vec<Change>) {
        if self.pods.get(&uid).is_some_and(|pod| pod.path == path) {
            return;
        }
        // Watched before it is listed: what comes in between is seen twice, not missed.
        self.watch(&root.join(&path), Watched::Pod(uid.clone()));
        let former = self.pods.insert(
            uid.clone(),
            PodDirectory {
                path,
                links: 0,
                containers: Vec::new(),
            },
        );
        if former.is_some_and(|former| !former.containers.is_empty()) {
            changes.push(Change::PodVanished { pod: uid.clone() });
        }
        self.scan_pod(&uid, true, changes);
    }

    fn scan_pod(&mut self, uid: &Arc<str>, always: bool, changes: &mut Vec<Change>) {
        let (Some(root), Some(pod)) = (&self.root, self.pods.get_mut(uid)) else {
            return;
        };
        let directory = root.join(&pod.path);
        let links = links(&directory);
        if !always && links > 1 && links == pod.links {
            return;
        }
        pod.links = links;
        let names: Vec<String> = directories(&directory)
            .into_iter()
            .filter(|name| container_id(name).is_some())
            .collect();
        let had = !pod.containers.is_empty();
        let mut vanished = Vec::new();
        pod.containers.retain(|(id, name)| {
            let stays = names.contains(name);
            if !stays {
                vanished.push(id.clone());
            }
            stays
        });
        if had && names.is_empty() {
            changes.push(Change::PodVanished { pod: uid.clone() });
            return;
        }
        changes.extend(
            vanished
                .into_iter()
                .map(|container| Change::ContainerVanished {
                    pod: uid.clone(),
                    container,
                }),
        );
        for name in names {
            if pod.containers.iter().any(|(_, known)| *known == name) {
                continue;
            }
            let Some(id) = container_id(&name) else {
                continue;
            };
            let container: Arc<str> = id.into();
            changes.push(Change::ContainerAppeared {
                pod: uid.clone(),
                container: container.clone(),
                path: pod.path.join(&name),
            });
            pod.containers.push((container, name));
        }
    }

    fn watch(&mut self, path: &Path, watched: Watched) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        match watcher.add(path, watched) {
            // It went before it could be watched.
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "inotify refused: pods are found by the scan each second alone");
                self.watcher = None;
            }
        }
    }
}

/// Links of a directory: two, and one for each directory in it. Some file systems do not count them:
/// less than two means that nothing is known.
fn links(directory: &Path) -> u64 {
    std::fs::metadata(directory).map_or(0, |metadata| metadata.nlink())
}

#[cfg(test)]
#[path = "tree_test.rs"]
mod tests;
