//! The log in one redb file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Change, Loaded, LogFile};
use crate::codec::{CodecError, FORMAT, Identity, Record};
use crate::error::OpenError;
use crate::types::{Entry, LogId, Vote};

/// Index to entry.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Everything else, by name.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const IDENTITY: &str = "identity";

/// Pages kept in memory. The log itself is mirrored, so this serves writes only.
const CACHE: usize = 4 << 20;

/// An open log file; redb's lock keeps other processes out.
pub(crate) struct RedbFile {
    database: Database,
    path: PathBuf,
}

impl RedbFile {
    /// Name of the file in the data directory.
    pub(crate) const NAME: &'static str = "raft.redb";

    /// Opens or creates the file in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(Self::NAME);
        let fresh = !path.exists();
        let database = match Database::builder().set_cache_size(CACHE).create(&path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(OpenError::InUse { path: dir.into() });
            }
            Err(error) => return Err(damaged(&path, error)),
        };
        if fresh {
            // The name must outlive a power cut as surely as what is in the file.
            sync_dir(dir)?;
        }
        Ok(Self { database, path })
    }

    fn try_load(&self) -> Result<Loaded, OpenError> {
        let mut loaded = Loaded::default();
        let damaged = |error: redb::Error| damaged(&self.path, error);
        let write = self
            .database
            .begin_write()
            .map_err(|error| damaged(error.into()))?;
        // Creates the tables of a new file, so that reading needs no special case.
        write
            .open_table(LOG)
            .map_err(|error| damaged(error.into()))?;
        write
            .open_table(META)
            .map_err(|error| damaged(error.into()))?;
        write.commit().map_err(|error| damaged(error.into()))?;

        let read = self
            .database
            .begin_read()
            .map_err(|error| damaged(error.into()))?;
        let log = read
            .open_table(LOG)
            .map_err(|error| damaged(error.into()))?;
        for row in log.iter().map_err(|error| damaged(error.into()))? {
            let (index, bytes) = row.map_err(|error| damaged(error.into()))?;
            let index = index.value();
            let entry: Entry = self.decode(&format!("entry {index}"), bytes.value())?;
            if entry.log_id.index != index {
                let reason = format!("entry {index} says that it is {}", entry.log_id.index);
                return Err(self.broken(reason));
            }
            loaded.entries.push(entry);
        }
        let meta = read
            .open_table(META)
            .map_err(|error| damaged(error.into()))?;
        let get = |name: &str| meta.get(name).map_err(|error| damaged(error.into()));
        if let Some(bytes) = get(VOTE)? {
            loaded.vote = Some(self.decode::<Vote>(VOTE, bytes.value())?);
        }
        if let Some(bytes) = get(COMMITTED)? {
            loaded.committed = self.decode::<Option<LogId>>(COMMITTED, bytes.value())?;
        }
        if let Some(bytes) = get(PURGED)? {
            loaded.purged = self.decode::<Option<LogId>>(PURGED, bytes.value())?;
        }
        if let Some(bytes) = get(IDENTITY)? {
            loaded.identity = Some(self.decode::<Identity>(IDENTITY, bytes.value())?);
        }
        Ok(loaded)
    }

    fn decode<T: Record>(&self, what: &str, bytes: &[u8]) -> Result<T, OpenError> {
        T::from_bytes(bytes).map_err(|error| match error {
            CodecError::Format(found) => OpenError::Format {
                path: self.path.clone(),
                found,
                readable: FORMAT,
            },
            error => self.broken(format!("{what}: {error}")),
        })
    }

    fn broken(&self, reason: String) -> OpenError {
        OpenError::Damaged {
            path: self.path.clone(),
            reason,
        }
    }
}

fn damaged(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    match error.into() {
        redb::Error::Io(source) => OpenError::Io {
            what: format!("cannot open {}", path.display()),
            source,
        },
        error => OpenError::Damaged {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| OpenError::Io {
        what: format!("cannot sync directory {}", dir.display()),
        source,
    })
}

impl LogFile for RedbFile {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        let loaded = self.try_load()?;
        let indexes: Vec<u64> = loaded
            .entries
            .iter()
            .map(|entry| entry.log_id.index)
            .collect();
        if let Some(pair) = indexes.windows(2).find(|pair| pair[1] != pair[0] + 1) {
            return Err(self.broken(format!(
                "entries {} to {} are missing",
                pair[0] + 1,
                pair[1]
            )));
        }
        let expected = loaded.purged.map_or(0, |id| id.index + 1);
        match indexes.first() {
            Some(&first) if first != expected => {
                Err(self.broken(format!("log starts at entry {first}, not at {expected}")))
            }
            _ => Ok(loaded),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut write = self.database.begin_write().map_err(other)?;
        write.set_durability(Durability::Immediate).map_err(other)?;
        {
            let mut log = write.open_table(LOG).map_err(other)?;
            let mut meta = write.open_table(META).map_err(other)?;
            for change in changes {
                match change {
                    Change::Append(entries) => {
                        for entry in entries {
                            let bytes = entry.to_bytes().map_err(other)?;
                            log.insert(entry.log_id.index, bytes.as_slice())
                                .map_err(other)?;
                        }
                    }
                    Change::Vote(vote) => {
                        let bytes = vote.to_bytes().map_err(other)?;
                        meta.insert(VOTE, bytes.as_slice()).map_err(other)?;
                    }
                    Change::Committed(id) => {
                        let bytes = id.to_bytes().map_err(other)?;
                        meta.insert(COMMITTED, bytes.as_slice()).map_err(other)?;
                    }
                    Change::TruncateAfter(last) => {
                        let from = last.map_or(0, |id| id.index + 1);
                        log.retain_in(from.., |_, _| false).map_err(other)?;
                    }
                    Change::Purge(upto) => {
                        log.retain_in(..=upto.index, |_, _| false).map_err(other)?;
                        let bytes = Some(*upto).to_bytes().map_err(other)?;
                        meta.insert(PURGED, bytes.as_slice()).map_err(other)?;
                    }
                    Change::Identity(identity) => {
                        let bytes = identity.to_bytes().map_err(other)?;
                        meta.insert(IDENTITY, bytes.as_slice()).map_err(other)?;
                    }
                }
            }
        }
        write.commit().map_err(other)
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
