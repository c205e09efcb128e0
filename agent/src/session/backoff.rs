//! How long to wait before an address is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Failures that the loss of a stream counts for: the first pause is then from 0.8 to 1.6 s.
const LOST: u32 = 4;

/// A pause that doubles with each failure, from 100 ms to 5 s, with half of it by chance: a
/// thousand agents that lost the same leader do not come back in step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Of an address whose leader is lost while another replica will say who leads next: it is not worth a dial before an
    /// election has had its time.
    pub(super) fn after_loss() -> Self {
        Self { failures: LOST }
    }

    /// The pause after one more failure; `chance` is from 0 to 1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let doubled =
            FIRST.saturating_mul(1u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(LONGEST);
        whole / 2 + (whole / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_half_is_chance() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Backoff::default().next(0.0).as_millis(), 50);
        assert_eq!(Backoff::after_loss().next(0.0).as_millis(), 800);
        assert_eq!(Backoff::after_loss().next(1.0).as_millis(), 1_600);
        for _ in 0..100 {
            assert!(backoff.next(0.5) <= LONGEST);
        }
    }
}
