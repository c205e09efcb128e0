//! A lower bound for metrics without a steady state by proportion alone: delay and saturation.

use std::time::Duration;

use neap_units::{MilliValue, Timestamp};

use crate::state::Rate;

/// Rates closer together than the window divided by this are not told apart, so that a window holds
/// about as many.
const STEPS: u32 = 20;

/// Records that each pod handled `per_pod` arrivals per second with the metric at or under target.
/// The queue falls from the best rate to later ones.
pub(crate) fn record(rates: &mut Vec<Rate>, per_pod: MilliValue, window: Duration, now: Timestamp) {
    rates.retain(|rate| rate.at > now - window);
    while rates.last().is_some_and(|rate| rate.per_pod <= per_pod) {
        rates.pop();
    }
    let just_seen = rates
        .last()
        .is_some_and(|rate| rate.at > now - window / STEPS);
    if per_pod > MilliValue::ZERO && !just_seen {
        rates.push(Rate { per_pod, at: now });
    }
}

/// Replicas for `arrivals` per second at the best rate of the window; `None` if no rate is known.
pub(crate) fn floor(
    rates: &[Rate],
    arrivals: MilliValue,
    window: Duration,
    now: Timestamp,
) -> Option<i32> {
    let known = rates.iter().filter(|rate| rate.at > now - window);
    let best = known.map(|rate| rate.per_pod.get()).max()?;
    let arrivals = arrivals.get().max(0);
    let replicas = arrivals / best + i64::from(arrivals % best != 0);
    Some(i32::try_from(replicas).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn per_second(rate: i64) -> MilliValue {
        MilliValue::from_units(rate)
    }

    #[test]
    fn the_best_rate_counts_for_the_window() {
        let mut rates = Vec::new();
        for (rate, second) in [(5, 0), (9, 60), (7, 120), (8, 180)] {
            record(&mut rates, per_second(rate), WINDOW, at(second));
        }
        assert_eq!(floor(&rates, per_second(25), WINDOW, at(200)), Some(3));
        assert_eq!(floor(&rates, per_second(27), WINDOW, at(200)), Some(3));
        assert_eq!(floor(&rates, per_second(28), WINDOW, at(200)), Some(4));
        // The 9 of second 60 is gone, the 8 of second 180 is the best now.
        assert_eq!(floor(&rates, per_second(28), WINDOW, at(660)), Some(4));
        assert_eq!(floor(&rates, per_second(33), WINDOW, at(660)), Some(5));
        assert_eq!(floor(&rates, per_second(28), WINDOW, at(780)), None);
    }

    #[test]
    fn no_arrivals_need_no_replicas() {
        let mut rates = Vec::new();
        record(&mut rates, MilliValue::ZERO, WINDOW, at(0));
        assert_eq!(floor(&rates, MilliValue::ZERO, WINDOW, at(0)), None);
        record(&mut rates, per_second(3), WINDOW, at(1));
        assert_eq!(floor(&rates, MilliValue::ZERO, WINDOW, at(2)), Some(0));
    }

    #[test]
    fn its_size_does_not_grow_with_the_rate_of_evaluation() {
        let mut rates = Vec::new();
        for step in 0..60_000 {
            let now = Timestamp::from_millis(step * 20);
            record(&mut rates, MilliValue::new(1_000_000 - step), WINDOW, now);
            assert!(rates.len() <= 21, "{}", rates.len());
        }
    }
}
