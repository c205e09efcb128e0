//! Keeps the history on disk in step with the one in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::file::{HistoryFile, Record};
use super::kept::History;
use crate::clock::Clock;

/// Changes of this time are written together.
const TOGETHER: Duration = Duration::from_millis(500);
/// A folder that does not take them is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// The history on this replica's disk; without a folder, in memory alone.
#[derive(Debug)]
pub(crate) struct HistoryDisk {
    folder: Option<PathBuf>,
    file: Option<HistoryFile>,
    complained: bool,
}

impl HistoryDisk {
    /// Reads what `folder` holds into `history`. A folder that cannot be read or written is no
    /// reason not to start: the history then lives in memory, and the folder is tried again.
    pub(crate) async fn open(folder: Option<PathBuf>, history: &History) -> Self {
        let mut disk = Self {
            folder,
            file: None,
            complained: false,
        };
        let found = disk.append(Vec::new()).await;
        history.load(found);
        disk
    }

    /// Appends what comes until `stop` is cancelled, and what came last.
    pub(crate) async fn follow(
        mut self,
        history: Arc<History>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        loop {
            let news = stop.run_until_cancelled(history.news.notified()).await;
            let pause = if self.complained { TRY_AGAIN } else { TOGETHER };
            let later = clock.sleep_until(clock.boottime() + pause);
            let _ = stop.run_until_cancelled(later).await;
            // What an opened folder holds besides was taken in at the start.
            self.append(history.take_unwritten()).await;
            if news.is_none() {
                return;
            }
        }
    }

    /// Appends records to the file, opened first where it is not; gives what it held then.
    async fn append(&mut self, records: Vec<Record>) -> Vec<Record> {
        let Some(folder) = self.folder.clone() else {
            return Vec::new();
        };
        let file = self.file.take();
        let shown = folder.display().to_string();
        let done = tokio::task::spawn_blocking(move || append(&folder, file, &records)).await;
        match done {
            Ok(Ok((file, found))) => {
                self.file = Some(file);
                self.complained = false;
                found
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(folder = shown, %error, "the history of changes is kept in memory alone");
                }
                Vec::new()
            }
            // The runtime ends.
            Err(_) => Vec::new(),
        }
    }
}

fn append(
    folder: &Path,
    file: Option<HistoryFile>,
    records: &[Record],
) -> io::Result<(HistoryFile, Vec<Record>)> {
    let (mut file, found) = match file {
        Some(file) => (file, Vec::new()),
        None => HistoryFile::open(folder)?,
    };
    file.append(records)?;
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::keys::TargetKey;
    use crate::publish::history::ChangeRow;

    fn row(at_micros: i64) -> ChangeRow {
        ChangeRow {
            key: TargetKey::new("ns", "a"),
            at_micros,
            desired: 3,
            decision: serde_json::json!({"at": at_micros}).to_string(),
        }
    }

    #[tokio::test]
    async fn what_came_before_a_stop_is_there_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let history = Arc::new(History::default());
        let disk = HistoryDisk::open(Some(folder.path().to_owned()), &history).await;
        let stop = CancellationToken::new();
        history.keep_told(row(1));
        let clock = Arc::new(SystemClock);
        let following = tokio::spawn(disk.follow(history.clone(), clock, stop.clone()));
        history.keep_told(row(2));
        stop.cancel();
        following.await.unwrap();

        let again = History::default();
        HistoryDisk::open(Some(folder.path().to_owned()), &again).await;
        let key = TargetKey::new("ns", "a");
        let (changes, gaps) = again.of(&key);
        assert_eq!(
            changes,
            [serde_json::json!({"at": 2}), serde_json::json!({"at": 1})]
        );
        assert_eq!(gaps, serde_json::json!([]));
        assert_eq!(again.last_desired(&key), Some(3));
    }

    #[tokio::test]
    async fn without_a_folder_it_lives_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let history = History::default();
        let mut disk = HistoryDisk::open(Some(file.path().join("no")), &history).await;
        assert!(disk.complained);
        history.keep_told(row(1));
        disk.append(history.take_unwritten()).await;
        assert_eq!(history.of(&TargetKey::new("ns", "a")).0.len(), 1);

        let mut disk = HistoryDisk::open(None, &history).await;
        history.keep_told(row(2));
        disk.append(history.take_unwritten()).await;
        assert!(!disk.complained);
        assert_eq!(history.of(&TargetKey::new("ns", "a")).0.len(), 2);
    }
}
