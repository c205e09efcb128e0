//! Telling noise from news in the signal that decides.

use std::cmp::Ordering;
use std::time::Duration;

use neap_units::Timestamp;
use serde::{Deserialize, Serialize};

use crate::stabilization::Windows;
use crate::why::Direction;

/// Time in which a signal does not ask for more counts so many times against it.
const DOUBT: u32 = 2;

/// How the signal that decides moves, and for how long it has been asking for what.
///
/// It is noisy for a hold from where it turned around twice within one. A ramp is not, nor is a signal
/// that changes no more often than the HPA looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signal {
    /// When it was last seen.
    at: Timestamp,
    /// The load then, in targets per replica, in millionths.
    load: i64,
    /// Which way it went last.
    heading: Option<Direction>,
    /// When it last turned around.
    turned: Option<Timestamp>,
    /// When it last did so within a hold of the time before.
    noisy: Option<Timestamp>,
    /// What it asked for when it was last seen.
    asks: Option<Direction>,
    /// For how long it has been asking for more, less twice the time it did not.
    for_more: Duration,
    /// For how long it has been asking for fewer without a break.
    for_fewer: Duration,
    /// What was asked for since `since`, and in the hold before.
    recent: Extremes,
    since: Timestamp,
    earlier: Extremes,
}

/// The lowest number of those that ask for more, and the highest of those that ask for fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extremes {
    pub(crate) least: i32,
    pub(crate) most: i32,
}

impl Extremes {
    const NONE: Self = Self {
        least: i32::MAX,
        most: i32::MIN,
    };

    fn with(self, raw: i32, asks: Option<Direction>) -> Self {
        match asks {
            Some(Direction::Up) => Self {
                least: self.least.min(raw),
                ..self
            },
            Some(Direction::Down) => Self {
                most: self.most.max(raw),
                ..self
            },
            None => self,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }
}

impl Signal {
    /// The signal seen at `now` after `before`.
    pub(crate) fn next(
        before: Option<Self>,
        load: f64,
        raw: i32,
        asks: Option<Direction>,
        hold: Duration,
        windows: Windows,
        now: Timestamp,
    ) -> Self {
        // `as` saturates, and makes 0 of NaN.
        let load = (load * 1e6) as i64;
        let Some(before) = before else {
            return Self {
                at: now,
                load,
                heading: None,
                turned: None,
                noisy: None,
                asks,
                for_more: Duration::ZERO,
                for_fewer: Duration::ZERO,
                recent: Extremes::NONE.with(raw, asks),
                since: now,
                earlier: Extremes::NONE,
            };
        };
        let passed = now.since(before.at);
        // As much as any change needs; more would take as long to forget.
        let grown = |held: Duration, window: Duration| {
            let longest = window.saturating_add(hold.saturating_mul(2));
            held.saturating_add(passed).min(longest)
        };
        let for_more = match before.asks {
            Some(Direction::Up) => grown(before.for_more, windows.up),
            _ => before.for_more.saturating_sub(passed * DOUBT),
        };
        let for_fewer = match before.asks {
            Some(Direction::Down) => grown(before.for_fewer, windows.down),
            _ => Duration::ZERO,
        };
        let heading = match load.cmp(&before.load) {
            Ordering::Greater => Some(Direction::Up),
            Ordering::Less => Some(Direction::Down),
            Ordering::Equal => before.heading,
        };
        let turns = before.heading.is_some() && heading != before.heading;
        let turned_lately = before.turned.is_some_and(|turned| turned > now - hold);
        let (recent, since, earlier) = if now < before.since + hold {
            (before.recent, before.since, before.earlier)
        } else if now < before.since + hold * 2 {
            (Extremes::NONE, now, before.recent)
        } else {
            (Extremes::NONE, now, Extremes::NONE)
        };
        Self {
            at: now,
            load,
            heading,
            turned: if turns { Some(now) } else { before.turned },
            noisy: if turns && turned_lately {
                Some(now)
            } else {
                before.noisy
            },
            asks,
            for_more,
            for_fewer,
            recent: recent.with(raw, asks),
            since,
            earlier,
        }
    }

    /// Lets time pass without saying anything about it.
    pub(crate) fn skip(&mut self, now: Timestamp) {
        self.at = self.at.max(now);
    }

    /// When it was last noisy.
    pub(crate) const fn noisy(&self) -> Option<Timestamp> {
        self.noisy
    }

    pub(crate) fn asks_for(&self, direction: Direction) -> bool {
        self.asks == Some(direction)
    }

    /// For how long it has been asking for a change.
    pub(crate) fn shown(&self, direction: Direction) -> Duration {
        match direction {
            Direction::Up => self.for_more,
            Direction::Down => self.for_fewer,
        }
    }

    /// What it asked for in the last one to two holds.
    pub(crate) fn extremes(&self) -> Extremes {
        self.recent.and(self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(15);
    const WINDOWS: Windows = Windows {
        up: Duration::ZERO,
        down: Duration::from_secs(60),
    };

    /// A signal that has these ratios, one each second; with 10 replicas at the target.
    fn signal(ratios: impl IntoIterator<Item = f64>) -> Signal {
        let mut signal = None;
        for (second, ratio) in ratios.into_iter().enumerate() {
            let now = Timestamp::from_millis(second as i64 * 1000);
            let raw = (ratio * 10.0).ceil() as i32;
            let asks = crate::draft::direction_of(10, raw);
            signal = Some(Signal::next(signal, ratio, raw, asks, HOLD, WINDOWS, now));
        }
        signal.unwrap()
    }

    #[test]
    fn a_ramp_and_a_level_are_no_noise_and_a_zigzag_is() {
        assert!(
            signal((0..30).map(|second| 1.0 + f64::from(second) / 10.0))
                .noisy()
                .is_none()
        );
        assert!(signal([1.2; 30]).noisy().is_none());
        assert!(signal([1.0, 1.2, 1.1]).noisy().is_none());
        assert!(signal([1.0, 1.2, 1.1, 1.15]).noisy().is_some());
        // One turn of direction at each of the HPA's looks is none.
        let looks = [[1.2; 15], [0.8; 15], [1.1; 15], [0.9; 15]].concat();
        assert!(signal(looks).noisy().is_none());
    }

    #[test]
    fn what_is_asked_for_longer_than_it_is_not_is_shown() {
        let mostly = (0..=40).map(|second| if second % 5 == 4 { 0.95 } else { 1.2 });
        assert_eq!(signal(mostly).shown(Direction::Up), Duration::from_secs(16));
        let hardly = (0..=40).map(|second| if second % 5 == 0 { 1.2 } else { 0.95 });
        assert_eq!(signal(hardly).shown(Direction::Up), Duration::ZERO);
        let fewer = (0..=40).map(|second| if second == 20 { 1.0 } else { 0.5 });
        assert_eq!(
            signal(fewer).shown(Direction::Down),
            Duration::from_secs(19)
        );
        let long = signal([1.2; 600]).shown(Direction::Up);
        assert_eq!(long, HOLD * 2, "no more than any change needs");
    }

    #[test]
    fn the_extremes_are_those_of_the_last_holds() {
        let falling = (0..60).map(|second| 2.0 - f64::from(second) / 100.0);
        let Extremes { least, most } = signal(falling).extremes();
        assert_eq!((least, most), (15, i32::MIN));
        let rising = (0..60).map(|second| 0.2 + f64::from(second) / 100.0);
        let Extremes { least, most } = signal(rising).extremes();
        assert_eq!((least, most), (i32::MAX, 8));
    }

    #[test]
    fn time_without_numbers_shows_nothing() {
        let mut signal = signal([1.2; 5]);
        signal.skip(Timestamp::from_millis(60_000));
        let now = Timestamp::from_millis(61_000);
        let next = Signal::next(
            Some(signal),
            1.2,
            12,
            Some(Direction::Up),
            HOLD,
            WINDOWS,
            now,
        );
        assert_eq!(next.shown(Direction::Up), Duration::from_secs(5));
    }
}
