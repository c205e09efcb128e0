//! The log in memory, for simulations: what was committed outlives the member, as a disk would.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Loaded, LogFile};
use crate::codec::Identity;
use crate::error::OpenError;
use crate::ports::Logged;
use crate::position::LogPosition;
use crate::types::{Command, Entry, LogId, Payload, Vote, position};

/// A disk's content. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct MemoryFile(Arc<Mutex<Content>>);

#[derive(Clone, Default)]
struct Content {
    commits: u64,
    entries: Vec<Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    identity: Option<Identity>,
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.content().clone())))
    }

    pub(crate) fn commits(&self) -> u64 {
        self.content().commits
    }

    pub(crate) fn entries(&self) -> Vec<Logged> {
        let content = self.content();
        let entries = content.entries.iter().map(|entry| Logged {
            position: position(&entry.log_id),
            command: match &entry.payload {
                Payload::Normal(Command::App(command)) => Some(command.clone()),
                _ => None,
            },
        });
        entries.collect()
    }

    pub(crate) fn committed(&self) -> Option<LogPosition> {
        self.content().committed.as_ref().map(position)
    }
}

impl LogFile for MemoryFile {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        let content = self.content();
        Ok(Loaded {
            entries: content.entries.clone(),
            vote: content.vote,
            committed: content.committed,
            purged: content.purged,
            identity: content.identity.clone(),
        })
    }

    fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut content = self.content();
        content.commits += 1;
        for change in changes {
            match change {
                Change::Append(entries) => {
                    let first = entries.first().map_or(u64::MAX, |entry| entry.log_id.index);
                    content.entries.retain(|entry| entry.log_id.index < first);
                    content.entries.extend(entries.iter().cloned());
                }
                Change::Vote(vote) => content.vote = Some(*vote),
                Change::Committed(id) => content.committed = *id,
                Change::TruncateAfter(last) => {
                    let from = last.map_or(0, |id| id.index + 1);
                    content.entries.retain(|entry| entry.log_id.index < from);
                }
                Change::Purge(upto) => {
                    content
                        .entries
                        .retain(|entry| entry.log_id.index > upto.index);
                    content.purged = Some(*upto);
                }
                Change::Identity(identity) => content.identity = Some(identity.clone()),
            }
        }
        Ok(())
    }
}
