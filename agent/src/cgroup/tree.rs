//! Finds the pods and containers of the node by their directories in the cgroup tree.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hierarchy::{Hierarchies, directories, find_kubepods};
use super::names::{Driver, container_id, is_qos_level, pod_uid};
use super::watch::{Dirty, Watched, Watcher};

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
    levels: Vec<PathBuf>,
    pods: HashMap<Arc<str>, PodDirectory>,
    watcher: Option<Watcher>,
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
            self.scan_levels(changes);
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
        self.find_levels();
        self.scan_levels(changes);
        let pods: Vec<Arc<str>> = self.pods.keys().cloned().collect();
        for pod in pods {
            self.scan_pod(&pod, false, changes);
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
        if levels != self.levels {
            for level in &levels {
                self.watch(&root.join(level), Watched::Level);
            }
            self.levels = levels;
        }
        self.root = Some(root);
    }

    fn scan_levels(&mut self, changes: &mut Vec<Change>) {
        let Some(root) = self.root.clone() else {
            return;
        };
        let mut seen: HashSet<Arc<str>> = HashSet::with_capacity(self.pods.len());
        let mut new_level = false;
        for level in &self.levels.clone() {
            for name in directories(&root.join(level)) {
                let Some(uid) = pod_uid(&name) else {
                    new_level |= is_qos_level(&name) && !self.levels.contains(&level.join(&name));
                    continue;
                };
                let uid: Arc<str> = uid.into();
                seen.insert(uid.clone());
                let path = level.join(name);
                if self.pods.get(&uid).is_some_and(|pod| pod.path == path) {
                    continue;
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
        }
        self.pods.retain(|uid, pod| {
            let stays = seen.contains(uid);
            if !stays && !pod.containers.is_empty() {
                changes.push(Change::PodVanished { pod: uid.clone() });
            }
            stays
        });
        if new_level {
            self.find_levels();
            self.scan_levels(changes);
        }
    }

    fn scan_pod(&mut self, uid: &Arc<str>, always: bool, changes: &mut Vec<Change>) {
        let (Some(root), Some(pod)) = (&self.root, self.pods.get_mut(uid)) else {
            return;
        };
        let directory = root.join(&pod.path);
        // Some file systems do not count links of directories; there each scan lists.
        let links = std::fs::metadata(&directory).map_or(0, |metadata| metadata.nlink());
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

#[cfg(test)]
#[path = "tree_test.rs"]
mod tests;
