//! A PSI trigger on the node's own memory pressure: the kernel wakes the agent when the
//! node stalls, so that the coordinator hears of it before the next reading.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// 50 ms of stall within 500 ms. A process without CAP_SYS_RESOURCE gets only windows that are
/// multiples of 2 s, which is slower than reading, so it gets no trigger.
const TRIGGER: &[u8] = b"some 50000 500000\0";

/// An armed trigger. Poll it for POLLPRI; it fires at most once per window, and is disarmed when
/// dropped.
#[derive(Debug)]
pub struct PsiTrigger(File);

impl PsiTrigger {
    /// Arms it on `<proc_root>/pressure/memory`.
    ///
    /// # Errors
    /// No PSI, a read-only /proc, or not permitted.
    pub fn arm(proc_root: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(proc_root.join("pressure/memory"))?;
        file.write_all(TRIGGER)?;
        Ok(Self(file))
    }
}

impl AsFd for PsiTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_pressure_there_is_no_trigger() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            PsiTrigger::arm(empty.path()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn the_kernel_grants_it_or_says_why_not() {
        match PsiTrigger::arm(Path::new("/proc")) {
            Ok(trigger) => {
                let mut fds = [rustix::event::PollFd::new(
                    &trigger,
                    rustix::event::PollFlags::PRI,
                )];
                rustix::event::poll(
                    &mut fds,
                    Some(&rustix::event::Timespec {
                        tv_sec: 0,
                        tv_nsec: 0,
                    }),
                )
                .unwrap();
                assert!(
                    !fds[0].revents().contains(rustix::event::PollFlags::ERR),
                    "armed"
                );
            }
            Err(error) => {
                println!("skipped: no PSI trigger here: {error}");
                assert!(
                    matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::PermissionDenied
                            | io::ErrorKind::InvalidInput
                            | io::ErrorKind::Unsupported
                    ),
                    "{error:?}"
                );
            }
        }
    }
}
