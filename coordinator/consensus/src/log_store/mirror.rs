//! The log in memory.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use super::Loaded;
use crate::types::{Command, Entry, LogId, Payload, Vote};

/// The whole log, always as the queue of writes will leave the file.
pub(super) struct Mirror {
    /// Without holes, in order.
    entries: VecDeque<Entry>,
    bytes: usize,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

/// What an entry counts for. The constant stands for its head and its place in memory.
fn size(entry: &Entry) -> usize {
    let content = match &entry.payload {
        Payload::Normal(Command::App(bytes)) => bytes.len(),
        _ => 0,
    };
    content + 64
}

impl Mirror {
    pub(super) fn new(loaded: Loaded) -> Self {
        let mut mirror = Self {
            entries: VecDeque::new(),
            bytes: 0,
            vote: loaded.vote,
            committed: loaded.committed,
            purged: loaded.purged,
        };
        mirror.append(&loaded.entries);
        mirror
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_pristine(&self) -> bool {
        self.entries.is_empty() && self.vote.is_none() && self.purged.is_none()
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.entries
            .back()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }

    /// Openraft appends where the log ends; an index already there would mean that it was
    /// overwritten without a truncation, so what it replaces is dropped.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.drop_from(first.log_id.index);
        }
        self.bytes += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        self.drop_from(last.map_or(0, |id| id.index + 1));
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        while let Some(first) = self.entries.front() {
            if first.log_id.index > upto.index {
                break;
            }
            self.bytes -= size(first);
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Entries of `range`, in order, until they exceed `limit` bytes; the first always.
    pub(super) fn range(&self, range: impl RangeBounds<u64>, limit: usize) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|entry| entry.log_id.index) else {
            return Vec::new();
        };
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index.saturating_add(1),
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let take = usize::try_from(end.saturating_sub(start.max(first))).unwrap_or(usize::MAX);
        let mut bytes = 0usize;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(skip).take(take) {
            bytes = bytes.saturating_add(size(entry));
            if bytes > limit && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        out
    }

    /// Index up to which entries would have to go so that the rest counts at most `bytes`.
    pub(super) fn cut_point(&self, bytes: usize) -> Option<u64> {
        let mut rest = self.bytes;
        let mut upto = None;
        for entry in &self.entries {
            if rest <= bytes {
                break;
            }
            rest -= size(entry);
            upto = Some(entry.log_id.index);
        }
        upto
    }

    fn drop_from(&mut self, index: u64) {
        while let Some(last) = self.entries.back() {
            if last.log_id.index < index {
                break;
            }
            self.bytes -= size(last);
            self.entries.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::log_id;

    fn entry(index: u64, length: usize) -> Entry {
        Entry {
            log_id: log_id(1, 1, index),
            payload: Payload::Normal(Command::App(Bytes::from(vec![1; length]))),
        }
    }

    fn mirror(range: std::ops::Range<u64>) -> Mirror {
        Mirror::new(Loaded {
            entries: range.map(|index| entry(index, 36)).collect(),
            ..Loaded::default()
        })
    }

    fn indexes(entries: Vec<Entry>) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn ranges_hold_what_the_log_has() {
        let mirror = mirror(5..9);
        assert_eq!(indexes(mirror.range(.., usize::MAX)), [5, 6, 7, 8]);
        assert_eq!(indexes(mirror.range(6..8, usize::MAX)), [6, 7]);
        assert_eq!(indexes(mirror.range(0..=5, usize::MAX)), [5]);
        assert_eq!(indexes(mirror.range(0..5, usize::MAX)), [0; 0]);
        assert_eq!(indexes(mirror.range(8..100, usize::MAX)), [8]);
        assert_eq!(indexes(mirror.range(9.., usize::MAX)), [0; 0]);
    }

    #[test]
    fn a_byte_limit_never_takes_the_first_entry_away() {
        let mirror = mirror(0..10);
        assert_eq!(indexes(mirror.range(2..9, 1)), [2]);
        assert_eq!(indexes(mirror.range(2..9, 250)), [2, 3]);
    }

    #[test]
    fn bytes_follow_every_change() {
        let mut mirror = mirror(0..10);
        assert_eq!(mirror.bytes(), 1000);
        mirror.purge(log_id(1, 1, 3));
        assert_eq!(
            (mirror.bytes(), mirror.purged),
            (600, Some(log_id(1, 1, 3)))
        );
        mirror.truncate_after(Some(log_id(1, 1, 7)));
        assert_eq!(
            (mirror.bytes(), mirror.last()),
            (400, Some(log_id(1, 1, 7)))
        );
        assert_eq!(mirror.cut_point(250), Some(5));
        assert_eq!(mirror.cut_point(400), None);
        mirror.append(&[entry(6, 0)]);
        assert_eq!(
            (mirror.bytes(), mirror.last()),
            (264, Some(log_id(1, 1, 6)))
        );
        mirror.truncate_after(None);
        assert_eq!((mirror.bytes(), mirror.last()), (0, Some(log_id(1, 1, 3))));
    }
}
