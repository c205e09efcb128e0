//! What must survive a leader, per target.

use std::collections::BTreeMap;
use std::time::Duration;

use neap_units::{MilliValue, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::history::{History, MAX_RECOMMENDATIONS, Recommendation};
use crate::noise::Signal;
use crate::rate_limits::MAX_EVENTS;
use crate::spec::MAX_TRIGGERS;
use crate::why::Direction;

/// The version that [`DecisionState::encode`] writes.
pub const STATE_VERSION: u8 = 2;

/// Decision state of one target: small, and all that [`crate::evaluate`] remembers.
///
/// Folding the same observations at the same times gives the same state, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionState {
    /// Recommendations inside the stabilisation windows.
    pub(crate) history: History,
    /// Scale-ups inside the policy periods.
    pub(crate) up_events: Vec<ScaleEvent>,
    /// Scale-downs inside the policy periods.
    pub(crate) down_events: Vec<ScaleEvent>,
    /// How the signal that decides moves, to tell noise from news.
    pub(crate) signal: Option<Signal>,
    /// The last look at the HPA's pace.
    pub(crate) last_look: Option<Timestamp>,
    /// The last change, for the reversal hold.
    pub(crate) last_change: Option<LastChange>,
    /// When some trigger was last active.
    pub(crate) last_active: Option<Timestamp>,
    /// Failing triggers by metric name; a trigger that works has no entry.
    pub(crate) health: BTreeMap<String, TriggerHealth>,
    /// Best rates of triggers with a capacity floor, by metric name.
    pub(crate) rates: BTreeMap<String, Vec<Rate>>,
    /// The replicas found when the target was first seen, if they are to be restored.
    pub(crate) original_replicas: Option<i32>,
    /// Whether the plain HPA's last change was its own to zero (HPAScaleToZero); `None` without the
    /// gate.
    pub(crate) scaled_to_zero: Option<bool>,
}

/// A change of replicas that policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleEvent {
    /// By how many, without sign.
    pub delta: i32,
    /// When.
    pub at: Timestamp,
    /// Older than every period when last looked at: its place is free. Counts again if a period is
    /// lengthened, as in the HPA.
    pub outdated: bool,
}

/// The last change of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastChange {
    /// Its direction.
    pub direction: Direction,
    /// When.
    pub at: Timestamp,
}

/// Failures of one trigger in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerHealth {
    /// How many.
    pub failures: u32,
    /// Time of the last one counted.
    pub last: Timestamp,
}

/// A rate per pod that was handled with the metric under its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Arrivals per second and pod.
    pub per_pod: MilliValue,
    /// When.
    pub at: Timestamp,
}

impl DecisionState {
    /// Bytes for the log: a version byte, then the fields (postcard).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain data into memory cannot fail; an empty result would be refused by
        // `decode`, never taken for a state.
        postcard::to_extend(self, vec![STATE_VERSION]).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are empty, of another version, malformed or larger than the engine
    /// ever writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (&version, rest) = bytes.split_first().ok_or(StateError::Empty)?;
        if version != STATE_VERSION {
            return Err(StateError::Version {
                found: version,
                known: STATE_VERSION,
            });
        }
        let (state, left): (Self, &[u8]) = postcard::take_from_bytes(rest)
            .map_err(|error| StateError::Malformed(error.to_string()))?;
        if !left.is_empty() {
            return Err(StateError::Malformed(format!(
                "{} bytes too many",
                left.len()
            )));
        }
        let lists = [
            ("recommendations", state.history.len(), MAX_RECOMMENDATIONS),
            ("scale-up events", state.up_events.len(), MAX_EVENTS),
            ("scale-down events", state.down_events.len(), MAX_EVENTS),
            ("failing triggers", state.health.len(), MAX_TRIGGERS),
            ("rates", state.rates.len(), MAX_TRIGGERS),
        ];
        match lists.into_iter().find(|(_, found, max)| found > max) {
            Some((what, found, max)) => Err(StateError::TooLong { what, found, max }),
            None => Ok(state),
        }
    }

    /// When some trigger was last active (`status.lastActiveTime`).
    #[must_use]
    pub const fn last_active(&self) -> Option<Timestamp> {
        self.last_active
    }

    /// Takes the target as active at `now`: a new leader that finds replicas where the log says zero
    /// calls this.
    pub fn mark_active(&mut self, now: Timestamp) {
        self.last_active = Some(self.last_active.map_or(now, |last| last.max(now)));
    }

    /// Takes over the change of replicas that `written` counts: the state of an evaluation whose write
    /// was taken for not done, and after which none was.
    pub fn take_change(&mut self, written: &Self) {
        self.up_events.clone_from(&written.up_events);
        self.down_events.clone_from(&written.down_events);
        self.last_change = written.last_change;
        self.scaled_to_zero = written.scaled_to_zero;
    }

    /// The state without its last change, if that led to `to` from what is `seen` now, so that it was not
    /// made, or not yet: policies reckon from the replicas that are there, and a change that is not in
    /// those must not count. [`take_change`](Self::take_change) puts it back. `None` where the last
    /// change is in them, or no policy counted it.
    #[must_use]
    pub fn without_change(&self, to: i32, seen: i32) -> Option<Self> {
        let last = self.last_change?;
        let mut state = self.clone();
        let events = match last.direction {
            Direction::Up => &mut state.up_events,
            Direction::Down => &mut state.down_events,
        };
        let index = events
            .iter()
            .position(|event| event.at == last.at && !event.outdated)?;
        let delta = events.remove(index).delta;
        let from = match last.direction {
            Direction::Up => to.saturating_sub(delta),
            Direction::Down => to.saturating_add(delta),
        };
        if from != seen {
            return None;
        }
        let up = state.up_events.iter().map(|event| LastChange {
            direction: Direction::Up,
            at: event.at,
        });
        let down = state.down_events.iter().map(|event| LastChange {
            direction: Direction::Down,
            at: event.at,
        });
        state.last_change = up.chain(down).max_by_key(|change| change.at);
        Some(state)
    }

    /// The replicas to restore when the object is deleted (`status.originalReplicaCount`).
    #[must_use]
    pub const fn original_replicas(&self) -> Option<i32> {
        self.original_replicas
    }

    /// Failures in a row of each failing trigger, by metric name (`status.health`).
    pub fn health(&self) -> impl Iterator<Item = (&str, TriggerHealth)> {
        self.health
            .iter()
            .map(|(name, health)| (name.as_str(), *health))
    }

    /// The last change of replicas that this engine decided.
    #[must_use]
    pub const fn last_change(&self) -> Option<LastChange> {
        self.last_change
    }

    /// The HPA's condition ScaledToZero under the gate HPAScaleToZero; `None` if it has none.
    #[must_use]
    pub const fn scaled_to_zero(&self) -> Option<bool> {
        self.scaled_to_zero
    }

    /// Recommendations that stabilisation can still need, in the order of their slots.
    #[must_use]
    pub fn recommendations(&self) -> &[Recommendation] {
        self.history.entries()
    }

    /// Forgets stabilisation and policy history, as an HPA controller does when it restarts. For
    /// comparisons with it only.
    pub fn forget_history(&mut self) {
        self.history = History::default();
        self.signal = None;
        self.up_events.clear();
        self.down_events.clear();
        self.last_change = None;
    }

    /// The time since the last change of replicas, if there was one.
    #[must_use]
    pub fn since_last_change(&self, now: Timestamp) -> Option<Duration> {
        self.last_change.map(|change| now.since(change.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn event(delta: i32, seconds: i64) -> ScaleEvent {
        ScaleEvent {
            delta,
            at: at(seconds),
            outdated: false,
        }
    }

    #[test]
    fn a_change_that_is_not_in_the_replicas_is_set_apart() {
        let state = DecisionState {
            up_events: vec![event(4, 10)],
            down_events: vec![event(1, 20)],
            last_change: Some(LastChange {
                direction: Direction::Down,
                at: at(20),
            }),
            ..DecisionState::default()
        };
        // From 5 to 4, and 5 are seen.
        let mut before = state.without_change(4, 5).unwrap();
        assert_eq!(before.down_events, []);
        assert_eq!(before.up_events, state.up_events);
        let last = before.last_change.unwrap();
        assert_eq!((last.direction, last.at), (Direction::Up, at(10)));
        before.take_change(&state);
        assert_eq!(before, state);

        assert_eq!(state.without_change(4, 4), None, "it was made");
        assert_eq!(state.without_change(4, 9), None, "and someone else's since");
        assert_eq!(DecisionState::default().without_change(4, 5), None);
    }
}
