//! The points of one series, thinned with age.

use std::collections::VecDeque;

/// A cumulative total at one instant of the node's CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Microseconds on the node's boottime clock.
    pub(super) at: i64,
    /// The counter, or the gauge's integral. A double holds 2^53 exactly: 285 years of CPU time in
    /// microseconds.
    pub(super) total: f64,
}

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    /// All that windows of a scaled target may ask for.
    Windows,
    /// The last few points, and before them so many that the window of a plain look at usage is covered,
    /// whatever the pace of the readings.
    Recent,
}

/// One reading comes with one age in samples and with another in a replay, each cut to whole microseconds: so far apart
/// its two times may be.
pub(super) const ROUNDING: i64 = 1;

const SECOND: i64 = 1_000_000;
/// Up to the first age, points closer than the second are merged; beyond the last they go.
const STEPS: [(i64, i64); 3] = [
    (20 * SECOND, 0),
    (120 * SECOND, SECOND),
    (600 * SECOND, 5 * SECOND),
];
/// Of a series that no target lives on, the newest points are kept as they are, older ones at this distance
/// and up to this age: the default window of a CPU trigger, and some seconds for what is still to come.
const RECENT: usize = 4;
const RECENT_SPACING: i64 = 5 * SECOND;
const RECENT_SPAN: i64 = 20 * SECOND;
/// Whatever the rate of the agent, no series holds more.
const CAPACITY: usize = 1_024;
const SLACK: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    points: VecDeque<Point>,
    thin_at: usize,
}

impl Ring {
    pub(super) fn last(&self) -> Option<Point> {
        self.points.back().copied()
    }

    pub(super) fn first(&self) -> Option<Point> {
        self.points.front().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
    }

    /// Appends a point that is newer than all others; an older one is left out.
    pub(super) fn push(&mut self, point: Point, retention: Retention) {
        if self.last().is_some_and(|last| point.at <= last.at) {
            return;
        }
        self.points.push_back(point);
        match retention {
            Retention::Recent => self.keep_recent(point.at),
            Retention::Windows if self.points.len() >= self.thin_at.max(SLACK) => {
                self.thin();
                self.thin_at = self.points.len() + SLACK;
            }
            Retention::Windows => {}
        }
    }

    /// Thins what was kept before the newest points. At most `RECENT` and `RECENT_SPAN / RECENT_SPACING + 2`
    /// remain.
    fn keep_recent(&mut self, newest: i64) {
        // The one that is no longer among the newest.
        if let Some(aged) = self.points.len().checked_sub(RECENT + 1)
            && let Some(before) = aged.checked_sub(1)
            && let (Some(before), Some(point)) = (self.points.get(before), self.points.get(aged))
            && point.at - before.at < RECENT_SPACING
        {
            self.points.remove(aged);
        }
        while self.points.len() > RECENT
            && let Some(second) = self.points.get(1)
            && newest - second.at >= RECENT_SPAN
        {
            self.points.pop_front();
        }
    }

    /// Puts history in front: points older than all that are here, oldest first.
    pub(super) fn prepend(&mut self, history: &[Point]) {
        let first = self
            .points
            .front()
            .map_or(i64::MAX, |point| point.at.saturating_sub(ROUNDING));
        for point in history
            .iter()
            .rev()
            .filter(|point| point.at < first)
            .take(CAPACITY)
        {
            if self
                .points
                .front()
                .is_none_or(|next| point.at < next.at && point.total <= next.total)
            {
                self.points.push_front(*point);
            }
        }
        self.thin();
        self.thin_at = self.points.len() + SLACK;
    }

    fn thin(&mut self) {
        let Some(newest) = self.last() else { return };
        let horizon = STEPS[STEPS.len() - 1].0;
        let mut kept = VecDeque::with_capacity(self.points.len() + SLACK);
        let mut former = i64::MAX;
        for point in self.points.iter().rev() {
            let age = newest.at - point.at;
            if age > horizon {
                // One point beyond the horizon anchors the windows that begin after it.
                kept.push_front(*point);
                break;
            }
            let spacing = STEPS
                .iter()
                .find(|(limit, _)| age <= *limit)
                .map_or(0, |(_, spacing)| *spacing);
            if former.saturating_sub(point.at) >= spacing {
                kept.push_front(*point);
                former = point.at;
            }
        }
        while kept.len() > CAPACITY {
            kept.pop_front();
        }
        self.points = kept;
    }

    /// The total at `at`, between points in proportion; `None` before the first point. After the
    /// last point it is the last total.
    pub(super) fn total_at(&self, at: i64) -> Option<f64> {
        let after = self.points.partition_point(|point| point.at <= at);
        let before = self.points.get(after.checked_sub(1)?)?;
        let Some(next) = self.points.get(after) else {
            return Some(before.total);
        };
        let share = (at - before.at) as f64 / (next.at - before.at) as f64;
        Some(before.total + (next.total - before.total) * share)
    }

    /// Since when the total has been rising without a pause, seen from `at`.
    pub(super) fn rising_since(&self, at: i64) -> Option<i64> {
        let upto = self.points.partition_point(|point| point.at <= at);
        let mut since = self.points.get(upto.checked_sub(1)?)?;
        for point in self.points.range(..upto - 1).rev() {
            if since.total <= point.total {
                break;
            }
            since = point;
        }
        Some(since.at)
    }

    /// The rate of growth just after `at`, per microsecond; 0 after the last point.
    pub(super) fn slope_after(&self, at: i64) -> f64 {
        let after = self.points.partition_point(|point| point.at <= at);
        match (
            after
                .checked_sub(1)
                .and_then(|before| self.points.get(before)),
            self.points.get(after),
        ) {
            (Some(before), Some(next)) => {
                (next.total - before.total) / (next.at - before.at) as f64
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(ms: i64, total: f64) -> Point {
        Point {
            at: ms * 1_000,
            total,
        }
    }

    #[test]
    fn totals_between_points_are_in_proportion() {
        let mut ring = Ring::default();
        ring.push(point(1_000, 10.0), Retention::Windows);
        ring.push(point(2_000, 30.0), Retention::Windows);
        assert_eq!(ring.total_at(999_999), None, "not covered is not zero");
        assert_eq!(ring.total_at(1_250_000), Some(15.0));
        assert_eq!(ring.total_at(9_000_000), Some(30.0));
        assert_eq!(ring.slope_after(1_000_000), 20.0 / 1e6);
        assert_eq!(ring.slope_after(2_000_000), 0.0);
    }

    #[test]
    fn an_hour_at_ten_hertz_stays_small_and_keeps_its_windows() {
        let mut ring = Ring::default();
        let end = 3_600_000;
        for ms in (0..=end).step_by(100) {
            ring.push(point(ms, ms as f64), Retention::Windows);
        }
        assert!(ring.len() < 500, "{} points", ring.len());
        for back in [0, 1_500, 15_000, 60_500, 300_000, 599_000] {
            let at = end - back;
            assert_eq!(ring.total_at(at * 1_000), Some(at as f64), "{back} ms back");
        }
        assert_eq!(ring.total_at((end - 700_000) * 1_000), None);
    }

    #[test]
    fn a_series_that_nobody_lives_on_covers_a_plain_look_with_few_points() {
        let window = 15_000;
        for every in [100, 1_000, 10_000, 60_000] {
            let mut ring = Ring::default();
            for ms in (0..=600_000).step_by(every) {
                ring.push(point(ms, ms as f64), Retention::Recent);
                assert!(ring.len() <= 10, "{} points, each {every} ms", ring.len());
                let start = ms - window;
                match ring.total_at(start * 1_000) {
                    None => assert!(start < 0, "each {every} ms, at {ms}"),
                    Some(total) => assert!(
                        (total - start as f64).abs() < 1e-6,
                        "{total} at {start}, each {every} ms"
                    ),
                }
            }
            assert_eq!(ring.last(), Some(point(600_000, 600_000.0)));
        }
    }

    #[test]
    fn an_idle_series_keeps_its_anchor() {
        let mut ring = Ring::default();
        ring.push(point(0, 5.0), Retention::Windows);
        for second in 3_600..3_700 {
            ring.push(point(second * 1_000, second as f64), Retention::Windows);
        }
        assert_eq!(
            ring.total_at(3_400_000_000).map(|total| total > 5.0),
            Some(true)
        );
    }

    #[test]
    fn history_goes_in_front_and_never_twice() {
        let mut ring = Ring::default();
        ring.push(point(5_000, 50.0), Retention::Windows);
        ring.prepend(&[point(1_000, 10.0), point(3_000, 30.0), point(6_000, 60.0)]);
        assert_eq!(ring.len(), 3);
        assert_eq!(ring.total_at(2_000_000), Some(20.0));
        ring.prepend(&[point(1_000, 10.0), point(3_000, 30.0)]);
        assert_eq!(ring.len(), 3);
    }
}
