//! How often a target may be written, and whether someone else keeps undoing it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Boottime;

/// After the first write of a target, at most one in this time.
const SPACING: Duration = Duration::from_secs(1);
/// A contested target is written at most once in this time.
const CONTESTED_SPACING: Duration = Duration::from_secs(15);
/// So many conflicts in a row are answered at once with what was read anew.
const QUICK_CONFLICTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);

/// The pace of one target's writes.
#[derive(Debug, Default)]
pub(super) struct WritePace {
    in_flight: bool,
    last: Option<Boottime>,
    not_before: Option<Boottime>,
    failures: u32,
    conflicts: u32,
}

impl WritePace {
    /// A write is on its way.
    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// From when on the next write may be sent, if not at once.
    pub(super) fn allowed_from(&self, now: Boottime, contested: bool) -> Option<Boottime> {
        let spacing = if contested {
            CONTESTED_SPACING
        } else {
            SPACING
        };
        let spaced = self.last.map(|last| last + spacing);
        spaced
            .into_iter()
            .chain(self.not_before)
            .max()
            .filter(|from| *from > now)
    }

    /// A write goes out.
    pub(super) fn sent(&mut self) {
        self.in_flight = true;
    }

    /// It was taken, at this time.
    pub(super) fn done(&mut self, at: Boottime) {
        *self = Self {
            last: Some(at),
            ..Self::default()
        };
    }

    /// Someone changed the object in between: it was not a write. Conflicts that do not end are
    /// paced like writes.
    pub(super) fn conflict(&mut self, now: Boottime) {
        self.in_flight = false;
        self.conflicts += 1;
        if self.conflicts > QUICK_CONFLICTS {
            self.last = Some(now);
        }
    }

    /// It failed. `retry_after` is what the server asked for. Returns when to try again.
    pub(super) fn failed(&mut self, now: Boottime, retry_after: Option<Duration>) -> Boottime {
        self.in_flight = false;
        self.last = Some(now);
        let backoff = FIRST_BACKOFF * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let again = now + retry_after.unwrap_or(backoff.min(LAST_BACKOFF));
        self.not_before = Some(again);
        again
    }
}

const RESETS: usize = 3;
const RESETS_WITHIN: Duration = Duration::from_secs(600);

/// Who else sets the replicas.
#[derive(Debug, Default)]
pub(super) struct Contest {
    written: Option<i32>,
    /// What is on its way: the watch may tell of it before the answer comes.
    sent: Option<i32>,
    resets: VecDeque<Boottime>,
    /// It was told who contests it.
    told: bool,
}

impl Contest {
    /// A write of `replicas` goes out.
    pub(super) fn sends(&mut self, replicas: i32) {
        self.sent = Some(replicas);
    }

    /// What became of it is known.
    pub(super) fn answered(&mut self) {
        self.sent = None;
    }

    /// This process wrote `replicas`.
    pub(super) fn wrote(&mut self, replicas: i32) {
        self.written = Some(replicas);
    }

    /// The replicas were seen at `replicas`, changed by someone else.
    pub(super) fn changed_outside(&mut self, replicas: i32, now: Boottime) {
        if self.written.is_none_or(|written| written == replicas) || self.sent == Some(replicas) {
            return;
        }
        self.told &= self.is_contested(now);
        self.written = None;
        self.resets.push_back(now);
        while self.resets.len() > RESETS {
            self.resets.pop_front();
        }
    }

    /// True once for each contest.
    pub(super) fn is_news(&mut self, now: Boottime) -> bool {
        self.is_contested(now) && !std::mem::replace(&mut self.told, true)
    }

    /// Someone reset what was written three times within ten minutes.
    pub(super) fn is_contested(&self, now: Boottime) -> bool {
        self.resets.len() == RESETS
            && self
                .resets
                .front()
                .is_some_and(|first| now.since(*first) < RESETS_WITHIN)
    }

    /// When the contest ends if nothing more happens.
    pub(super) fn ends(&self) -> Option<Boottime> {
        self.resets
            .front()
            .filter(|_| self.resets.len() == RESETS)
            .map(|first| *first + RESETS_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: i64) -> Boottime {
        Boottime::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn writes_are_spaced_after_the_first() {
        let mut pace = WritePace::default();
        assert_eq!(
            pace.allowed_from(s(0), false),
            None,
            "the first goes at once"
        );
        pace.sent();
        assert!(pace.in_flight());
        pace.done(s(0));
        assert!(!pace.in_flight());
        assert_eq!(pace.allowed_from(s(0), false), Some(s(1)));
        assert_eq!(pace.allowed_from(s(0), true), Some(s(15)));
        assert_eq!(pace.allowed_from(s(1), false), None);
    }

    #[test]
    fn failures_back_off_and_retry_after_is_honoured() {
        let mut pace = WritePace::default();
        assert_eq!(pace.failed(s(0), None), s(1));
        assert_eq!(pace.failed(s(1), None), s(3));
        assert_eq!(pace.failed(s(3), Some(Duration::from_secs(40))), s(43));
        assert_eq!(pace.allowed_from(s(10), false), Some(s(43)));
        for _ in 0..40 {
            pace.failed(s(100), None);
        }
        assert_eq!(pace.failed(s(100), None), s(160));
        pace.done(s(200));
        assert_eq!(pace.failed(s(201), None), s(202));
    }

    #[test]
    fn a_conflict_is_answered_at_once_but_not_for_ever() {
        let mut pace = WritePace::default();
        for _ in 0..QUICK_CONFLICTS {
            pace.sent();
            pace.conflict(s(0));
            assert_eq!(pace.allowed_from(s(0), false), None);
        }
        pace.conflict(s(0));
        assert_eq!(pace.allowed_from(s(0), false), Some(s(1)));
    }

    #[test]
    fn three_resets_in_ten_minutes_make_a_contest() {
        let mut contest = Contest::default();
        contest.changed_outside(9, s(0));
        for at in [10, 20, 30] {
            assert!(!contest.is_news(s(at)));
            contest.wrote(5);
            // That is what was written, then a reset, which counts once.
            for seen in [5, 2, 3] {
                contest.changed_outside(seen, s(at));
            }
        }
        assert!(contest.is_news(s(30)));
        assert!(!contest.is_news(s(31)), "once");
        assert!(contest.is_contested(s(609)));
        assert!(!contest.is_contested(s(610)));
        assert_eq!(contest.ends(), Some(s(610)));
        contest.wrote(5);
        contest.changed_outside(2, s(615));
        assert!(
            contest.is_news(s(615)),
            "resets at 20, 30 and 615: contested again"
        );
        assert!(!contest.is_contested(s(620)));
    }

    #[test]
    fn a_write_that_the_watch_shows_before_its_answer_is_no_reset() {
        let mut contest = Contest::default();
        for replicas in 1..=8 {
            contest.sends(replicas);
            contest.changed_outside(replicas, s(i64::from(replicas)));
            contest.answered();
            contest.wrote(replicas);
        }
        assert!(!contest.is_contested(s(8)));
    }
}
