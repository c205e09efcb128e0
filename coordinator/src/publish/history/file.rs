//! The history on disk: records appended to segments, of which the oldest go when there are too many.
//!
//! A record is its length, a checksum, and postcard. Nothing is synced: what a crash of the machine
//! takes is explanations, and decisions do not rest on them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::change::ChangeRow;

/// Bytes of one segment, about.
const SEGMENT: u64 = 4 << 20;
/// Segments kept: with the one that is written at most 32 MiB.
const SEGMENTS: usize = 8;
/// Ends the name of each segment. Another format has another ending, and is left alone.
const ENDING: &str = ".changes1";
/// Longer records are not written: no decision is that large.
const RECORD: usize = 1 << 20;
const HEADER: usize = 8;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Record {
    /// A change.
    Change(ChangeRow),
    /// Changes between these instants, in microseconds of the wall, may be missing.
    Gap {
        /// From.
        from: i64,
        /// Until.
        to: i64,
    },
    /// Until this instant, in microseconds of the wall, nothing is missing but what gaps name.
    Heard {
        /// The instant.
        at: i64,
    },
}

/// The segments of one folder, to be written by this process alone.
#[derive(Debug)]
pub(super) struct HistoryFile {
    folder: PathBuf,
    segments: Vec<u64>,
    current: File,
    size: u64,
}

impl HistoryFile {
    /// Opens the history in `folder`, which is made where it is missing. Gives what it holds, the
    /// oldest first. Bytes that are no record, as a crash leaves them, end their segment.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Vec<Record>)> {
        std::fs::create_dir_all(folder)?;
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            segments.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        segments.sort_unstable();
        let mut records = Vec::new();
        for segment in &segments {
            let bytes = std::fs::read(path(folder, *segment))?;
            let whole = read(&bytes, &mut records);
            if whole < bytes.len() {
                tracing::info!(
                    segment,
                    left_out = bytes.len() - whole,
                    "the end of this part of the history cannot be read"
                );
            }
        }
        // A segment of its own: what follows torn bytes would not be found again.
        let next = segments.last().map_or(0, |last| last + 1);
        segments.push(next);
        let mut file = Self {
            current: create(folder, next)?,
            folder: folder.to_owned(),
            segments,
            size: 0,
        };
        file.trim()?;
        Ok((file, records))
    }

    /// Appends records.
    ///
    /// # Errors
    /// They could not be written, all or in part.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
            if body.len() > RECORD {
                continue;
            }
            let length = u32::try_from(body.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
            if bytes.len() as u64 + self.size > SEGMENT {
                self.write(&std::mem::take(&mut bytes))?;
                self.rotate()?;
            }
        }
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.current.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.segments.last().map_or(0, |last| last + 1);
        self.current = create(&self.folder, next)?;
        self.segments.push(next);
        self.size = 0;
        self.trim()
    }

    fn trim(&mut self) -> io::Result<()> {
        while self.segments.len() > SEGMENTS {
            std::fs::remove_file(path(&self.folder, self.segments.remove(0)))?;
        }
        Ok(())
    }
}

fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:08}{ENDING}"))
}

fn create(folder: &Path, segment: u64) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path(folder, segment))
}

/// Reads records until one is not whole; gives how many bytes were.
fn read(bytes: &[u8], records: &mut Vec<Record>) -> usize {
    let mut at = 0;
    while let Some((record, length)) = next(bytes.get(at..).unwrap_or_default()) {
        records.push(record);
        at += length;
    }
    at
}

fn next(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (length, crc) = header.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    let body = rest.get(..length).filter(|_| length <= RECORD)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    let record = postcard::from_bytes(body).ok()?;
    Some((record, HEADER + length))
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
