//! Pods of this machine's own kernel: cgroups below a directory of the test's own, and processes in
//! network namespaces.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

const ROOT: &str = "/sys/fs/cgroup";

/// Whether this machine lets a test make cgroups and namespaces; says why not.
pub(crate) fn permitted() -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: cgroups and network namespaces can be made by root only");
        return false;
    }
    let entered = Command::new("unshare").args(["--net", "true"]).status();
    if !entered.is_ok_and(|status| status.success()) {
        println!("skipped: unshare --net does not work here");
        return false;
    }
    if hierarchies().is_empty() {
        println!("skipped: no cgroup hierarchy at {ROOT}");
        return false;
    }
    true
}

fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let names = ["unified", "memory", "cpu", "cpuacct"];
    names
        .iter()
        .map(|name| root.join(name))
        .filter(|path| path.is_dir())
        .collect()
}

/// A kubelet's cgroups; removed when dropped.
pub(crate) struct Kubepods(String);

impl Kubepods {
    pub(crate) fn new(name: &str) -> Self {
        let kubepods = Self(format!("neap-test-{name}-{}", std::process::id()));
        for hierarchy in hierarchies() {
            let mut group = hierarchy;
            for part in [kubepods.0.as_str(), "kubepods"] {
                group.push(part);
                std::fs::create_dir(&group).unwrap();
                // Version 2: children have these controllers only if the parent says so.
                let _ = std::fs::write(group.join("cgroup.subtree_control"), "+cpu +memory +io");
            }
        }
        kubepods
    }

    /// As the kubelet's cgroupRoot.
    pub(crate) fn root(&self) -> String {
        format!("/{}", self.0)
    }

    fn pods(&self, uid: &str) -> impl Iterator<Item = PathBuf> {
        let below = PathBuf::from(&self.0)
            .join("kubepods")
            .join(format!("pod{uid}"));
        hierarchies()
            .into_iter()
            .map(move |hierarchy| hierarchy.join(&below))
    }

    /// Starts a shell command as the one container of a pod with a network namespace of its own.
    pub(crate) fn start(&self, uid: &str, command: &str) -> Pod {
        self.start_with(&["unshare", "--net"], uid, command)
    }

    /// The same in the namespace of the test.
    pub(crate) fn start_in_the_nodes_namespace(&self, uid: &str, command: &str) -> Pod {
        self.start_with(&["env"], uid, command)
    }

    fn start_with(&self, wrapper: &[&str], uid: &str, command: &str) -> Pod {
        // The process waits until it is in its groups.
        let script = format!("read -r _; {command}");
        let child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut pod = Pod {
            child,
            groups: Vec::new(),
        };
        for directory in self.pods(uid) {
            std::fs::create_dir(&directory).unwrap();
            let _ = std::fs::write(directory.join("cgroup.subtree_control"), "+cpu +memory +io");
            let group = directory.join("cd".repeat(32));
            std::fs::create_dir(&group).unwrap();
            std::fs::write(group.join("cgroup.procs"), pod.child.id().to_string()).unwrap();
            pod.groups.push(directory);
        }
        use std::io::Write;
        pod.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        pod
    }
}

impl Drop for Kubepods {
    fn drop(&mut self) {
        hierarchies()
            .iter()
            .for_each(|hierarchy| remove(&hierarchy.join(&self.0)));
    }
}

/// A pod that runs until it is dropped.
pub(crate) struct Pod {
    child: Child,
    groups: Vec<PathBuf>,
}

impl Pod {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.groups.iter().for_each(|group| remove(group));
    }
}

/// Removes a group and those below it; it is busy until the kernel has buried its processes.
fn remove(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while group.exists() && Instant::now() < deadline {
        if let Ok(entries) = std::fs::read_dir(group) {
            for entry in entries.filter_map(Result::ok) {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
        }
        if std::fs::remove_dir(group).is_err() {
            std::thread::yield_now();
        }
    }
}
