//! Reads one cgroup file again and again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Room for the largest file that is read (memory.stat, about 2 KiB).
pub const BUFFER: usize = 8 * 1024;

/// Reads that a missing file sits out at most before it is tried again.
const LONGEST_PAUSE: u16 = 32;

/// What all reads share, so that a read allocates nothing.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    buffer: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            buffer: vec![0; BUFFER].into(),
        }
    }
}

impl Scratch {
    /// The buffer, for other readers.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

/// One file of one cgroup. Files that are read each second or more often are kept open (a read is
/// then 4 us instead of 6.6 us); the others are not, because an open one costs the kernel a page
/// that counts as the agent's memory.
#[derive(Debug, Default)]
pub struct CgroupFile {
    file: Option<File>,
    /// Reads to sit out, and how many it will be next time.
    pause: u16,
    next_pause: u16,
}

impl CgroupFile {
    /// The bytes of `<root>/<cgroup>/<name>`; none if it is not there or cannot be read.
    pub fn read<'a>(
        &mut self,
        root: &Path,
        cgroup: &Path,
        name: &str,
        keep: bool,
        scratch: &'a mut Scratch,
    ) -> Option<&'a [u8]> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let length = self.try_read(root, cgroup, name, keep, scratch);
        if length.is_none() {
            self.file = None;
            self.next_pause = (self.next_pause * 2).clamp(1, LONGEST_PAUSE);
            self.pause = self.next_pause;
        } else {
            self.next_pause = 0;
        }
        scratch.buffer.get(..length?)
    }

    fn try_read(
        &mut self,
        root: &Path,
        cgroup: &Path,
        name: &str,
        keep: bool,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        if let Some(file) = &self.file {
            let length = file.read_at(&mut scratch.buffer, 0).ok();
            if !keep {
                self.file = None;
            }
            return length;
        }
        scratch.path.clear();
        scratch.path.push(root);
        scratch.path.push(cgroup);
        scratch.path.push(name);
        let file = File::open(&scratch.path).ok()?;
        let length = file.read_at(&mut scratch.buffer, 0).ok()?;
        if keep {
            self.file = Some(file);
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_shows_what_is_in_it_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("group");
        std::fs::create_dir(&path).unwrap();
        let mut scratch = Scratch::default();
        for keep in [true, false] {
            let mut file = CgroupFile::default();
            for content in ["one", "twelve"] {
                std::fs::write(path.join("cpu.stat"), content).unwrap();
                let read = file.read(
                    dir.path(),
                    Path::new("group"),
                    "cpu.stat",
                    keep,
                    &mut scratch,
                );
                assert_eq!(read, Some(content.as_bytes()));
            }
            assert_eq!(file.file.is_some(), keep);
        }
    }

    #[test]
    fn a_missing_file_is_tried_less_and_less_but_found_when_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::default();
        let mut file = CgroupFile::default();
        let mut read = |scratch: &mut Scratch| {
            file.read(dir.path(), Path::new(""), "x", true, scratch)
                .is_some()
        };
        assert!((0..1_000).all(|_| !read(&mut scratch)));
        std::fs::write(dir.path().join("x"), "1").unwrap();
        assert!((0..=LONGEST_PAUSE).any(|_| read(&mut scratch)));
        assert!(read(&mut scratch));
    }
}
