//! Decision time: the one time line that stabilisation windows, policy periods and cooldowns are
//! counted on, whoever leads.

use std::time::Duration;

use neap_units::Timestamp;

use crate::clock::{Boottime, Clock};

/// A committed time and when this process applied it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeAnchor {
    /// The committed time.
    pub at: Timestamp,
    /// The proposer's wall clock then, microseconds of the epoch.
    pub wall_micros: i64,
    /// When it was applied here.
    pub applied: Boottime,
}

/// The decision clock of one leadership: the last committed time plus the boottime since. It
/// never goes back and knows nothing of wall clocks, but for one case: after a total stop the
/// time for which nobody was up is taken from the wall, and never below 0.
#[derive(Debug, Clone, Copy)]
pub struct DecisionClock {
    base: Timestamp,
    since: Boottime,
}

impl DecisionClock {
    /// The clock of a leadership that begins now. `opened` is when this process opened its log:
    /// a time that was committed before it and applied from disk stood still in between.
    pub fn take_over(anchor: Option<TimeAnchor>, opened: Opened, clock: &dyn Clock) -> Self {
        let now = clock.boottime();
        let Some(anchor) = anchor else {
            return Self {
                base: Timestamp::default(),
                since: now,
            };
        };
        let stopped = if anchor.applied <= opened.replayed_until {
            let gap = opened.wall_micros.saturating_sub(anchor.wall_micros).max(0);
            Duration::from_micros(gap.unsigned_abs())
        } else {
            Duration::ZERO
        };
        let since = if stopped.is_zero() {
            anchor.applied
        } else {
            opened.at
        };
        Self {
            base: anchor.at + stopped,
            since,
        }
    }

    /// Decision time at `boottime`, which may lie before the time that this clock goes on from.
    pub fn at(&self, boottime: Boottime) -> Timestamp {
        if boottime < self.since {
            self.base - self.since.since(boottime)
        } else {
            self.base + boottime.since(self.since)
        }
    }

    /// When decision time reaches `at`; at once for the past.
    pub fn boottime_of(&self, at: Timestamp, now: Boottime) -> Boottime {
        // A millisecond's fraction was cut off on the way in.
        let left = at.since(self.at(now));
        if left.is_zero() {
            now
        } else {
            now + left + Duration::from_millis(1)
        }
    }
}

/// When a moment of the past on the wall was, given both clocks now; never in the future.
pub(super) fn boottime_of_wall(wall: jiff::Timestamp, clock: &dyn Clock) -> Boottime {
    let age = clock.wall().duration_since(wall);
    clock.boottime() - Duration::try_from(age).unwrap_or(Duration::ZERO)
}

/// When this process opened its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Boottime before the log was opened.
    pub at: Boottime,
    /// Wall clock at that time, microseconds of the epoch.
    pub wall_micros: i64,
    /// What was applied until then came from this process's own disk.
    pub replayed_until: Boottime,
}

impl Opened {
    /// Notes both clocks before the log is opened.
    pub fn before(clock: &dyn Clock) -> Self {
        let at = clock.boottime();
        Self {
            at,
            wall_micros: clock.wall().as_microsecond(),
            replayed_until: at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const fn ms(millis: i64) -> Boottime {
        Boottime::from_micros(millis * 1_000)
    }

    fn wall(seconds: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_new_leader_goes_on_from_the_last_entry_it_applied() {
        let clock = ManualClock::new(ms(50_000), wall(9_999));
        let opened = Opened {
            at: ms(1_000),
            wall_micros: 5,
            replayed_until: ms(1_200),
        };
        let anchor = TimeAnchor {
            at: Timestamp::from_millis(700_000),
            wall_micros: 1,
            applied: ms(49_000),
        };
        let time = DecisionClock::take_over(Some(anchor), opened, &clock);
        assert_eq!(time.at(clock.boottime()), Timestamp::from_millis(701_000));
        clock.set_wall(wall(9_999 - 300));
        assert_eq!(
            time.at(clock.boottime()),
            Timestamp::from_millis(701_000),
            "the wall plays no part"
        );
        clock.advance(Duration::from_secs(2));
        assert_eq!(time.at(clock.boottime()), Timestamp::from_millis(703_000));
        assert_eq!(
            time.boottime_of(Timestamp::from_millis(704_000), clock.boottime()),
            ms(53_001)
        );
        assert_eq!(
            time.boottime_of(Timestamp::from_millis(1), clock.boottime()),
            ms(52_000)
        );
    }

    #[test]
    fn after_a_total_stop_the_wall_bridges_the_gap() {
        let stopped_at = wall(1_000).as_microsecond();
        let anchor = TimeAnchor {
            at: Timestamp::from_millis(700_000),
            wall_micros: stopped_at,
            applied: ms(1_100),
        };
        let opened = Opened {
            at: ms(1_000),
            wall_micros: wall(1_040).as_microsecond(),
            replayed_until: ms(1_200),
        };
        let clock = ManualClock::new(ms(3_000), wall(1_042));
        let time = DecisionClock::take_over(Some(anchor), opened, &clock);
        assert_eq!(time.at(clock.boottime()), Timestamp::from_millis(742_000));
        let opened = Opened {
            wall_micros: wall(500).as_microsecond(),
            ..opened
        };
        let time = DecisionClock::take_over(Some(anchor), opened, &clock);
        assert_eq!(
            time.at(clock.boottime()),
            Timestamp::from_millis(701_900),
            "a wall that went back never makes time go back"
        );
    }

    #[test]
    fn a_moment_on_the_wall_has_a_decision_time() {
        let clock = ManualClock::new(ms(0), wall(1_000));
        let opened = Opened::before(&clock);
        let time = DecisionClock::take_over(None, opened, &clock);
        let at = |seconds| time.at(boottime_of_wall(wall(seconds), &clock));
        assert_eq!(at(990), Timestamp::from_millis(-10_000));
        assert_eq!(at(1_010), Timestamp::from_millis(0), "never in the future");
    }
}
