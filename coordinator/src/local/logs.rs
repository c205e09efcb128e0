//! The logs of replicas: none grows without end, and of ended ones only so many stay.

use std::path::Path;

const MOST_BYTES: u64 = 64 << 20;
const KEPT: usize = 200;

/// Empties each log in `folder` that is too large (a process appends to its log, so that it goes on in
/// the empty one), and removes the oldest where there are too many: [`KEPT`] stay, and two for each
/// pod of `pods`.
pub(super) fn trim(folder: &Path, pods: usize) {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut logs = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.len() > MOST_BYTES {
            let file = std::fs::OpenOptions::new().write(true).open(entry.path());
            let _ = file.and_then(|file| file.set_len(0));
        }
        logs.push((metadata.modified().ok(), entry.path()));
    }
    logs.sort();
    let surplus = logs.len().saturating_sub(KEPT.max(pods * 2));
    for (_, log) in logs.into_iter().take(surplus) {
        let _ = std::fs::remove_file(log);
    }
}
