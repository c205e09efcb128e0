//! Holding the number against the recommendations of a window (`hpa.md` 3.1 and 3.2).

use std::time::Duration;

use neap_units::Timestamp;

use crate::behavior::Behavior;
use crate::draft::direction_of;
use crate::history::{History, Recommendation};
use crate::spec::Settings;
use crate::why::Direction;

/// The number after stabilisation, and what held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stabilized {
    /// The number.
    pub(crate) replicas: i32,
    /// What held it back, if it differs from the recommendation.
    pub(crate) held: Option<Held>,
}

/// What holds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The direction that is held back.
    pub(crate) direction: Direction,
    /// The recommendation that holds longest.
    pub(crate) by: Recommendation,
    /// The window it stands in.
    pub(crate) window: Duration,
    /// The first moment without it.
    pub(crate) until: Timestamp,
}

/// The two windows of a behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) up: Duration,
    pub(crate) down: Duration,
}

impl Windows {
    pub(crate) fn of(behavior: &Behavior, settings: &Settings) -> Self {
        // In a behaviour windows are whole seconds, also where the controller's flag fills one in.
        let flag = Duration::from_secs(settings.downscale_stabilization.as_secs());
        Self {
            up: behavior.scale_up.stabilization_window.unwrap_or_default(),
            down: behavior.scale_down.stabilization_window.unwrap_or(flag),
        }
    }
}

/// With `behavior`: the current number, moved only as far as every recommendation of the window
/// agrees. An entry as old as the window does not count any more.
pub(crate) fn with_behavior(
    history: &mut History,
    current: i32,
    raw: i32,
    windows: Windows,
    pace: Duration,
    now: Timestamp,
) -> Stabilized {
    let (up_since, down_since) = (now - windows.up, now - windows.down);
    let (mut lowest, mut highest) = (raw, raw);
    for entry in history.entries() {
        if entry.at > up_since {
            lowest = lowest.min(entry.replicas);
        }
        if entry.at > down_since {
            highest = highest.max(entry.replicas);
        }
    }
    // Not `clamp`: with entries in only one of the windows the bounds may cross.
    let replicas = current.max(lowest).min(highest);
    let held = direction_of(replicas, raw).and_then(|direction| match direction {
        Direction::Up => hold(history, direction, windows.up, now, |entry| {
            entry.replicas <= replicas
        }),
        Direction::Down => hold(history, direction, windows.down, now, |entry| {
            entry.replicas >= replicas
        }),
    });
    let is_free = |entry: &Recommendation| entry.at < up_since && entry.at < down_since;
    history.record(raw, now, pace, is_free);
    Stabilized { replicas, held }
}

/// The youngest entry inside the window that fits.
fn hold(
    history: &History,
    direction: Direction,
    window: Duration,
    now: Timestamp,
    fits: impl Fn(&Recommendation) -> bool,
) -> Option<Held> {
    let inside = history
        .entries()
        .iter()
        .filter(|entry| entry.at > now - window && fits(entry));
    let by = *inside.max_by_key(|entry| entry.at)?;
    Some(Held {
        direction,
        by,
        window,
        until: by.at + window,
    })
}

/// Without `behavior`: the highest recommendation of the window. An entry as old as the window still
/// counts, so that the HPA lets go of it one look later: `look` is when it last looked, `now` at its
/// own pace.
pub(crate) fn without_behavior(
    history: &mut History,
    raw: i32,
    window: Duration,
    pace: Duration,
    look: Timestamp,
    now: Timestamp,
) -> Stabilized {
    let since = look - window;
    let inside = history.entries().iter().filter(|entry| entry.at >= since);
    let highest = inside.filter(|entry| entry.replicas > raw);
    let by = highest
        .copied()
        .max_by_key(|entry| (entry.replicas, entry.at));
    history.record(raw, now, pace, |entry| entry.at < since);
    let held = by.map(|by| Held {
        direction: Direction::Down,
        by,
        window,
        until: (by.at + window + Duration::from_millis(1)).max(look + pace),
    });
    Stabilized {
        replicas: by.map_or(raw, |by| by.replicas),
        held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn history(entries: &[(i32, i64)]) -> History {
        let mut history = History::default();
        for &(replicas, second) in entries {
            history.record(replicas, at(second), Duration::ZERO, |_| false);
        }
        history
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn between_lowest_and_highest_nothing_moves() {
        let mut seen = history(&[(4, 0), (9, 10)]);
        let windows = Windows {
            up: MINUTE,
            down: MINUTE,
        };
        let out = with_behavior(&mut seen, 6, 2, windows, Duration::ZERO, at(20));
        assert_eq!(out.replicas, 6);
        let held = out.held.unwrap();
        assert_eq!((held.by.replicas, held.until), (9, at(70)));
    }

    #[test]
    fn an_entry_as_old_as_the_window_counts_only_without_behavior() {
        let windows = Windows {
            up: Duration::ZERO,
            down: MINUTE,
        };
        let out = with_behavior(
            &mut history(&[(9, 0)]),
            9,
            2,
            windows,
            Duration::ZERO,
            at(60),
        );
        assert_eq!(
            out,
            Stabilized {
                replicas: 2,
                held: None
            }
        );
        let out = without_behavior(
            &mut history(&[(9, 0)]),
            2,
            MINUTE,
            Duration::ZERO,
            at(60),
            at(60),
        );
        assert_eq!(out.replicas, 9);
        assert_eq!(out.held.unwrap().until, Timestamp::from_millis(60_001));
    }

    #[test]
    fn the_slot_of_an_entry_is_free_once_it_is_older_than_every_window() {
        let both = Windows {
            up: MINUTE,
            down: MINUTE,
        };
        let up_longer = Windows {
            up: MINUTE * 2,
            ..both
        };
        let down_longer = Windows {
            down: MINUTE * 2,
            ..both
        };
        let slots = |windows, second| {
            let mut seen = history(&[(9, 0), (9, 30)]);
            with_behavior(&mut seen, 9, 2, windows, Duration::ZERO, at(second));
            seen.len()
        };
        assert_eq!((slots(both, 60), slots(both, 61)), (3, 2));
        for longer in [up_longer, down_longer] {
            assert_eq!((slots(longer, 61), slots(longer, 120)), (3, 3));
            assert_eq!(slots(longer, 121), 2);
        }
        let slots = |second| {
            let mut seen = history(&[(9, 0), (9, 30)]);
            without_behavior(&mut seen, 2, MINUTE, Duration::ZERO, at(second), at(second));
            seen.len()
        };
        assert_eq!((slots(60), slots(61)), (3, 2));
    }

    #[test]
    fn the_controllers_window_counts_in_whole_seconds_within_a_behavior() {
        let settings = Settings {
            downscale_stabilization: Duration::from_millis(90_900),
            ..Settings::default()
        };
        let windows = Windows::of(&Behavior::default(), &settings);
        assert_eq!(windows.down, Duration::from_secs(90));
    }

    #[test]
    fn the_window_upwards_applies_the_lowest() {
        let mut seen = history(&[(3, 0), (5, 30)]);
        let windows = Windows {
            up: MINUTE,
            down: Duration::ZERO,
        };
        let out = with_behavior(&mut seen, 3, 8, windows, Duration::ZERO, at(40));
        assert_eq!(out.replicas, 3);
        let out = with_behavior(&mut seen, 3, 8, windows, Duration::ZERO, at(60));
        assert_eq!(out.replicas, 5, "the entry of second 0 is gone");
    }
}
