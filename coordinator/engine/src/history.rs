//! The recommendations that stabilisation can still need.

use std::time::Duration;

use neap_units::Timestamp;
use serde::{Deserialize, Serialize};

/// More entries than this are never kept; the oldest give way. At the HPA's pace the longest window
/// (an hour) needs 240.
pub(crate) const MAX_RECOMMENDATIONS: usize = 1024;

/// Recommendations in the slots the HPA would keep them in, thinned to a monotone queue.
///
/// The HPA appends one recommendation per look and reuses the last slot whose entry has left both
/// windows; entries that leave together linger, and count again if a window is lengthened. These
/// slots are kept as they are for looks at the HPA's pace. Looks that follow each other faster than
/// that only keep what a window's highest or lowest recommendation can still depend on: an entry
/// goes when later ones within the same pace are at least as high and at least as low. So the
/// number of entries does not grow with the rate of evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    entries: Vec<Recommendation>,
}

/// A number that the metrics proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The number.
    pub replicas: i32,
    /// When.
    pub at: Timestamp,
}

impl History {
    /// Whether nothing was recorded yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in the order of their slots.
    pub(crate) fn entries(&self) -> &[Recommendation] {
        &self.entries
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Records `replicas` at `now` into a slot for which `is_free` holds, the last such one, or into
    /// a new one.
    pub(crate) fn record(
        &mut self,
        replicas: i32,
        now: Timestamp,
        pace: Duration,
        is_free: impl Fn(&Recommendation) -> bool,
    ) {
        self.thin(replicas, now, pace);
        let entry = Recommendation { replicas, at: now };
        match self.entries.iter().rposition(&is_free) {
            Some(slot) => self.entries[slot] = entry,
            None => self.entries.push(entry),
        }
        if self.entries.len() > MAX_RECOMMENDATIONS {
            let oldest = self
                .entries
                .iter()
                .enumerate()
                .min_by_key(|(_, entry)| entry.at);
            if let Some((oldest, _)) = oldest {
                self.entries.remove(oldest);
            }
        }
    }

    /// Drops entries younger than `pace` that lie within the range of later ones.
    fn thin(&mut self, replicas: i32, now: Timestamp, pace: Duration) {
        if pace.is_zero() {
            return;
        }
        let since = now - pace;
        let (mut lowest, mut highest) = (replicas, replicas);
        let mut before = Timestamp::MAX;
        // Walk back in time over the few young entries; slots are not in the order of time.
        loop {
            let latest = self
                .entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.at > since && entry.at < before)
                .max_by_key(|(_, entry)| entry.at);
            let Some((slot, &entry)) = latest else { return };
            before = entry.at;
            if (lowest..=highest).contains(&entry.replicas) {
                self.entries.remove(slot);
            } else {
                lowest = lowest.min(entry.replicas);
                highest = highest.max(entry.replicas);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn record(history: &mut History, replicas: i32, second: i64, pace: Duration) {
        let old = at(second) - Duration::from_secs(60);
        history.record(replicas, at(second), pace, |entry| entry.at < old);
    }

    fn values(history: &History) -> Vec<i32> {
        history
            .entries()
            .iter()
            .map(|entry| entry.replicas)
            .collect()
    }

    #[test]
    fn at_the_hpas_pace_every_look_has_its_slot() {
        let mut history = History::default();
        for look in 0..5 {
            record(&mut history, 3, look * 15, PACE);
        }
        assert_eq!(values(&history), [3; 5]);
        // The first entry is older than the window now, and its slot is taken again.
        record(&mut history, 4, 75, PACE);
        assert_eq!(values(&history), [4, 3, 3, 3, 3]);
    }

    #[test]
    fn of_slots_that_free_together_the_last_is_taken_and_the_others_linger() {
        let mut history = History::default();
        for (replicas, second) in [(1, 0), (2, 20), (3, 40), (9, 110)] {
            record(&mut history, replicas, second, PACE);
        }
        assert_eq!(values(&history), [1, 2, 9]);
    }

    #[test]
    fn faster_looks_keep_only_peaks_and_dips() {
        let mut history = History::default();
        for (second, replicas) in [5, 9, 7, 8, 2, 4, 3, 6].into_iter().enumerate() {
            record(&mut history, replicas, second as i64, PACE);
        }
        // 9 is the highest since, 8 the highest after it; 2 the lowest, 3 the lowest after it.
        assert_eq!(values(&history), [9, 8, 2, 3, 6]);
    }

    #[test]
    fn of_too_many_entries_the_oldest_gives_way() {
        let mut history = History::default();
        for look in 0..3000 {
            history.record(3, at(look), Duration::ZERO, |_| false);
        }
        assert_eq!(history.len(), MAX_RECOMMENDATIONS);
        let oldest = history.entries().iter().map(|entry| entry.at).min();
        assert_eq!(oldest, Some(at(3000 - 1024)));
    }

    #[test]
    fn a_constant_number_takes_one_slot_at_any_rate() {
        let mut history = History::default();
        for step in 0..100_000 {
            let now = Timestamp::from_millis(step * 20);
            history.record(5, now, PACE, |entry| {
                entry.at < now - Duration::from_secs(300)
            });
        }
        assert_eq!(history.len(), 1);
    }

    #[test]
    fn noise_does_not_grow_it_with_the_rate() {
        let longest = |step_millis: i64| {
            let mut history = History::default();
            let mut seed = 1_u32;
            let mut longest = 0;
            for step in 0..600_000 / step_millis {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let now = Timestamp::from_millis(step * step_millis);
                let replicas = 90 + i32::try_from(seed >> 16).unwrap() % 20;
                history.record(replicas, now, PACE, |entry| entry.at < now - 20 * PACE);
                longest = longest.max(history.len());
            }
            longest
        };
        let (slow, fast) = (longest(1000), longest(20));
        assert!(fast <= slow * 2, "{slow} entries at 1 Hz, {fast} at 50 Hz");
    }
}
