//! A cgroup for each container, where the kernel allows: in the shape that a kubelet makes, so that the
//! agent reads it as it reads any node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The groups of one `neap up`: `ROOT/kubepods/podUID/CONTAINER` in each hierarchy that counts.
#[derive(Debug)]
pub(super) struct Groups {
    /// `/neap-up-…`, as the agent is told it.
    root: PathBuf,
    /// The hierarchies, each by its own root, with `ROOT` in it.
    bases: Vec<PathBuf>,
}

impl Groups {
    /// Makes the groups' root, named after `name`, below `mount`.
    ///
    /// # Errors
    /// The kernel or the rights do not allow it.
    pub(super) fn make(mount: &Path, name: &str) -> io::Result<Self> {
        let name = format!("neap-up-{name}");
        let is_v2 = mount.join("cgroup.controllers").is_file();
        let hierarchies: Vec<PathBuf> = if is_v2 {
            vec![mount.to_owned()]
        } else {
            ["unified", "cpuacct", "memory"]
                .iter()
                .map(|hierarchy| mount.join(hierarchy))
                .filter(|hierarchy| hierarchy.is_dir())
                .collect()
        };
        if hierarchies.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no cgroups at {}", mount.display()),
            ));
        }
        let groups = Self {
            root: Path::new("/").join(&name),
            bases: hierarchies
                .iter()
                .map(|hierarchy| hierarchy.join(&name))
                .collect(),
        };
        // Of a run that was killed: empty by now.
        groups.remove();
        let made = (|| {
            for base in &groups.bases {
                fs::create_dir_all(base.join("kubepods"))?;
                if is_v2 {
                    delegate(base.parent().unwrap_or(mount));
                    delegate(base);
                    delegate(&base.join("kubepods"));
                }
            }
            // Making a group and moving into it are different rights.
            groups.add("probe", "probe").map(|_| ())
        })();
        groups.remove_pod("probe");
        match made {
            Ok(()) => Ok(groups),
            Err(error) => {
                groups.remove();
                Err(error)
            }
        }
    }

    /// The kubelet's cgroup root, as the agent is told it.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a container's groups. Gives the files that its first process writes itself into.
    pub(super) fn add(&self, pod: &str, container: &str) -> io::Result<Vec<File>> {
        let mut files = Vec::with_capacity(self.bases.len());
        for base in &self.bases {
            let pod = base.join("kubepods").join(format!("pod{pod}"));
            fs::create_dir_all(&pod)?;
            if pod.join("cgroup.controllers").is_file() {
                delegate(&pod);
            }
            let container = pod.join(container);
            fs::create_dir_all(&container)?;
            let procs = container.join("cgroup.procs");
            files.push(OpenOptions::new().write(true).open(procs)?);
        }
        Ok(files)
    }

    /// Removes a pod's groups. What still has a process in it stays.
    pub(super) fn remove_pod(&self, pod: &str) {
        for base in &self.bases {
            remove_tree(&base.join("kubepods").join(format!("pod{pod}")));
        }
    }

    /// Removes all groups.
    pub(super) fn remove(&self) {
        for base in &self.bases {
            remove_tree(base);
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Lets children of a group have controllers. One that cannot be had counts nothing, and says so by its
/// missing files.
fn delegate(group: &Path) {
    for controller in ["+cpu", "+memory", "+io"] {
        let _ = fs::write(group.join("cgroup.subtree_control"), controller);
    }
}

/// Removes a group and those in it: the files in it are the kernel's and go with it.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
