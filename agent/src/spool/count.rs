//! One look into a spool.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, RawDir};

/// Files beyond this are not counted: no workload needs to know more exactly how far behind it is, and
/// a look must end.
pub const MAX_FILES: u64 = 100_000;

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Regular files whose names do not begin with a dot, and which are not older than asked for.
    pub files: u64,
    /// Those that are older: nobody came for them, so they do not wait.
    pub dead: u64,
}

/// Counts the files in a directory. With `max_age`, those that were last written longer before `now`
/// are dead; a file from the future is young. Stops at [`MAX_FILES`].
///
/// # Errors
/// The kernel's.
pub fn count(
    directory: BorrowedFd<'_>,
    max_age: Option<Duration>,
    now: SystemTime,
) -> rustix::io::Result<Count> {
    count_up_to(MAX_FILES, directory, max_age, now)
}

/// Hidden and dead files cost time too: of all entries twice as many are gone through at most.
fn count_up_to(
    most: u64,
    directory: BorrowedFd<'_>,
    max_age: Option<Duration>,
    now: SystemTime,
) -> rustix::io::Result<Count> {
    let mut count = Count { files: 0, dead: 0 };
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
    let mut seen = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        seen += 1;
        if count.files >= most || seen > 2 * most {
            break;
        }
        if entry.file_name().to_bytes().first() == Some(&b'.') {
            continue;
        }
        let kind = entry.file_type();
        let known = kind != FileType::Unknown;
        if known && kind != FileType::RegularFile {
            continue;
        }
        if known && max_age.is_none() {
            count.files += 1;
            continue;
        }
        // It may have been taken meanwhile.
        let Ok(stat) = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
        else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        let dead = max_age.is_some_and(|oldest| age(&stat, now) > oldest);
        if dead {
            count.dead += 1;
        } else {
            count.files += 1;
        }
    }
    Ok(count)
}

fn age(stat: &rustix::fs::Stat, now: SystemTime) -> Duration {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let written = UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
    written
        .and_then(|written| now.duration_since(written).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn look(directory: &std::path::Path, max_age: Option<Duration>) -> Count {
        let written = File::open(directory.join("job-1"))
            .and_then(|file| file.metadata()?.modified())
            .unwrap();
        count(
            File::open(directory).unwrap().as_fd(),
            max_age,
            written + MINUTE,
        )
        .unwrap()
    }

    #[test]
    fn only_regular_files_that_are_not_hidden_wait() {
        let spool = tempfile::tempdir().unwrap();
        let at = |name: &str| spool.path().join(name);
        for name in ["job-1", "job-2", ".job-3.part"] {
            File::create(at(name)).unwrap();
        }
        std::fs::create_dir(at("done")).unwrap();
        std::os::unix::fs::symlink("job-1", at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(look(spool.path(), None), Count { files: 2, dead: 0 });
    }

    #[test]
    fn files_older_than_the_age_are_dead_and_those_from_the_future_are_not() {
        let spool = tempfile::tempdir().unwrap();
        let at = |name: &str| spool.path().join(name);
        let first = File::create(at("job-1")).unwrap();
        let written = first.metadata().unwrap().modified().unwrap();
        for (name, later) in [("old", -10 * 60), ("young", 30), ("future", 3_600)] {
            let file = File::create(at(name)).unwrap();
            let shift = Duration::from_secs(i64::unsigned_abs(later));
            let time = if later < 0 {
                written - shift
            } else {
                written + shift
            };
            file.set_modified(time).unwrap();
        }
        assert_eq!(
            look(spool.path(), Some(2 * MINUTE)),
            Count { files: 3, dead: 1 }
        );
        assert_eq!(
            look(spool.path(), Some(MINUTE / 2)),
            Count { files: 2, dead: 2 }
        );
        assert_eq!(look(spool.path(), None), Count { files: 4, dead: 0 });
    }

    #[test]
    fn a_look_at_a_flood_of_files_ends() {
        let spool = tempfile::tempdir().unwrap();
        for number in 0..50 {
            File::create(spool.path().join(format!("job-{number}"))).unwrap();
            File::create(spool.path().join(format!(".part-{number}"))).unwrap();
        }
        let up_to = |most| {
            let directory = File::open(spool.path()).unwrap();
            let now = SystemTime::UNIX_EPOCH;
            count_up_to(most, directory.as_fd(), None, now)
                .unwrap()
                .files
        };
        assert_eq!(up_to(MAX_FILES), 50);
        assert!(up_to(20) <= 20 && up_to(20) > 0);
    }
}
