//! inotify on the directories of the tree: tells at once where something came or went.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// A watched directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    /// The kubepods directory or one of its QoS levels.
    Level,
    /// The directory of this pod.
    Pod(Arc<str>),
}

/// One inotify instance.
#[derive(Debug)]
pub(super) struct Watcher {
    fd: OwnedFd,
    watched: HashMap<i32, Watched>,
}

/// What the pending events say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// Pods came or went.
    pub(super) levels: bool,
    /// Containers of these pods came or went.
    pub(super) pods: Vec<Arc<str>>,
    /// Events were lost: look everywhere.
    pub(super) everything: bool,
}

impl Watcher {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self {
            fd,
            watched: HashMap::new(),
        })
    }

    /// Watches a directory. The kernel ends the watch when the directory goes; one that is
    /// watched already stays so.
    pub(super) fn add(&mut self, path: &Path, watched: Watched) -> rustix::io::Result<()> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let wd = inotify::add_watch(&self.fd, path, flags)?;
        self.watched.insert(wd, watched);
        Ok(())
    }

    /// Ends all watches, so that a directory that was made anew can be watched again.
    pub(super) fn clear(&mut self) {
        for (wd, _) in self.watched.drain() {
            // Fails when the directory went: the watch is over then too.
            let _ = inotify::remove_watch(&self.fd, wd);
        }
    }

    /// Takes all pending events. Never blocks.
    pub(super) fn drain(&mut self) -> Dirty {
        let mut dirty = Dirty::default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.fd.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => return dirty,
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                dirty.everything = true;
                continue;
            }
            if event.events().contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
                continue;
            }
            match self.watched.get(&event.wd()) {
                Some(Watched::Level) => dirty.levels = true,
                Some(Watched::Pod(uid)) if !dirty.pods.contains(uid) => {
                    dirty.pods.push(uid.clone())
                }
                Some(Watched::Pod(_)) | None => {}
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
