//! Openraft's own tests of a store, on ours.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::log_store::{LogStore, RedbFile, Writer};
use crate::machine::Machine;
use crate::position::LogPosition;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{ApplyError, RestoreError, SnapshotWriter, StateMachine};
use crate::types::TypeConfig;

/// Keeps nothing: the suite looks at what openraft itself needs to be kept.
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, _: LogPosition, _: &[u8]) -> Result<(), ApplyError> {
        Ok(())
    }

    fn snapshot(&self, _format: u8) -> SnapshotWriter {
        Box::new(Vec::new)
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let file = RedbFile::open(dir.path()).unwrap();
        let (log, _) = LogStore::open(file, |file| Writer::thread(file, None)).unwrap();
        let store = SnapshotStore::open(dir.path()).unwrap();
        Ok((dir, log, Machine::new(Nothing, store)))
    }
}

#[tokio::test]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(OnDisk).await.unwrap();
}
