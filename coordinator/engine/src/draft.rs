//! A decision in the making: what was found so far.

use std::borrow::Cow;
use std::time::Duration;

use neap_units::Timestamp;

use crate::evaluation::{
    Condition, ConditionStatus, ConditionType, Evaluation, Event, EventKind, MetricStatus,
};
use crate::observation::Observation;
use crate::rate_limits;
use crate::spec::ScalingSpec;
use crate::state::{DecisionState, LastChange};
use crate::why::{Direction, NextCause, NextChange, Step, TriggerWhy, Why};

/// Collects conditions, events, steps and the next deadline while a decision is made.
pub(crate) struct Draft<'a> {
    pub(crate) spec: &'a ScalingSpec,
    pub(crate) seen: &'a Observation<'a>,
    pub(crate) now: Timestamp,
    pub(crate) state: DecisionState,
    pub(crate) steps: Vec<Step>,
    pub(crate) triggers: Vec<TriggerWhy>,
    pub(crate) current_metrics: Vec<Option<MetricStatus>>,
    pub(crate) error: Option<String>,
    /// What the HPA's condition ScaledToZero becomes if the change is written.
    pub(crate) zero_change: Option<bool>,
    conditions: Vec<Condition>,
    events: Vec<Event>,
    next: Option<NextChange>,
}

/// What was decided.
pub(crate) struct Verdict {
    /// The replicas.
    pub(crate) desired: i32,
    /// `status.desiredReplicas` of the HPA; `None` leaves the former number.
    pub(crate) hpa_desired: Option<i32>,
    /// What is to be said and recorded if `desired` is written.
    pub(crate) change: Change,
}

/// Who changes the number, and so what is said and recorded.
pub(crate) enum Change {
    /// The HPA, with its reason.
    Hpa { reason: String },
    /// KEDA's layer, with its Event. Of an activation the part beyond `from` is the HPA's.
    Layer { event: Option<Event>, hpa_from: i32 },
    /// The pause annotation: no change that anything remembers.
    Pause,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        spec: &'a ScalingSpec,
        state: &DecisionState,
        seen: &'a Observation<'a>,
        now: Timestamp,
    ) -> Self {
        Self {
            spec,
            seen,
            now,
            state: state.clone(),
            steps: Vec::new(),
            triggers: Vec::with_capacity(spec.triggers.len()),
            current_metrics: Vec::new(),
            error: None,
            zero_change: None,
            conditions: Vec::with_capacity(7),
            events: Vec::new(),
            next: None,
        }
    }

    /// Sets a condition; a later one of the same type replaces it.
    pub(crate) fn condition(
        &mut self,
        kind: ConditionType,
        status: ConditionStatus,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) {
        let condition = Condition {
            kind,
            status,
            reason: reason.into(),
            message: message.into(),
        };
        match self.conditions.iter_mut().find(|known| known.kind == kind) {
            Some(known) => *known = condition,
            None => self.conditions.push(condition),
        }
    }

    pub(crate) fn event(
        &mut self,
        kind: EventKind,
        reason: impl Into<Cow<'static, str>>,
        message: String,
    ) {
        self.events.push(Event {
            kind,
            reason: reason.into(),
            message,
        });
    }

    /// Notes that time alone can change the number at `at`.
    pub(crate) fn due(&mut self, at: Timestamp, cause: NextCause) {
        if at > self.now && self.next.is_none_or(|next| at < next.at) {
            self.next = Some(NextChange { at, cause });
        }
    }

    /// The pace of what the HPA limits per look.
    pub(crate) fn pace(&self) -> Duration {
        self.spec.settings.sync_period
    }

    /// Closes the draft: what is written, said and recorded.
    pub(crate) fn finish(mut self, verdict: Verdict) -> Evaluation {
        let current = self.seen.spec_replicas;
        let desired = verdict.desired;
        let write = (desired != current).then_some(desired);
        let mut refused = None;
        if let Some(direction) = direction_of(current, desired) {
            refused = Some(Box::new(self.state.clone()));
            self.condition(
                ConditionType::AbleToScale,
                ConditionStatus::True,
                "SucceededRescale",
                format!("the HPA controller was able to update the target scale to {desired}"),
            );
            let hpa_from = match verdict.change {
                Change::Hpa { reason } => {
                    let message = format!("New size: {desired}; reason: {reason}");
                    self.event(EventKind::Normal, "SuccessfulRescale", message);
                    Some(current)
                }
                Change::Layer { event, hpa_from } => {
                    self.events.extend(event);
                    Some(hpa_from)
                }
                Change::Pause => None,
            };
            if let Some(from) = hpa_from {
                self.record_scale_event(from, desired);
                self.state.scaled_to_zero = self.zero_change;
                self.state.last_change = Some(LastChange {
                    direction,
                    at: self.now,
                });
            }
        }
        let why = Why {
            at: self.now,
            current,
            desired,
            triggers: self.triggers,
            steps: self.steps,
            next: self.next,
        };
        Evaluation {
            desired,
            write,
            hpa_desired: verdict.hpa_desired,
            state: self.state,
            refused,
            deadline: self.next.map(|next| next.at),
            why,
            conditions: self.conditions,
            events: self.events,
            current_metrics: self.current_metrics,
            error: self.error,
        }
    }

    /// Records a change for the policies. The HPA records none without `behavior`; deciding more
    /// often than it looks, its doubling needs the changes since its last look.
    fn record_scale_event(&mut self, from: i32, to: i32) {
        let Some(direction) = direction_of(from, to) else {
            return;
        };
        let behavior = crate::pause::effective_behavior(self.spec);
        let (events, rules) = match direction {
            Direction::Up => (
                &mut self.state.up_events,
                behavior.as_deref().map(|b| &b.scale_up),
            ),
            Direction::Down => (
                &mut self.state.down_events,
                behavior.as_deref().map(|b| &b.scale_down),
            ),
        };
        let pace = self.spec.settings.sync_period;
        let longest = match rules {
            Some(rules) => rules.longest_period(),
            None if direction == Direction::Up && !pace.is_zero() => pace,
            None => return,
        };
        rate_limits::record(
            events,
            to.saturating_sub(from).saturating_abs(),
            longest,
            self.now,
        );
    }
}

/// The direction of a change; `None` if there is none.
pub(crate) fn direction_of(from: i32, to: i32) -> Option<Direction> {
    match to.cmp(&from) {
        std::cmp::Ordering::Greater => Some(Direction::Up),
        std::cmp::Ordering::Less => Some(Direction::Down),
        std::cmp::Ordering::Equal => None,
    }
}
