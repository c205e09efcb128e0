//! Round numbers for axes.

/// Steps of time in seconds that read well.
const TIME_STEPS: [i64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800, 1_209_600, 2_592_000,
];

/// At most `count` steps of a round size from 0 on that reach `most`; at least one.
pub(super) fn values(most: f64, count: usize) -> Vec<f64> {
    let rough = (most / count as f64).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(power * 10.0);
    let steps = (most / step).ceil().max(1.0) as usize;
    (0..=steps).map(|number| number as f64 * step).collect()
}

/// The same for whole things.
pub(super) fn whole_values(most: i32, count: usize) -> Vec<f64> {
    if most <= 1 {
        return vec![0.0, 1.0];
    }
    let values = values(f64::from(most), count);
    if values[1] >= 1.0 && values[1].fract() == 0.0 {
        return values;
    }
    let step = values[1].ceil();
    let steps = (f64::from(most) / step).ceil() as usize;
    (0..=steps).map(|number| number as f64 * step).collect()
}

/// Round moments between `start` and `end` (milliseconds), at most `count`, and their step in
/// seconds. Round means a multiple of the step since 1970, or since the start.
pub(super) fn times(start: i64, end: i64, count: i64) -> (Vec<i64>, i64) {
    let seconds = (end - start) / 1000;
    let step = TIME_STEPS.into_iter().find(|step| seconds / step <= count);
    let step = step.unwrap_or_else(|| (seconds / count / 2_592_000 + 1) * 2_592_000);
    let first = start.div_euclid(step * 1000) * step * 1000;
    let moments = (0..)
        .map(|number| first + number * step * 1000)
        .skip_while(|at| *at < start)
        .take_while(|at| *at <= end);
    (moments.collect(), step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_round_and_reach_the_most() {
        assert_eq!(values(100.0, 4), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(values(0.3, 3), [0.0, 0.1, 0.2, 0.30000000000000004]);
        assert_eq!(whole_values(3, 5), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(whole_values(0, 5), [0.0, 1.0]);
        assert_eq!(whole_values(10, 4), [0.0, 3.0, 6.0, 9.0, 12.0]);
    }

    #[test]
    fn times_are_round() {
        let (moments, step) = times(0, 3_600_000, 8);
        assert_eq!((moments.len(), step), (7, 600));
        let (moments, step) = times(1_793_491_200_123, 1_793_577_600_000, 8);
        assert_eq!(step, 10_800);
        assert!(moments.iter().all(|at| at % 10_800_000 == 0) && !moments.is_empty());
        let year = 365 * 86_400_000;
        assert!(times(0, year, 8).0.len() <= 9);
    }
}
