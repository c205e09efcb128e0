//! One series: taking in points, reading windows.

use std::time::Duration;

use super::ring::{Point, ROUNDING, Retention, Ring};

/// What a series is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The total is the counter; between readings it is taken as flat.
    Counter,
    /// The total is the integral of the value over seconds; between readings the value holds.
    Gauge,
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in.
    Stored,
    /// It is not newer than what is here.
    Stale,
    /// Its total is below the former one: left out.
    Backwards,
    /// The totals stay below for so long that the series must have begun anew; history is gone.
    Restarted,
}

/// So many points in a row below the former total mean that the thing measured began anew.
const RESTART_AFTER: u8 = 3;

/// A window as it was read, on the node's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// Growth of the total per second: a counter's rate, a gauge's mean.
    pub(super) per_second: f64,
    /// End of the window, microseconds of the node's boottime.
    pub(super) end: i64,
    /// What the mean over the window gains per second if nothing new is read.
    pub(super) drift: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Series {
    form: Form,
    ring: Ring,
    /// Time between two readings, microseconds.
    pub(super) interval: i64,
    /// The agent's own counting, begun with the agent.
    pub(super) since_agent_start: bool,
    /// Named on the current stream; otherwise left over from the one before.
    pub(super) current: bool,
    last: u64,
    peak: u64,
    backwards: u8,
}

impl Series {
    pub(super) fn new(form: Form, interval: i64, since_agent_start: bool) -> Self {
        Self {
            form,
            ring: Ring::default(),
            interval,
            since_agent_start,
            current: true,
            last: 0,
            peak: 0,
            backwards: 0,
        }
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub(super) fn points(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn reset(&mut self) {
        self.ring.clear();
        self.backwards = 0;
    }

    /// Takes a reading of a counter. `unchanged`: so long before `at` it was last read with the
    /// former value.
    pub(super) fn counter(
        &mut self,
        at: i64,
        value: u64,
        unchanged: i64,
        retention: Retention,
    ) -> Outcome {
        if unchanged > 0
            && let Some(last) = self.ring.last()
        {
            self.ring.push(
                Point {
                    at: at - unchanged,
                    total: last.total,
                },
                retention,
            );
        }
        let outcome = self.take(
            Point {
                at,
                total: value as f64,
            },
            retention,
        );
        if matches!(outcome, Outcome::Stored | Outcome::Restarted) {
            self.last = value;
        }
        outcome
    }

    /// Takes a reading of a gauge.
    pub(super) fn gauge(
        &mut self,
        at: i64,
        integral: f64,
        last: u64,
        peak: u64,
        retention: Retention,
    ) -> Outcome {
        if !integral.is_finite() {
            return Outcome::Backwards;
        }
        let outcome = self.take(
            Point {
                at,
                total: integral,
            },
            retention,
        );
        if matches!(outcome, Outcome::Stored | Outcome::Restarted) {
            self.last = last;
            self.peak = peak.max(last);
        }
        outcome
    }

    fn take(&mut self, point: Point, retention: Retention) -> Outcome {
        let Some(last) = self.ring.last() else {
            self.ring.push(point, retention);
            return Outcome::Stored;
        };
        if point.at <= last.at {
            return Outcome::Stale;
        }
        if point.total < last.total {
            self.backwards += 1;
            if self.backwards < RESTART_AFTER {
                return Outcome::Backwards;
            }
            self.reset();
            self.ring.push(point, retention);
            return Outcome::Restarted;
        }
        self.backwards = 0;
        self.ring.push(point, retention);
        Outcome::Stored
    }

    /// Takes in what the agent remembers, oldest first; `last` is the value at the newest of the points. The agent
    /// counts all of it as told and says nothing more of what rests, so what is newer than all that is held goes
    /// behind it, as what is older goes in front.
    pub(super) fn history(&mut self, points: &[(i64, f64)], last: u64) -> Outcome {
        let points: Vec<Point> = points
            .iter()
            .filter(|(_, total)| total.is_finite())
            .map(|&(at, total)| Point { at, total })
            .collect();
        let mut restarted = self.is_outlived_by(&points);
        if restarted {
            self.reset();
        }
        let held = self.ring.last();
        self.ring.prepend(&points);
        let is_news = match held {
            None => self.ring.len() > 0,
            Some(held) => {
                let mut is_newer = false;
                for point in newer_than(held, &points) {
                    // As much as in front: who needs the windows may not have said so yet.
                    let outcome = self.take(*point, Retention::Windows);
                    restarted |= outcome == Outcome::Restarted;
                    is_newer |= matches!(outcome, Outcome::Stored | Outcome::Restarted);
                }
                is_newer
            }
        };
        if is_news {
            self.last = last;
            self.peak = last;
        }
        if restarted {
            Outcome::Restarted
        } else {
            Outcome::Stored
        }
    }

    /// Whether replayed points prove that what is held is of an earlier life of the thing measured. A sum that the
    /// agent keeps never steps back within one life, and where it rests no later point would prove anything. What
    /// the kernel counts may have been read wrongly, as ever.
    fn is_outlived_by(&self, points: &[Point]) -> bool {
        let Some(held) = self.ring.last() else {
            return false;
        };
        let below = newer_than(held, points)
            .filter(|point| point.total < held.total)
            .count();
        let agents_own = self.since_agent_start || self.form == Form::Gauge;
        below >= usize::from(RESTART_AFTER) || (agents_own && below > 0)
    }

    /// The last value read: a counter's total, a gauge's value.
    pub(super) fn last(&self) -> Option<u64> {
        self.ring.last().map(|_| self.last)
    }

    /// Until when the total is known, given that all readings up to `frame` went well and that
    /// the node's clock shows `now`.
    fn known_until(&self, last: Point, frame: i64, now: i64) -> i64 {
        match self.form {
            // A reading may be up to one interval older than the batch that says it was fine.
            Form::Counter => last.at.max(frame - self.interval),
            Form::Gauge => last.at.max(frame).max(now),
        }
    }

    /// The total at `at`, which does not lie beyond what is known.
    fn total_at(&self, last: Point, at: i64) -> Option<f64> {
        let total = self.ring.total_at(at)?;
        if at > last.at && self.form == Form::Gauge {
            return Some(total + self.last as f64 * (at - last.at) as f64 / 1e6);
        }
        Some(total)
    }

    /// The mean or rate over the newest `window` that is known; `None` unless it is covered whole.
    pub(super) fn window(&self, window: Duration, frame: i64, now: i64) -> Option<Span> {
        let last = self.ring.last()?;
        let end = self.known_until(last, frame, now);
        let length = i64::try_from(window.as_micros()).unwrap_or(i64::MAX).max(1);
        let start = end.checked_sub(length)?;
        let seconds = length as f64 / 1e6;
        let per_second = (self.total_at(last, end)? - self.total_at(last, start)?) / seconds;
        let entering = match self.form {
            Form::Counter => 0.0,
            Form::Gauge => self.last as f64,
        };
        let leaving = if start >= last.at {
            entering
        } else {
            self.ring.slope_after(start) * 1e6
        };
        Some(Span {
            per_second: per_second.max(0.0),
            end,
            drift: (entering - leaving) / seconds,
        })
    }

    /// When a window of this length will be covered whole if all goes on well, on the node's clock;
    /// that may be in the past. `None` before the first point.
    pub(super) fn covered_at(&self, window: Duration) -> Option<i64> {
        let first = self.ring.first()?;
        let length = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let known_after = match self.form {
            Form::Counter => self.interval,
            Form::Gauge => 0,
        };
        Some(first.at.saturating_add(length).saturating_add(known_after))
    }

    /// A gauge's value just after `at`; `None` before the first point.
    pub(super) fn value_at(&self, at: i64) -> Option<f64> {
        let last = self.ring.last()?;
        if at >= last.at {
            return Some(self.last as f64);
        }
        self.ring
            .total_at(at)
            .map(|_| self.ring.slope_after(at) * 1e6)
    }

    /// For how long before `at` a gauge has been above zero, microseconds; as far back as is known.
    pub(super) fn nonzero_for(&self, at: i64) -> Option<i64> {
        if self.value_at(at)? <= 0.0 {
            return Some(0);
        }
        Some(at - self.ring.rising_since(at).unwrap_or(at))
    }

    /// Growth of the total between two instants of the node's clock; `None` unless covered.
    pub(super) fn growth(&self, start: i64, end: i64) -> Option<f64> {
        let last = self.ring.last()?;
        Some(self.total_at(last, end)? - self.total_at(last, start)?)
    }
}

/// The points that were read after `held`.
fn newer_than(held: Point, points: &[Point]) -> impl Iterator<Item = &Point> {
    let since = held.at.saturating_add(ROUNDING);
    points.iter().filter(move |point| point.at > since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(2);
    const S: i64 = 1_000_000;

    #[test]
    fn a_counter_is_flat_after_its_last_change_but_only_as_far_as_it_was_read() {
        let mut cpu = Series::new(Form::Counter, S, false);
        for second in 0..=10 {
            cpu.counter(second * S, second as u64 * 500_000, 0, Retention::Windows);
        }
        let span = cpu
            .window(WINDOW, 10 * S + 900_000, 10 * S + 950_000)
            .unwrap();
        assert_eq!(
            (span.per_second, span.end),
            (500_000.0, 10 * S),
            "the batch is ahead of the reading"
        );
        let span = cpu.window(WINDOW, 12 * S, 12 * S).unwrap();
        assert_eq!((span.per_second, span.end), (250_000.0, 11 * S));
        assert_eq!(span.drift, -250_000.0);
    }

    #[test]
    fn unchanged_readings_are_filled_in() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(0, 0, 0, Retention::Windows);
        cpu.counter(10 * S, 1_000_000, S, Retention::Windows);
        let span = cpu.window(WINDOW, 10 * S, 10 * S).unwrap();
        assert_eq!(
            span.per_second, 500_000.0,
            "all of the growth fell into the last second"
        );
    }

    #[test]
    fn a_gauge_holds_its_value_until_now() {
        let mut backlog = Series::new(Form::Gauge, 100_000, true);
        backlog.gauge(0, 0.0, 0, 0, Retention::Windows);
        backlog.gauge(10 * S, 0.0, 8, 8, Retention::Windows);
        let span = backlog
            .window(WINDOW, 10 * S + 100_000, 10 * S + 500_000)
            .unwrap();
        assert_eq!(span.per_second, 2.0);
        assert_eq!(span.drift, 4.0, "8 enter, 0 leave, over 2 s");
        let span = backlog.window(WINDOW, 12 * S, 13 * S).unwrap();
        assert_eq!((span.per_second, span.drift), (8.0, 0.0));
        assert_eq!(backlog.last(), Some(8));
    }

    #[test]
    fn the_age_of_a_backlog_goes_back_to_when_it_was_last_empty() {
        let mut backlog = Series::new(Form::Gauge, 100_000, true);
        backlog.gauge(0, 0.0, 3, 3, Retention::Windows);
        backlog.gauge(S, 3.0, 0, 0, Retention::Windows);
        backlog.gauge(4 * S, 3.0, 2, 2, Retention::Windows);
        backlog.gauge(5 * S, 5.0, 9, 9, Retention::Windows);
        assert_eq!(backlog.nonzero_for(7 * S), Some(3 * S));
        assert_eq!(backlog.nonzero_for(2 * S), Some(0));
        assert_eq!(backlog.value_at(4 * S + 1), Some(2.0));
        assert_eq!(backlog.value_at(8 * S), Some(9.0));
    }

    #[test]
    fn an_uncovered_window_is_absent() {
        let mut backlog = Series::new(Form::Gauge, 100_000, true);
        assert_eq!(backlog.window(WINDOW, 0, 0), None);
        backlog.gauge(10 * S, 0.0, 0, 0, Retention::Windows);
        assert_eq!(backlog.window(WINDOW, 11 * S, 11 * S), None);
        assert!(backlog.window(WINDOW, 12 * S, 12 * S).is_some());
        assert_eq!(backlog.covered_at(WINDOW), Some(12 * S));

        let mut cpu = Series::new(Form::Counter, S, false);
        assert_eq!(cpu.covered_at(WINDOW), None);
        cpu.counter(10 * S, 0, 0, Retention::Windows);
        let covered = cpu.covered_at(WINDOW).unwrap();
        assert_eq!(cpu.window(WINDOW, covered - 1, covered - 1), None);
        assert!(cpu.window(WINDOW, covered, covered).is_some());
    }

    #[test]
    fn a_step_back_is_left_out_until_it_proves_a_restart() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(S, 900, 0, Retention::Windows);
        assert_eq!(
            cpu.counter(2 * S, 100, 0, Retention::Windows),
            Outcome::Backwards
        );
        assert_eq!(
            cpu.counter(3 * S, 950, 0, Retention::Windows),
            Outcome::Stored
        );
        for (second, outcome) in [
            (4, Outcome::Backwards),
            (5, Outcome::Backwards),
            (6, Outcome::Restarted),
        ] {
            assert_eq!(
                cpu.counter(second * S, second as u64, 0, Retention::Windows),
                outcome
            );
        }
        assert_eq!(
            cpu.window(WINDOW, 6 * S, 6 * S),
            None,
            "nothing is known from before the restart"
        );
        assert_eq!(cpu.counter(6 * S, 7, 0, Retention::Windows), Outcome::Stale);
    }

    #[test]
    fn replayed_history_covers_the_window() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(10 * S, 1_000, 0, Retention::Windows);
        cpu.history(&[(7 * S, 400.0), (8 * S, 600.0)], 600);
        assert_eq!(
            cpu.window(WINDOW, 10 * S, 10 * S).unwrap().per_second,
            200.0
        );
        assert_eq!(cpu.last(), Some(1_000));
    }

    /// A queue of `value` since second 0, as it was told at second 10.
    fn queue(value: u64) -> Series {
        let mut queue = Series::new(Form::Gauge, 100_000, true);
        queue.gauge(0, 0.0, value, value, Retention::Windows);
        let integral = 10.0 * value as f64;
        queue.gauge(10 * S, integral, value, value, Retention::Windows);
        queue
    }

    fn mean(series: &Series, window: u64, end: i64) -> f64 {
        let window = Duration::from_secs(window);
        series.window(window, end * S, end * S).unwrap().per_second
    }

    #[test]
    fn a_gauge_that_changed_while_nobody_told_us_is_what_the_replay_says() {
        let mut backlog = queue(8);
        // 8 until second 20, then 2, until the replay at second 60.
        let replay = [(0, 0.0), (10 * S, 80.0), (20 * S, 160.0), (60 * S, 240.0)];
        assert_eq!(backlog.history(&replay, 2), Outcome::Stored);
        assert_eq!(backlog.last(), Some(2));
        assert_eq!(backlog.value_at(15 * S), Some(8.0));
        assert_eq!(backlog.value_at(30 * S), Some(2.0));
        assert_eq!(mean(&backlog, 2, 65), 2.0);
        assert_eq!(mean(&backlog, 60, 65), (15.0 * 8.0 + 45.0 * 2.0) / 60.0);
        assert_eq!(
            backlog.gauge(70 * S, 260.0, 0, 2, Retention::Windows),
            Outcome::Stored
        );
        assert_eq!(backlog.last(), Some(0));
    }

    #[test]
    fn a_queue_that_emptied_while_nobody_told_us_is_empty() {
        let mut backlog = queue(8);
        backlog.history(&[(0, 0.0), (20 * S, 160.0), (60 * S, 160.0)], 0);
        assert_eq!(backlog.last(), Some(0));
        assert_eq!(backlog.nonzero_for(61 * S), Some(0));
        assert_eq!(mean(&backlog, 2, 61), 0.0);

        let mut backlog = queue(0);
        backlog.history(&[(0, 0.0), (20 * S, 0.0), (60 * S, 200.0)], 5);
        assert_eq!(backlog.last(), Some(5));
        assert_eq!(backlog.nonzero_for(61 * S), Some(41 * S));
    }

    #[test]
    fn a_gauge_that_did_not_change_is_as_old_as_before() {
        let mut backlog = queue(3);
        // The reading of second 10 comes once more, a microsecond off.
        let replay = [(1, 0.0), (10 * S + 1, 30.0), (60 * S, 180.0)];
        backlog.history(&replay, 3);
        assert_eq!((backlog.points(), backlog.last()), (3, Some(3)));
        assert_eq!(backlog.nonzero_for(61 * S), Some(61 * S));
        assert_eq!(mean(&backlog, 60, 61), 3.0);
    }

    #[test]
    fn a_replay_that_is_no_newer_than_what_is_held_changes_nothing_of_the_present() {
        let mut backlog = queue(8);
        backlog.history(&[(4 * S, 0.0), (9 * S, 0.0)], 0);
        backlog.history(&[(10 * S, 80.0)], 0);
        backlog.history(&[(10 * S + ROUNDING, 80.0)], 0);
        backlog.history(&[], 0);
        assert_eq!((backlog.points(), backlog.last()), (2, Some(8)));
        assert_eq!(mean(&backlog, 2, 10), 8.0);
    }

    #[test]
    fn replayed_points_go_to_both_ends_each_once() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(5 * S, 500, 0, Retention::Windows);
        cpu.counter(10 * S, 1_000, 0, Retention::Windows);
        let replay = [
            (4 * S, 400.0),
            (5 * S - 1, 500.0),
            (7 * S, 700.0),
            (10 * S + 1, 1_000.0),
            (12 * S, 1_600.0),
            (12 * S, 1_600.0),
            (11 * S, 1_700.0),
        ];
        for _ in 0..2 {
            cpu.history(&replay, 1_600);
            assert_eq!((cpu.points(), cpu.last()), (4, Some(1_600)));
        }
        assert_eq!(mean(&cpu, 2, 12), 300.0);
        assert_eq!(cpu.growth(4 * S, 10 * S), Some(600.0));
    }

    #[test]
    fn what_a_counter_grew_by_while_nobody_told_us_falls_into_no_moment_after() {
        let mut cpu = Series::new(Form::Counter, S, false);
        for second in 0..=10 {
            cpu.counter(second * S, second as u64 * 1_000, 0, Retention::Windows);
        }
        // It grew until second 60 and rested from there on.
        let replay = [(10 * S, 10_000.0), (60 * S, 60_000.0), (100 * S, 60_000.0)];
        cpu.history(&replay, 60_000);
        assert_eq!(mean(&cpu, 2, 100), 0.0);
        assert_eq!(cpu.growth(20 * S, 30 * S), Some(10_000.0));
        cpu.counter(105 * S, 60_500, S, Retention::Windows);
        assert_eq!(mean(&cpu, 2, 105), 250.0, "not the growth of the whole gap");
        assert_eq!(mean(&cpu, 40, 105), 12.5);
    }

    #[test]
    fn a_replay_proves_a_restart_by_as_many_steps_back_as_readings_do() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(10 * S, 9_000, 0, Retention::Windows);
        let replay = [(50 * S, 0.0), (60 * S, 100.0), (70 * S, 200.0)];
        let mut begun = cpu.clone();
        assert_eq!(begun.history(&replay, 200), Outcome::Restarted);
        assert_eq!((begun.points(), begun.last()), (3, Some(200)));
        assert_eq!(
            mean(&begun, 20, 70),
            10.0,
            "all of the replay is of one life"
        );

        assert_eq!(cpu.history(&replay[..2], 100), Outcome::Stored);
        assert_eq!((cpu.points(), cpu.last()), (1, Some(9_000)));
        assert_eq!(
            cpu.counter(71 * S, 201, 0, Retention::Windows),
            Outcome::Restarted,
            "the third in a row"
        );
        assert_eq!(cpu.last(), Some(201));

        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(10 * S, 9_000, 0, Retention::Windows);
        cpu.history(&[(50 * S, 5.0), (60 * S, 9_500.0)], 9_500);
        assert_eq!((cpu.points(), cpu.last()), (2, Some(9_500)));
        assert_eq!(mean(&cpu, 50, 60), 10.0, "one was read wrongly");
    }

    #[test]
    fn a_sum_of_the_agents_own_that_steps_back_has_begun_anew() {
        let mut backlog = queue(8);
        let replay = [(50 * S, 0.0), (60 * S, 0.0)];
        assert_eq!(backlog.history(&replay, 0), Outcome::Restarted);
        assert_eq!((backlog.points(), backlog.last()), (2, Some(0)));
        assert_eq!(mean(&backlog, 10, 60), 0.0);

        let mut drops = Series::new(Form::Counter, S, true);
        drops.counter(10 * S, 9, 0, Retention::Windows);
        assert_eq!(drops.history(&[(50 * S, 1.0)], 1), Outcome::Restarted);
        assert_eq!(drops.last(), Some(1));
    }

    #[test]
    fn replays_are_thinned_as_readings_are() {
        let mut cpu = Series::new(Form::Counter, S, false);
        cpu.counter(0, 0, 0, Retention::Windows);
        let replay: Vec<_> = (1..=36_000)
            .map(|tick| (tick * 100_000, tick as f64))
            .collect();
        for minute in replay.chunks(600) {
            cpu.history(minute, 0);
            assert!(cpu.points() < 500, "{} points", cpu.points());
        }
        assert!((mean(&cpu, 300, 3_600) - 10.0).abs() < 1e-6);
    }
}
