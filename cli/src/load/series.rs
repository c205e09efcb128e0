//! A series of numbers in time.

use std::time::Duration;

use neap_units::{MilliValue, Timestamp};

/// A load with more points than this is refused: about a year of seconds.
pub(super) const MAX_POINTS: usize = 32_000_000;

/// How long the last point of a series of one point holds.
const LONE_POINT: Duration = Duration::from_secs(60);

/// A number from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// From when.
    pub at: Timestamp,
    /// The number; `None`: the source gave no answer.
    pub value: Option<MilliValue>,
}

/// Points in strictly increasing time, at least one. Each holds until the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    points: Vec<Point>,
    /// The smallest time between two points.
    step: Duration,
}

/// Why points make no series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// There are none.
    #[error("there are no values")]
    Empty,
    /// A point is not later than the one before it.
    #[error("point {index} is not later than the one before it")]
    Order {
        /// Its place, from 0.
        index: usize,
    },
    /// More than are allowed.
    #[error("there are more than {MAX_POINTS} values; use a longer step or a shorter range")]
    TooMany,
}

impl Series {
    /// A series of `points`.
    ///
    /// # Errors
    /// [`SeriesError`].
    pub fn new(points: Vec<Point>) -> Result<Self, SeriesError> {
        if points.is_empty() {
            return Err(SeriesError::Empty);
        }
        if points.len() > MAX_POINTS {
            return Err(SeriesError::TooMany);
        }
        match points.windows(2).position(|pair| pair[1].at <= pair[0].at) {
            Some(index) => Err(SeriesError::Order { index: index + 1 }),
            None => {
                let steps = points.windows(2).map(|pair| pair[1].at.since(pair[0].at));
                let step = steps.min().unwrap_or(LONE_POINT);
                Ok(Self { points, step })
            }
        }
    }

    /// The same series with its first point at `start`.
    #[must_use]
    pub fn starting_at(mut self, start: Timestamp) -> Self {
        let shift = start.as_millis() - self.start().as_millis();
        for point in &mut self.points {
            point.at = Timestamp::from_millis(point.at.as_millis().saturating_add(shift));
        }
        self
    }

    /// Its points.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// When its first point begins.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.points[0].at
    }

    /// When its last point ends: after the smallest time there is between two points, or a minute
    /// where there is only one.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.points[self.points.len() - 1].at + self.step
    }

    /// The place of the point in force at `now`, searched from `from` on; `None` before the first.
    #[must_use]
    pub fn index_at(&self, now: Timestamp, from: usize) -> Option<usize> {
        if self.points.get(from).is_none_or(|point| point.at > now) {
            return self
                .points
                .partition_point(|point| point.at <= now)
                .checked_sub(1);
        }
        // Time moves forward in small steps: the next point or the one after it, mostly.
        let later = self.points[from + 1..]
            .iter()
            .take_while(|point| point.at <= now)
            .count();
        Some(from + later)
    }

    /// The mean over `window` up to `now`, of which `index` is the point in force. Time without an
    /// answer does not count; `None` where the point in force is one.
    #[must_use]
    pub fn mean(&self, index: usize, now: Timestamp, window: Duration) -> Option<MilliValue> {
        let current = self.points[index];
        let value = current.value?;
        let from = now - window;
        if current.at <= from || window.is_zero() {
            return Some(value);
        }
        let (mut sum, mut time) = (0_i128, 0_i128);
        let mut until = now;
        for point in self.points[..=index].iter().rev() {
            let since = point.at.max(from);
            let held = i128::try_from(until.since(since).as_millis()).unwrap_or(i128::MAX);
            if let Some(value) = point.value {
                sum = sum.saturating_add(i128::from(value.get()).saturating_mul(held));
                time += held;
            }
            until = since;
            if point.at <= from {
                break;
            }
        }
        if time == 0 {
            return Some(value);
        }
        Some(MilliValue::new(
            i64::try_from(sum / time).unwrap_or(i64::MAX),
        ))
    }
}

/// A named series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: a trigger's name, metric name or type, or anything where there is only one.
    pub name: String,
    /// Its values.
    pub series: Series,
}

/// Everything that a simulation runs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The columns, at least one, under different names.
    pub columns: Vec<Column>,
    /// Whether times are wall time, in milliseconds since 1970; else they count from 0.
    pub calendar: bool,
}

impl Load {
    /// When its first value begins.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        let starts = self.columns.iter().map(|column| column.series.start());
        starts.min().unwrap_or(Timestamp::from_millis(0))
    }

    /// When its last value ends.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        let ends = self.columns.iter().map(|column| column.series.end());
        ends.max().unwrap_or(Timestamp::from_millis(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(i64, Option<i64>)]) -> Series {
        let points = points.iter().map(|&(second, value)| Point {
            at: Timestamp::from_millis(second * 1000),
            value: value.map(MilliValue::from_units),
        });
        Series::new(points.collect()).unwrap()
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    #[test]
    fn a_point_holds_until_the_next() {
        let series = series(&[(0, Some(1)), (10, Some(2)), (30, None)]);
        for (at, index) in [
            (-1, None),
            (0, Some(0)),
            (9, Some(0)),
            (10, Some(1)),
            (99, Some(2)),
        ] {
            assert_eq!(series.index_at(second(at), 0), index, "{at}");
        }
        assert_eq!(
            series.index_at(second(5), 2),
            Some(0),
            "a place ahead is no obstacle"
        );
        assert_eq!(series.end(), second(40));
    }

    #[test]
    fn the_mean_is_over_the_window() {
        let series = series(&[(0, Some(10)), (60, Some(20)), (120, None), (180, Some(40))]);
        let mean = |at: i64, window: u64| {
            let index = series.index_at(second(at), 0).unwrap();
            series
                .mean(index, second(at), Duration::from_secs(window))
                .map(MilliValue::as_f64)
        };
        assert_eq!(mean(30, 15), Some(10.0));
        assert_eq!(
            mean(60, 15),
            Some(10.0),
            "the new value has not counted yet"
        );
        assert_eq!(mean(65, 10), Some(15.0));
        assert_eq!(mean(75, 10), Some(20.0));
        assert_eq!(mean(130, 10), None);
        assert_eq!(
            mean(185, 10),
            Some(40.0),
            "time without an answer does not count"
        );
        assert_eq!(mean(60, 0), Some(20.0));
    }

    #[test]
    fn points_must_be_in_order() {
        let point = |second| Point {
            at: Timestamp::from_millis(second),
            value: None,
        };
        assert_eq!(Series::new(vec![]), Err(SeriesError::Empty));
        let twice = Series::new(vec![point(1), point(2), point(2)]);
        assert_eq!(twice, Err(SeriesError::Order { index: 2 }));
    }
}
