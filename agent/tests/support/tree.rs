//! A cgroup tree of files.

use std::path::PathBuf;

/// One cgroup2 tree with one pod of one container.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) const POD: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";

    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let tree = Self(root);
        std::fs::create_dir_all(tree.container()).unwrap();
        tree
    }

    /// Of an agent that reads it.
    pub(crate) fn flags(&self) -> [String; 2] {
        [
            format!("--cgroup-root={}", self.0.path().display()),
            "--profile=restricted".into(),
        ]
    }

    fn container(&self) -> PathBuf {
        self.0
            .path()
            .join("kubepods")
            .join(format!("pod{}", Self::POD))
            .join("ab".repeat(32))
    }

    pub(crate) fn set_usage(&self, usage: u64) {
        std::fs::write(
            self.container().join("cpu.stat"),
            format!("usage_usec {usage}\n"),
        )
        .unwrap();
    }
}
