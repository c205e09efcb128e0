//! The last minutes of a series in a handful of points, denser the younger they are.

use std::time::Duration;

use crate::clock::BootTime;

/// One remembered reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it was read.
    pub at: BootTime,
    /// The counter, or the gauge's value.
    pub value: u64,
    /// Gauges: the integral, in value times seconds.
    pub integral: f64,
    /// Gauges: largest value since the point before.
    pub peak: u64,
}

/// Points that a series keeps.
pub const POINTS: usize = 16;

/// How far back they reach.
pub const SPAN: Duration = Duration::from_secs(600);

/// At most [`POINTS`] points of the last [`SPAN`], and the one before it. When full, the
/// point goes whose absence costs least: the one whose neighbours are nearest to each other,
/// measured against its age.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: Vec<Point>,
}

impl Ring {
    /// Adds the newest point.
    pub fn push(&mut self, point: Point) {
        if self.points.len() >= POINTS {
            self.thin(point.at);
        } else if self.points.len() == self.points.capacity() {
            // Most series of an idle pod never need more than the first few.
            let room = if self.points.is_empty() {
                2
            } else {
                POINTS - self.points.len()
            };
            self.points.reserve_exact(room);
        }
        self.points.push(point);
    }

    /// Oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    fn thin(&mut self, now: BootTime) {
        let outlived = self
            .points
            .get(1)
            .is_some_and(|second| now.since(second.at) > SPAN);
        let victim = if outlived { 0 } else { self.most_crowded(now) };
        // A peak must survive the point that carried it.
        let peak = self.points.get(victim).map_or(0, |point| point.peak);
        if let Some(next) = self.points.get_mut(victim + 1)
            && victim > 0
        {
            next.peak = next.peak.max(peak);
        }
        self.points.remove(victim);
    }

    fn most_crowded(&self, now: BootTime) -> usize {
        let mut victim = 0;
        let mut least = f64::INFINITY;
        for (at, window) in self.points.windows(3).enumerate() {
            let [before, point, after] = window else {
                continue;
            };
            let gap = after.at.since(before.at).as_secs_f64();
            let age = now.since(point.at).as_secs_f64() + 1.0;
            if gap / age < least {
                least = gap / age;
                victim = at + 1;
            }
        }
        victim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(seconds: f64, value: u64) -> Point {
        Point {
            at: BootTime::from_nanos((seconds * 1e9) as u64),
            value,
            integral: 0.0,
            peak: value,
        }
    }

    #[test]
    fn ten_minutes_at_ten_hertz_keep_every_window_answerable() {
        let mut ring = Ring::default();
        for tick in 0..6_000u64 {
            ring.push(point(1_000.0 + tick as f64 * 0.1, tick));
        }
        let points = ring.points();
        assert_eq!(points.len(), POINTS);
        let newest = points[POINTS - 1].at;
        assert_eq!(points[POINTS - 1].value, 5_999);
        // For each window there is a point that is at most twice as old and not younger than half.
        for window in [2.0, 5.0, 15.0, 60.0, 300.0] {
            let near = points.iter().any(|point| {
                let age = newest.since(point.at).as_secs_f64();
                (window / 2.0..=window * 2.0).contains(&age)
            });
            assert!(near, "no point for a window of {window} s in {points:?}");
        }
        assert!(points.is_sorted_by_key(|point| point.at));
    }

    #[test]
    fn nothing_older_than_the_span_but_one() {
        let mut ring = Ring::default();
        for hour in 0..40u64 {
            ring.push(point(hour as f64 * 3_600.0, hour));
        }
        let newest = ring.points().last().unwrap().at;
        let old = ring.points()[1..]
            .iter()
            .filter(|point| newest.since(point.at) > SPAN)
            .count();
        // Filled up to POINTS before the span matters, then the oldest goes with each push.
        assert!(
            ring.points().len() <= POINTS && old < POINTS,
            "{:?}",
            ring.points()
        );
        assert_eq!(ring.points()[0].value, 40 - POINTS as u64);
    }

    #[test]
    fn a_peak_outlives_its_point() {
        let mut ring = Ring::default();
        ring.push(point(0.0, 1));
        ring.push(Point {
            peak: 99,
            ..point(1.0, 1)
        });
        for tick in 2..200u64 {
            ring.push(point(tick as f64, 1));
        }
        assert!(
            ring.points()[1..].iter().any(|point| point.peak == 99),
            "{:?}",
            ring.points()
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut ring = Ring::default();
        for tick in 0..100_000u64 {
            ring.push(point(tick as f64, tick));
        }
        assert_eq!(ring.points.capacity(), POINTS);
    }
}
