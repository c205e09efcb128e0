//! Drives the state machine that was handed in, and keeps what the cluster itself replicates.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, RaftSnapshotBuilder};

use crate::codec::FORMAT;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{RestoreError, SnapshotWriter, StateMachine};
use crate::types::{
    Command, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, position,
};

/// Which command format each member reads, by member.
pub(crate) type Formats = BTreeMap<u64, u8>;

/// Latest format that each of these voters reads. One that has not said what it reads, reads 1.
pub(crate) fn read_by_all(voters: impl Iterator<Item = u64>, formats: &Formats) -> u8 {
    let known = voters.map(|id| formats.get(&id).copied().unwrap_or(1));
    known.min().unwrap_or(1)
}

/// Openraft's state machine around ours.
pub(crate) struct Machine {
    app: Box<dyn StateMachine>,
    applied: Option<LogId>,
    membership: StoredMembership,
    formats: Arc<Formats>,
    /// What others of this crate see of the formats.
    shown: Arc<ArcSwap<Formats>>,
    store: SnapshotStore,
    /// Position of the snapshot in the store, so that it is not written again when openraft
    /// installs it at start.
    stored: Option<LogId>,
}

impl Machine {
    /// Takes the state machine as it is, empty; openraft installs the last snapshot.
    pub(crate) fn new(app: impl StateMachine, store: SnapshotStore) -> Self {
        Self {
            app: Box::new(app),
            applied: None,
            membership: StoredMembership::default(),
            formats: Arc::default(),
            shown: Arc::default(),
            store,
            stored: None,
        }
    }

    /// A view of the formats that follows what is applied.
    pub(crate) fn formats(&self) -> Arc<ArcSwap<Formats>> {
        self.shown.clone()
    }

    fn apply_one(&mut self, id: LogId, command: &Command) -> Result<(), io::Error> {
        match command {
            Command::App(bytes) => {
                let result = self.app.apply(position(&id), bytes);
                result.map_err(|error| io::Error::other(format!("entry {id}: {error}")))
            }
            Command::Announce { node, format } => {
                let mut formats = (*self.formats).clone();
                formats.insert(*node, *format);
                self.set_formats(formats);
                Ok(())
            }
            // The entry's index is all there is to it.
            Command::Allocate { .. } => Ok(()),
        }
    }

    fn set_formats(&mut self, formats: Formats) {
        self.formats = Arc::new(formats);
        self.shown.store(self.formats.clone());
    }

    /// What a removed member read counts no more; if it comes back it announces itself anew.
    fn forget_others(&mut self) {
        let members: Vec<u64> = self
            .membership
            .membership()
            .nodes()
            .map(|(id, _)| *id)
            .collect();
        if self.formats.keys().all(|id| members.contains(id)) {
            return;
        }
        let mut formats = (*self.formats).clone();
        formats.retain(|id, _| members.contains(id));
        self.set_formats(formats);
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<openraft::storage::EntryResponder<TypeConfig>, io::Error>>
            + Unpin
            + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => self.apply_one(entry.log_id, command)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                    self.forget_others();
                }
            }
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let voters = self.membership.membership().voter_ids();
        let format = read_by_all(voters, &self.formats);
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            formats: self.formats.clone(),
            writer: Mutex::new(Some(self.app.snapshot(format))),
            store: self.store.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let (formats, state) = unpack(&snapshot).map_err(io::Error::other)?;
        self.app.restore(&state).map_err(io::Error::other)?;
        if self.stored.is_none() || self.stored != meta.last_log_id {
            let snapshot = Snapshot {
                meta: meta.clone(),
                snapshot,
            };
            save(self.store.clone(), snapshot).await?;
        }
        self.stored = meta.last_log_id;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.set_formats(formats);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let store = self.store.clone();
        let load = move || store.load().map_err(io::Error::other);
        let loaded = if self.store.blocks() {
            tokio::task::spawn_blocking(load)
                .await
                .map_err(io::Error::other)?
        } else {
            load()
        }?;
        if let Some(snapshot) = &loaded {
            self.stored = snapshot.meta.last_log_id;
        }
        Ok(loaded)
    }
}

/// One frozen state on its way to the store.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    formats: Arc<Formats>,
    /// In a mutex because openraft wants its builders `Sync`; it is only taken through `&mut`.
    writer: Mutex<Option<SnapshotWriter>>,
    store: SnapshotStore,
}

/// What goes into a snapshot's data.
struct Pack {
    formats: Arc<Formats>,
    writer: SnapshotWriter,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else {
            return Err(io::Error::other("a snapshot is built once"));
        };
        let pack = Pack {
            formats: self.formats.clone(),
            writer,
        };
        let data = if self.store.blocks() {
            let packed = tokio::task::spawn_blocking(move || pack.run()).await;
            packed.map_err(io::Error::other)?
        } else {
            pack.run()
        };
        let snapshot = Snapshot {
            meta: self.meta.clone(),
            snapshot: data,
        };
        save(self.store.clone(), snapshot.clone()).await?;
        Ok(snapshot)
    }
}

async fn save(store: SnapshotStore, snapshot: Snapshot) -> io::Result<()> {
    if store.blocks() {
        let saved = tokio::task::spawn_blocking(move || store.save(&snapshot)).await;
        saved.map_err(io::Error::other)?
    } else {
        store.save(&snapshot)
    }
}

impl Pack {
    /// Version, number of formats, formats, and then the state of the state machine.
    fn run(self) -> Bytes {
        let state = (self.writer)();
        let mut out = BytesMut::with_capacity(16 + self.formats.len() * 9 + state.len());
        out.put_u8(FORMAT);
        out.put_u32_le(u32::try_from(self.formats.len()).unwrap_or(u32::MAX));
        for (node, format) in self.formats.iter() {
            out.put_u64_le(*node);
            out.put_u8(*format);
        }
        out.extend_from_slice(&state);
        out.freeze()
    }
}

/// Reads what [`Pack::run`] wrote.
fn unpack(snapshot: &Bytes) -> Result<(Formats, Bytes), RestoreError> {
    let refuse = |reason: String| RestoreError { reason };
    let cut = || refuse(format!("{} bytes are too few", snapshot.len()));
    let version = *snapshot.first().ok_or_else(cut)?;
    if version == 0 || version > FORMAT {
        return Err(refuse(format!(
            "format {version}; this version reads up to {FORMAT}"
        )));
    }
    let count = snapshot
        .get(1..5)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(cut)?;
    let count = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
    let end = count
        .checked_mul(9)
        .and_then(|length| length.checked_add(5))
        .ok_or_else(cut)?;
    let rows = snapshot.get(5..end).ok_or_else(cut)?;
    let mut formats = Formats::new();
    for row in rows.chunks_exact(9) {
        let (node, format) = row.split_at(8);
        let node = node.try_into().map(u64::from_le_bytes).map_err(|_| cut())?;
        formats.insert(node, format.first().copied().unwrap_or(1));
    }
    Ok((formats, snapshot.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_carries_formats_and_state() {
        let formats = Formats::from([(1, 1), (7, 3)]);
        let pack = Pack {
            formats: Arc::new(formats.clone()),
            writer: Box::new(|| b"state".to_vec()),
        };
        let bytes = pack.run();
        let (read, state) = unpack(&bytes).unwrap();
        assert_eq!((read, &state[..]), (formats, &b"state"[..]));
        for length in 0..bytes.len() - b"state".len() {
            assert!(unpack(&bytes.slice(..length)).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_later_snapshot_is_refused_by_version() {
        let error = unpack(&Bytes::from_static(&[FORMAT + 1, 0, 0, 0, 0])).unwrap_err();
        assert!(error.reason.contains("format 2"), "{error}");
    }
}
