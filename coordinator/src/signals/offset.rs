//! From a node's boottime to ours.

use std::time::Duration;

use crate::clock::Boottime;

/// The clocks of two machines drift apart by up to some tens of microseconds per second, so a
/// smallest value is not kept for ever: it is the smallest of the last one to two periods.
const PERIOD: Duration = Duration::from_secs(60);

/// The smallest receive-minus-sample time of a stream: the distance of the two clocks plus the
/// shortest way. Wall clocks play no part.
#[derive(Debug, Clone)]
pub(super) struct Offset {
    began: Boottime,
    current: i64,
    former: i64,
}

impl Offset {
    /// Begins with one frame, sampled at `sampled` microseconds of the node's boottime.
    pub(super) fn new(received: Boottime, sampled: i64) -> Self {
        let first = received.as_micros().saturating_sub(sampled);
        Self {
            began: received,
            current: first,
            former: first,
        }
    }

    /// Takes in another frame.
    pub(super) fn observe(&mut self, received: Boottime, sampled: i64) {
        let seen = received.as_micros().saturating_sub(sampled);
        if received.since(self.began) >= PERIOD {
            self.former = self.current;
            self.current = seen;
            self.began = received;
        } else {
            self.current = self.current.min(seen);
        }
    }

    fn micros(&self) -> i64 {
        self.current.min(self.former)
    }

    /// Our time at the node's `at`.
    pub(super) fn ours(&self, at: i64) -> Boottime {
        Boottime::from_micros(at.saturating_add(self.micros()))
    }

    /// The node's time at our `at`.
    pub(super) fn theirs(&self, at: Boottime) -> i64 {
        at.as_micros().saturating_sub(self.micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_counts_and_drift_is_followed() {
        let second = |s: i64| Boottime::from_micros(s * 1_000_000);
        let mut offset = Offset::new(second(100), 40_000_000 - 5_000);
        assert_eq!(offset.theirs(second(100)), 39_995_000);
        offset.observe(second(101), 41_000_000);
        assert_eq!(
            offset.theirs(second(102)),
            42_000_000,
            "the second frame came faster"
        );
        assert_eq!(offset.ours(42_000_000), second(102));
        // From here on the node's clock runs behind by one second.
        for s in 102..300 {
            offset.observe(second(s), (s - 61) * 1_000_000);
        }
        assert_eq!(offset.theirs(second(300)), 239_000_000);
    }
}
