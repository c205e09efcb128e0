//! A data directory whose content must not be used again.
//!
//! A member that was replaced by one of the same name cannot remove its files while they are open;
//! it marks them, and the next start removes them.

use std::fs;
use std::io;
use std::path::Path;

use crate::log_store::RedbFile;
use crate::snapshot_store::SnapshotStore;

const MARK: &str = "void";

/// Marks the directory, durably.
pub(crate) fn mark(dir: &Path) -> io::Result<()> {
    let file = fs::File::create(dir.join(MARK))?;
    file.sync_all()?;
    fs::File::open(dir)?.sync_all()
}

/// Whether the directory is marked.
pub(crate) fn is_marked(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Removes what a mark makes void, the mark last.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    if !is_marked(dir) {
        return Ok(());
    }
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    gone(fs::remove_file(dir.join(RedbFile::NAME)))?;
    gone(fs::remove_dir_all(dir.join(SnapshotStore::DIR)))?;
    fs::File::open(dir)?.sync_all()?;
    fs::remove_file(dir.join(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_directory_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(RedbFile::NAME);
        fs::write(&log, b"x").unwrap();
        clear(dir.path()).unwrap();
        assert!(log.exists());
        mark(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert!(!log.exists() && !dir.path().join(MARK).exists());
        clear(dir.path()).unwrap();
    }
}
