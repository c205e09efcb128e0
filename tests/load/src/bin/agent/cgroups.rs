//! A kubelet's cgroups, below a directory of our own in each hierarchy of this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const ROOT: &str = "/sys/fs/cgroup";

/// The directories; they are removed when this is dropped, after the processes in them ended.
pub(crate) struct Cgroups {
    name: String,
    hierarchies: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes `<hierarchy>/neap-load-<pid>/kubepods/...` in each hierarchy that the agent reads.
    pub(crate) fn make() -> Result<Self> {
        let root = Path::new(ROOT);
        let hierarchies: Vec<PathBuf> = if root.join("cgroup.controllers").exists() {
            vec![root.to_owned()]
        } else {
            let names = ["unified", "memory", "cpu", "cpuacct"];
            names
                .iter()
                .map(|name| root.join(name))
                .filter(|path| path.is_dir())
                .collect()
        };
        if hierarchies.is_empty() {
            bail!("no cgroup hierarchy at {ROOT}");
        }
        let cgroups = Self {
            name: format!("neap-load-{}", std::process::id()),
            hierarchies,
        };
        for hierarchy in &cgroups.hierarchies {
            let top = hierarchy.join(&cgroups.name);
            std::fs::create_dir(&top).with_context(|| format!("cannot make {}", top.display()))?;
            for group in [
                top.clone(),
                top.join("kubepods"),
                top.join("kubepods/burstable"),
            ] {
                if !group.exists() {
                    std::fs::create_dir(&group)
                        .with_context(|| format!("cannot make {}", group.display()))?;
                }
                // On cgroup v2 children have cpu and memory only if the parent says so.
                let _ = std::fs::write(group.join("cgroup.subtree_control"), "+cpu +memory +io");
            }
        }
        Ok(cgroups)
    }

    /// As the kubelet's cgroupRoot.
    pub(crate) fn name(&self) -> String {
        format!("/{}", self.name)
    }

    /// Puts a process into a container's group, which is made if need be.
    pub(crate) fn put(&self, uid: &str, container: &str, pid: u32) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let pod = hierarchy
                .join(&self.name)
                .join("kubepods/burstable")
                .join(format!("pod{uid}"));
            let group = pod.join(container);
            std::fs::create_dir_all(&pod)?;
            let _ = std::fs::write(pod.join("cgroup.subtree_control"), "+cpu +memory +io");
            std::fs::create_dir_all(&group)?;
            std::fs::write(group.join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("cannot move process {pid} to {}", group.display()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/*/{}", self.name)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            let top = hierarchy.join(&self.name);
            // A group is busy until the kernel has buried its last process.
            let removed = (0..200).any(|_| {
                remove(&top);
                let gone = !top.exists();
                if !gone {
                    std::thread::sleep(Duration::from_millis(25));
                }
                gone
            });
            if !removed {
                eprintln!("left behind: {}", top.display());
            }
        }
    }
}

/// Removes a group and those below it, as far as it goes.
fn remove(group: &Path) {
    if let Ok(entries) = std::fs::read_dir(group) {
        for entry in entries.filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
    }
    // Fails while it is busy; the caller looks again.
    let _ = std::fs::remove_dir(group);
}
