//! Virtual time, and the clocks of one machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use neap_coordinator::clock::{Boottime, Clock};
use tokio::time::Instant;

/// Microseconds since the simulation began.
pub(crate) type Time = u64;

/// One step of the simulation: what is sent within it arrives after it.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// A time in microseconds.
pub(crate) const fn micros(span: Duration) -> Time {
    span.as_micros() as Time
}

/// So many milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What the walls of all machines showed when the simulation began, seconds of the epoch.
const WALL: i64 = 1_800_000_000;

/// The clocks of one machine, as a process on it reads them. Tokio's clock is CLOCK_MONOTONIC;
/// CLOCK_BOOTTIME goes on while the machine is suspended, and the wall may be set by anyone.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock {
    /// When the process started, on its own tokio's clock.
    started: Instant,
    /// Boottime then, in microseconds. Machines were booted at different times.
    boot: i64,
    suspended: Arc<AtomicI64>,
    /// The wall is ahead of the true time by so many microseconds.
    wall: Arc<AtomicI64>,
    since: i64,
}

impl MachineClock {
    /// The clocks of a machine, for a process that starts at `now`. `boot_offset` is how long before the
    /// simulation it was booted; `wall` how far its wall is ahead, all in microseconds.
    pub(crate) fn new(now: Time, boot_offset: i64, wall: Arc<AtomicI64>) -> Self {
        let since = i64::try_from(now).unwrap();
        Self {
            started: Instant::now(),
            boot: boot_offset + since,
            suspended: Arc::default(),
            wall,
            since,
        }
    }

    /// The machine slept: boottime went on, tokio's clock did not.
    pub(crate) fn slept(&self, span: Duration) {
        let micros = i64::try_from(span.as_micros()).unwrap();
        self.suspended.fetch_add(micros, Ordering::Relaxed);
    }

    fn running(&self) -> i64 {
        let awake = i64::try_from(self.started.elapsed().as_micros()).unwrap();
        awake + self.suspended.load(Ordering::Relaxed)
    }
}

impl Clock for MachineClock {
    fn boottime(&self) -> Boottime {
        Boottime::from_micros(self.boot + self.running())
    }

    fn wall(&self) -> jiff::Timestamp {
        let true_time = WALL * 1_000_000 + self.since + self.running();
        let shown = true_time + self.wall.load(Ordering::Relaxed);
        jiff::Timestamp::from_microsecond(shown).unwrap()
    }

    fn sleep_until(&self, deadline: Boottime) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let left = deadline.since(clock.boottime());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.max(ms(1))).await;
            }
        })
    }
}

impl neap_consensus::Clock for MachineClock {
    fn boottime(&self) -> Duration {
        let micros = Clock::boottime(self).as_micros();
        Duration::from_micros(u64::try_from(micros).unwrap())
    }
}
