use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the decision clock, in milliseconds.
///
/// The decision clock is the leader's: the last committed time plus the boot time since. It has no
/// relation to wall time, never jumps back, and its zero means nothing; negative points are legal
/// (tests and vectors use them). All arithmetic saturates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest point: "always long ago".
    pub const MIN: Self = Self(i64::MIN);
    /// The latest point: "never".
    pub const MAX: Self = Self(i64::MAX);

    /// A point `millis` milliseconds after the clock's zero.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the clock's zero.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(millis.unsigned_abs())
    }
}

/// A duration in whole milliseconds, the part below one dropped, at most `i64::MAX`.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds with three decimals, e.g. `t=12.345s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "t={sign}{}.{:03}s", magnitude / 1000, magnitude % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_goes_below_zero_time_passed() {
        let t = Timestamp::from_millis(1500);
        assert_eq!((t + Duration::from_secs(1)).as_millis(), 2500);
        assert_eq!((t - Duration::from_secs(2)).as_millis(), -500);
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(1).since(t), Duration::ZERO);
        assert_eq!(
            t.since(Timestamp::from_millis(-500)),
            Duration::from_secs(2)
        );
    }

    #[test]
    fn prints_seconds() {
        assert_eq!(Timestamp::from_millis(12_345).to_string(), "t=12.345s");
        assert_eq!(Timestamp::from_millis(-5).to_string(), "t=-0.005s");
    }
}
