//! What the streams want of the sampler. The newest wish of each kind replaces the one before, so
//! nothing gathers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use neap_proto::node;
use rustix::event::EventfdFlags;
use tokio::sync::mpsc;

/// Where samples go: one active stream.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Messages that wait to be sent. When it is full the sampler waits with the next batch:
    /// what changes meanwhile goes into that.
    pub messages: mpsc::Sender<node::AgentMessage>,
    /// Sequence of the last Samples that was handed over.
    pub sent: Arc<AtomicU64>,
}

/// What has been wished since it was last looked at.
#[derive(Debug, Default)]
pub struct Wishes {
    /// A new active stream, or that there is none.
    pub outlet: Option<Option<Outlet>>,
    /// What to read from now on.
    pub directives: Option<node::Directives>,
    /// The end.
    pub stop: bool,
}

/// Shared by the sampler's thread and the streams.
#[derive(Debug)]
pub struct Mailbox {
    wishes: Mutex<Wishes>,
    /// CLOCK_BOOTTIME of the sampler's last step, nanoseconds.
    stepped: AtomicU64,
    event: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wishes: Mutex::default(),
            stepped: AtomicU64::new(0),
            event,
        })
    }

    /// Samples go there from now on; to nobody if none.
    pub fn set_outlet(&self, outlet: Option<Outlet>) {
        self.wish(|wishes| wishes.outlet = Some(outlet));
    }

    /// Read this from now on.
    pub fn set_directives(&self, directives: node::Directives) {
        self.wish(|wishes| wishes.directives = Some(directives));
    }

    /// Ends the sampler.
    pub fn stop(&self) {
        self.wish(|wishes| wishes.stop = true);
    }

    /// Makes the sampler step: one of its sources has news.
    pub fn nudge(&self) {
        // Fails only when 2^64 wake-ups are pending.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// CLOCK_BOOTTIME of the sampler's last step, nanoseconds; 0 before the first.
    pub fn last_step_nanos(&self) -> u64 {
        self.stepped.load(Ordering::Relaxed)
    }

    pub(super) fn stepped(&self, nanos: u64) {
        self.stepped.store(nanos, Ordering::Relaxed);
    }

    /// What has been wished since the last call. The mailbox is readable while there is something.
    pub fn take(&self) -> Wishes {
        let mut count = [0u8; 8];
        // Fails when nothing was written: nothing to take then either.
        let _ = rustix::io::read(&self.event, &mut count);
        std::mem::take(&mut *self.lock())
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.lock());
        self.nudge();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wishes> {
        // The wishes are whole at any moment, whoever panicked.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
