//! Time, injected: the boottime clock that everything is measured with, and wall time for cron
//! and display.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

/// An instant on this machine's CLOCK_BOOTTIME, in microseconds. It runs on through suspend and
/// is never set by anyone. Instants of different machines or boots are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boottime(i64);

impl Boottime {
    /// The instant `micros` microseconds after boot.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since boot.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Boottime {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl std::ops::Sub<Duration> for Boottime {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

/// Where the coordinator takes time from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, on CLOCK_BOOTTIME.
    fn boottime(&self) -> Boottime;

    /// Now, on the wall: for cron, display, and the gap after a total stop. Nothing else.
    fn wall(&self) -> jiff::Timestamp;

    /// Completes once `boottime()` has reached `deadline`.
    fn sleep_until(&self, deadline: Boottime) -> BoxFuture<'static, ()>;
}

/// The machine's own clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boottime(&self) -> Boottime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Boottime(
            now.tv_sec
                .saturating_mul(1_000_000)
                .saturating_add(now.tv_nsec / 1_000),
        )
    }

    #[allow(clippy::disallowed_methods)] // this is the adapter that the ban points to
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn sleep_until(&self, deadline: Boottime) -> BoxFuture<'static, ()> {
        // tokio sleeps on CLOCK_MONOTONIC, which stands still in suspend: after a wake-up it is
        // late, never early, and the loop below closes the rest.
        Box::pin(async move {
            loop {
                let left = deadline.since(SystemClock.boottime());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.max(Duration::from_millis(1))).await;
            }
        })
    }
}

/// A clock that moves only when told: for tests and simulation.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<watch::Sender<(Boottime, jiff::Timestamp)>>,
}

impl ManualClock {
    /// A clock that stands at `boottime` and `wall`.
    pub fn new(boottime: Boottime, wall: jiff::Timestamp) -> Self {
        Self {
            now: Arc::new(watch::Sender::new((boottime, wall))),
        }
    }

    /// Moves both clocks forward by `span` and wakes every sleeper that falls due.
    pub fn advance(&self, span: Duration) {
        self.now.send_modify(|(boot, wall)| {
            *boot = *boot + span;
            *wall = wall.saturating_add(span).unwrap_or(*wall);
        });
    }

    /// Sets the wall alone, as an administrator or a broken time server does.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        self.now.send_modify(|now| now.1 = wall);
    }
}

impl Clock for ManualClock {
    fn boottime(&self) -> Boottime {
        self.now.borrow().0
    }

    fn wall(&self) -> jiff::Timestamp {
        self.now.borrow().1
    }

    fn sleep_until(&self, deadline: Boottime) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as the clock; once it is gone nobody can move time, and
            // a sleeper that never wakes is the right answer.
            if now.wait_for(|(boot, _)| *boot >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_reaches_it() {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let deadline = clock.boottime() + Duration::from_secs(5);
        let sleeper = tokio::spawn(clock.sleep_until(deadline));
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.wall(), jiff::Timestamp::from_second(5).unwrap());
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let a = SystemClock.boottime();
        assert!(SystemClock.boottime() >= a);
        assert!(a > Boottime::from_micros(0));
    }
}
