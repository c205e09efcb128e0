//! Where the last snapshot lies: one file, written whole or not at all.
//!
//! A file is `NEAPSNAP`, then version, checksum, lengths, metadata and data. It is written under
//! another name, synced, renamed, and the directory synced, before an older one is removed. Names
//! sort by the position they hold, so the newest is the last.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::codec::{CodecError, FORMAT, Record};
use crate::error::OpenError;
use crate::log_store::sync_dir;
use crate::types::{LogId, Snapshot, SnapshotMeta};

const MAGIC: &[u8; 8] = b"NEAPSNAP";
/// Magic, version, CRC-32 of the rest, length of the metadata.
const HEADER: usize = 8 + 1 + 4 + 4;
const PREFIX: &str = "snap-";
const UNFINISHED: &str = ".tmp";

/// The last snapshot of one member.
#[derive(Clone)]
pub(crate) enum SnapshotStore {
    /// In this directory.
    Files(PathBuf),
    /// In memory, for simulations: it outlives the member, as a disk would.
    Memory(MemorySnapshot),
}

/// A snapshot in memory. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct MemorySnapshot(Arc<Mutex<Option<Snapshot>>>);

impl MemorySnapshot {
    pub(crate) fn copy(&self) -> Self {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Arc::new(Mutex::new(last.clone())))
    }
}

impl SnapshotStore {
    /// Name of the directory in the data directory.
    pub(crate) const DIR: &'static str = "snapshots";

    /// Opens or makes the directory, and removes what was never finished.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let dir = data_dir.join(Self::DIR);
        let prepare = || -> io::Result<()> {
            fs::create_dir_all(&dir)?;
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.to_string_lossy().ends_with(UNFINISHED) {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        prepare().map_err(|source| OpenError::Io {
            what: format!("cannot prepare directory {}", dir.display()),
            source,
        })?;
        sync_dir(data_dir)?;
        Ok(Self::Files(dir))
    }

    /// Saving and loading block on a disk.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    /// Makes this the last snapshot, durably, and removes older ones.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        match self {
            Self::Files(dir) => save_file(dir, snapshot),
            Self::Memory(memory) => {
                let mut last = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(snapshot.clone());
                Ok(())
            }
        }
    }

    /// The last snapshot, checked.
    pub(crate) fn load(&self) -> Result<Option<Snapshot>, OpenError> {
        match self {
            Self::Files(dir) => load_newest(dir),
            Self::Memory(memory) => {
                let last = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(last.clone())
            }
        }
    }
}

fn file_name(last: Option<&LogId>) -> String {
    let (term, node, index) = last.map_or((0, 0, 0), |id| {
        (id.leader_id.term, id.leader_id.node_id, id.index)
    });
    format!("{PREFIX}{term:016x}-{node:016x}-{index:016x}")
}

fn save_file(dir: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let meta = snapshot.meta.to_bytes().map_err(io::Error::other)?;
    let meta_length = u32::try_from(meta.len()).map_err(io::Error::other)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&meta_length.to_le_bytes());
    crc.update(&meta);
    crc.update(&snapshot.snapshot);

    let mut head = Vec::with_capacity(HEADER + meta.len());
    head.extend_from_slice(MAGIC);
    head.push(FORMAT);
    head.extend_from_slice(&crc.finalize().to_le_bytes());
    head.extend_from_slice(&meta_length.to_le_bytes());
    head.extend_from_slice(&meta);

    let name = file_name(snapshot.meta.last_log_id.as_ref());
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&head)?;
    file.write_all(&snapshot.snapshot)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&unfinished, dir.join(&name))?;
    fs::File::open(dir)?.sync_all()?;
    for older in names(dir)?.into_iter().filter(|other| *other < name) {
        fs::remove_file(dir.join(older))?;
    }
    Ok(())
}

/// Names of finished snapshots, oldest first.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && !name.ends_with(UNFINISHED) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn load_newest(dir: &Path) -> Result<Option<Snapshot>, OpenError> {
    let failed = |path: &Path, source| OpenError::Io {
        what: format!("cannot read {}", path.display()),
        source,
    };
    let Some(name) = names(dir).map_err(|source| failed(dir, source))?.pop() else {
        return Ok(None);
    };
    let path = dir.join(name);
    let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
    // The log before a snapshot is gone, so an older one could not stand in for a broken one.
    parse(Bytes::from(bytes))
        .map(Some)
        .map_err(|error| match error {
            CodecError::Format(found) => OpenError::Format {
                path,
                found,
                readable: FORMAT,
            },
            error => OpenError::Damaged {
                path,
                reason: error.to_string(),
            },
        })
}

fn parse(bytes: Bytes) -> Result<Snapshot, CodecError> {
    let short = || CodecError::Short(bytes.len());
    if bytes.len() < HEADER {
        return Err(short());
    }
    if &bytes[..8] != MAGIC {
        return Err(CodecError::Content("not a snapshot".into()));
    }
    if bytes[8] == 0 || bytes[8] > FORMAT {
        return Err(CodecError::Format(bytes[8]));
    }
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let found = word(9);
    let computed = crc32fast::hash(&bytes[13..]);
    if found != computed {
        return Err(CodecError::Checksum { found, computed });
    }
    let meta_end = usize::try_from(word(13))
        .ok()
        .and_then(|length| HEADER.checked_add(length));
    let Some(meta_end) = meta_end.filter(|end| *end <= bytes.len()) else {
        return Err(short());
    };
    Ok(Snapshot {
        meta: SnapshotMeta::from_bytes(&bytes[HEADER..meta_end])?,
        snapshot: bytes.slice(meta_end..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn snapshot(index: u64, data: &'static [u8]) -> Snapshot {
        Snapshot {
            meta: SnapshotMeta {
                last_log_id: Some(log_id(2, 1, index)),
                ..SnapshotMeta::default()
            },
            snapshot: Bytes::from_static(data),
        }
    }

    fn index(store: &SnapshotStore) -> Option<u64> {
        let loaded = store.load().unwrap();
        loaded.map(|snapshot| snapshot.meta.last_log_id.unwrap().index)
    }

    #[test]
    fn the_newest_replaces_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path()).unwrap();
        assert_eq!(index(&store), None);
        store.save(&snapshot(9, b"nine")).unwrap();
        // As a number it is larger, as a decimal word it would sort before.
        store.save(&snapshot(10, b"ten")).unwrap();
        let SnapshotStore::Files(files) = &store else {
            panic!("not in files");
        };
        assert_eq!(names(files).unwrap().len(), 1);

        let store = SnapshotStore::open(dir.path()).unwrap();
        assert_eq!(
            store.load().unwrap().unwrap().snapshot,
            Bytes::from_static(b"ten")
        );
    }

    #[test]
    fn an_unfinished_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path()).unwrap();
        store.save(&snapshot(5, b"five")).unwrap();
        let torn = dir
            .path()
            .join("snapshots")
            .join(format!("{}{UNFINISHED}", file_name(Some(&log_id(2, 1, 8)))));
        fs::write(&torn, b"NEAPSNAP half of").unwrap();

        let store = SnapshotStore::open(dir.path()).unwrap();
        assert_eq!(index(&store), Some(5));
        assert!(!torn.exists());
    }

    #[test]
    fn damage_is_named_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path()).unwrap();
        store.save(&snapshot(5, b"five")).unwrap();
        let path = dir
            .path()
            .join("snapshots")
            .join(file_name(Some(&log_id(2, 1, 5))));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, bad).unwrap();
            let error = store.load().unwrap_err();
            assert!(
                matches!(error, OpenError::Damaged { .. } | OpenError::Format { .. }),
                "byte {at}: {error}"
            );
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(store.load(), Err(OpenError::Damaged { .. })));
    }
}
