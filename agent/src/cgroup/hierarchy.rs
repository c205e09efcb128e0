//! Which cgroup hierarchies a node has mounted, and which of them serves what.

use std::io;
use std::path::{Path, PathBuf};

use super::names::{Driver, kubepods_root};

/// How a node mounts its cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One cgroup2 tree with all controllers.
    V2,
    /// v1 controllers, and a cgroup2 tree beside them.
    Hybrid,
    /// v1 controllers only.
    V1,
}

/// No cgroup hierarchy was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no cgroup hierarchy at {root}: neither cgroup.controllers (v2) nor unified/, memory/ or cpuacct/ (v1) is there; --cgroup-root must name the node's /sys/fs/cgroup"
)]
pub struct NoHierarchy {
    /// Where it was looked for.
    pub root: PathBuf,
    /// Why the root could not be read, if so.
    #[source]
    pub source: Option<io::Error>,
}

/// The hierarchies of a node, each by its own root.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    /// How they are mounted.
    pub mode: Mode,
    /// The cgroup2 tree: cpu.stat, pressure, and in v2 mode everything.
    pub unified: Option<PathBuf>,
    /// v1 `cpu`: throttling.
    pub cpu: Option<PathBuf>,
    /// v1 `cpuacct`: usage.
    pub cpuacct: Option<PathBuf>,
    /// v1 `memory`.
    pub memory: Option<PathBuf>,
    /// v1 `systemd` (name=systemd): only to find pods.
    pub systemd: Option<PathBuf>,
}

impl Hierarchies {
    /// Looks what is mounted below `root` (`/sys/fs/cgroup`). Told by files that only cgroup2
    /// has, so that a tree built by a test is judged as a real one.
    ///
    /// # Errors
    /// [`NoHierarchy`] when nothing is.
    pub fn detect(root: &Path) -> Result<Self, NoHierarchy> {
        let is_v2 = |path: &Path| path.join("cgroup.controllers").is_file();
        if is_v2(root) {
            return Ok(Self {
                mode: Mode::V2,
                unified: Some(root.to_owned()),
                cpu: None,
                cpuacct: None,
                memory: None,
                systemd: None,
            });
        }
        let controller = |names: &[&str]| {
            names
                .iter()
                .map(|name| root.join(name))
                .find(|path| path.is_dir())
        };
        let unified = Some(root.join("unified")).filter(|path| is_v2(path));
        let found = Self {
            mode: if unified.is_some() {
                Mode::Hybrid
            } else {
                Mode::V1
            },
            unified,
            cpu: controller(&["cpu", "cpu,cpuacct"]),
            cpuacct: controller(&["cpuacct", "cpu,cpuacct"]),
            memory: controller(&["memory"]),
            systemd: controller(&["systemd"]),
        };
        if found.unified.is_none() && found.memory.is_none() && found.cpuacct.is_none() {
            return Err(NoHierarchy {
                root: root.to_owned(),
                source: std::fs::read_dir(root).err(),
            });
        }
        Ok(found)
    }

    /// Roots in which pods can be found, best first: the cgroup2 tree knows a container as
    /// soon as it runs and has what cannot be read elsewhere.
    pub fn discovery_order(&self) -> impl Iterator<Item = &Path> {
        [
            &self.unified,
            &self.memory,
            &self.cpuacct,
            &self.cpu,
            &self.systemd,
        ]
        .into_iter()
        .filter_map(|root| root.as_deref())
    }
}

/// The kubepods directories below one hierarchy, relative to its root.
///
/// With `kubelet_root` (the kubelet's `cgroupRoot`, such as `/kubelet`) only that one is looked
/// at; without, the hierarchy's root and the directories directly in it.
pub fn find_kubepods(hierarchy: &Path, kubelet_root: Option<&Path>) -> Vec<(PathBuf, Driver)> {
    let mut found = Vec::new();
    match kubelet_root {
        Some(kubelet_root) => {
            let below: PathBuf = kubelet_root
                .components()
                .filter(|c| matches!(c, std::path::Component::Normal(_)))
                .collect();
            kubepods_in(hierarchy, &below, &mut found);
            if let Some(slice) = systemd_slice(&below) {
                kubepods_in(hierarchy, &slice, &mut found);
            }
        }
        None => {
            kubepods_in(hierarchy, Path::new(""), &mut found);
            if found.is_empty() {
                for name in directories(hierarchy) {
                    kubepods_in(hierarchy, Path::new(&name), &mut found);
                }
            }
        }
    }
    found
}

fn kubepods_in(hierarchy: &Path, below: &Path, found: &mut Vec<(PathBuf, Driver)>) {
    for name in directories(&hierarchy.join(below)) {
        if let Some(driver) = kubepods_root(&name) {
            found.push((below.join(name), driver));
        }
    }
}

/// `a/b` as systemd names the slice: `a.slice/a-b.slice`.
fn systemd_slice(path: &Path) -> Option<PathBuf> {
    let mut name = String::new();
    let mut slice = PathBuf::new();
    for part in path {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part.to_str()?);
        slice.push(format!("{name}.slice"));
    }
    (!name.is_empty()).then_some(slice)
}

/// Names of the directories in `path`; none if it cannot be read.
pub(super) fn directories(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dirs: &[&str], files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in dirs {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for file in files {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        root
    }

    #[test]
    fn the_three_modes_are_told_apart() {
        let v2 = tree(&["kubepods"], &["cgroup.controllers"]);
        let found = Hierarchies::detect(v2.path()).unwrap();
        assert_eq!((found.mode, found.memory.is_none()), (Mode::V2, true));

        let hybrid = tree(
            &["unified", "memory", "cpu", "cpuacct"],
            &["unified/cgroup.controllers"],
        );
        let found = Hierarchies::detect(hybrid.path()).unwrap();
        assert_eq!(found.mode, Mode::Hybrid);
        assert_eq!(found.memory.unwrap(), hybrid.path().join("memory"));

        let v1 = tree(&["memory", "cpu,cpuacct", "systemd"], &[]);
        let found = Hierarchies::detect(v1.path()).unwrap();
        assert_eq!(found.mode, Mode::V1);
        assert_eq!(found.cpuacct, found.cpu);
        assert!(found.unified.is_none());
    }

    #[test]
    fn nothing_mounted_is_an_error_that_names_the_flag() {
        let empty = tree(&[], &[]);
        let error = Hierarchies::detect(empty.path()).unwrap_err().to_string();
        assert!(
            error.contains("--cgroup-root") && error.contains(empty.path().to_str().unwrap()),
            "{error}"
        );
    }

    #[test]
    fn kubepods_of_both_drivers_and_of_a_kubelet_with_its_own_root() {
        let plain = tree(&["kubepods/burstable", "system.slice"], &[]);
        assert_eq!(
            find_kubepods(plain.path(), None),
            [(PathBuf::from("kubepods"), Driver::Cgroupfs)]
        );

        let kind = tree(
            &["kubelet.slice/kubelet-kubepods.slice", "other/kubepods"],
            &[],
        );
        let slice = PathBuf::from("kubelet.slice/kubelet-kubepods.slice");
        assert_eq!(
            find_kubepods(kind.path(), Some(Path::new("/kubelet"))),
            [(slice, Driver::Systemd)]
        );
        assert_eq!(find_kubepods(kind.path(), None).len(), 2);

        let nodes = tree(&["node-a/kubepods", "node-b/kubepods"], &[]);
        assert_eq!(
            find_kubepods(nodes.path(), Some(Path::new("/node-b"))),
            [(PathBuf::from("node-b/kubepods"), Driver::Cgroupfs)]
        );
    }
}
