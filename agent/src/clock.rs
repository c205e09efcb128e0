//! CLOCK_BOOTTIME, the one clock of a sample.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A point on the node's CLOCK_BOOTTIME, in nanoseconds: monotonic, goes on through suspend,
/// unrelated to the wall clock. Values of different boots must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` later by `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The next multiple of `interval` after `self`. Everything that shares a divisor falls due
    /// together, so that one wake-up serves all.
    pub fn next_multiple(self, interval: Duration) -> Self {
        let step = nanos(interval).max(1);
        Self((self.0 / step).saturating_add(1).saturating_mul(step))
    }

    /// Microseconds from `earlier` to `self`, capped to what a `u32` holds (71 minutes).
    pub fn micros_since_u32(self, earlier: Self) -> u32 {
        u32::try_from(self.since(earlier).as_micros()).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} since boot", Duration::from_nanos(self.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the sampler takes its time from.
pub trait BootClock: Send {
    /// Now.
    fn now(&self) -> BootTime;
}

/// The kernel's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn now(&self) -> BootTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        BootTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

/// The time on the node's wall, for the age of files, whose times were taken from it too. Nothing else
/// may use it.
#[allow(clippy::disallowed_methods)] // this is the adapter that the ban points to
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_fall_on_a_shared_grid() {
        let second = Duration::from_secs(1);
        let tenth = Duration::from_millis(100);
        let now = BootTime::from_nanos(12_345_678_901);
        assert_eq!(
            now.next_multiple(second),
            BootTime::from_nanos(13_000_000_000)
        );
        assert_eq!(
            now.next_multiple(tenth),
            BootTime::from_nanos(12_400_000_000)
        );
        // A time that is on the grid moves on.
        assert_eq!(
            BootTime::from_nanos(13_000_000_000).next_multiple(second),
            BootTime::from_nanos(14_000_000_000)
        );
    }

    #[test]
    fn the_kernels_clock_moves_forward() {
        let a = SystemBootClock.now();
        let b = SystemBootClock.now();
        assert!(a.as_nanos() > 0 && b >= a);
        assert_eq!(a.since(b.plus(second())), Duration::ZERO);
    }

    fn second() -> Duration {
        Duration::from_secs(1)
    }
}
