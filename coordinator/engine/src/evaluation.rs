use std::borrow::Cow;
use std::fmt;

use neap_units::{MilliValue, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::DecisionState;
use crate::why::Why;

/// What was decided for one target, and all that follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The replicas the target should have now.
    pub desired: i32,
    /// The number to write to the scale subresource; `None` if nothing is to be written.
    pub write: Option<i32>,
    /// `status.desiredReplicas` as an HPA would show it; `None` leaves the former number.
    pub hpa_desired: Option<i32>,
    /// The state to commit before the write, as it is once the write succeeded.
    pub state: DecisionState,
    /// The state to commit instead when the write was refused; only set where it differs.
    pub(crate) refused: Option<Box<DecisionState>>,
    /// When to evaluate again if no signal changes before; `None`: nothing is pending.
    pub deadline: Option<Timestamp>,
    /// How the decision came about.
    pub why: Why,
    /// Conditions that this evaluation sets; others stay as they are.
    pub conditions: Vec<Condition>,
    /// Events, in order, for a successful write.
    pub events: Vec<Event>,
    /// `status.currentMetrics` as an HPA would show it, one per trigger.
    pub current_metrics: Vec<Option<MetricStatus>>,
    /// Whether some trigger failed although a decision was made, or none could be made.
    pub error: Option<String>,
}

/// What follows when the write of [`Evaluation::write`] was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The state to commit.
    pub state: DecisionState,
    /// The conditions to set.
    pub conditions: Vec<Condition>,
    /// The events to emit.
    pub events: Vec<Event>,
}

/// A condition of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    pub kind: ConditionType,
    /// Its status.
    pub status: ConditionStatus,
    /// Its reason, one of the HPA's or KEDA's names.
    pub reason: Cow<'static, str>,
    /// Its message.
    pub message: Cow<'static, str>,
}

/// The conditions an evaluation can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// HPA: whether the scale can be read and written.
    AbleToScale,
    /// HPA: whether the metrics give a number.
    ScalingActive,
    /// HPA: whether a limit held the number back.
    ScalingLimited,
    /// HPA under HPAScaleToZero: whether the controller itself scaled to zero.
    ScaledToZero,
    /// KEDA: whether some trigger is active.
    Active,
    /// KEDA: whether the triggers work. Only set where triggers speak on it (`TriggerError`,
    /// `PartialTriggerError`) or work again.
    Ready,
    /// KEDA: whether a fallback stands in.
    Fallback,
    /// KEDA: whether scaling is paused.
    Paused,
}

impl ConditionType {
    /// The name in the object's status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
            Self::ScaledToZero => "ScaledToZero",
            Self::Active => "Active",
            Self::Ready => "Ready",
            Self::Fallback => "Fallback",
            Self::Paused => "Paused",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

impl ConditionStatus {
    /// The name in the object's status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// An Event about the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its type.
    pub kind: EventKind,
    /// Its reason, one of the HPA's or KEDA's names.
    pub reason: Cow<'static, str>,
    /// Its message.
    pub message: String,
}

/// Type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// Something happened as intended.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventKind {
    /// The name in the Event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The current value of one metric, as `status.currentMetrics` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricStatus {
    /// The value itself.
    pub value: Option<MilliValue>,
    /// The mean per pod.
    pub average_value: Option<MilliValue>,
    /// The mean per pod in percent of the request.
    pub average_utilization: Option<i32>,
}

impl Evaluation {
    /// What follows when the write was refused with `error`: the recommendation stays recorded, the
    /// change does not (as in the HPA, `hpa.md` 3.4), `AbleToScale` is False/FailedUpdateScale and
    /// the events of success become FailedRescale.
    #[must_use]
    pub fn refuse(&self, error: &str) -> Refused {
        let state = self.refused.as_deref().unwrap_or(&self.state).clone();
        let mut conditions = self.conditions.clone();
        for condition in &mut conditions {
            if condition.kind == ConditionType::AbleToScale {
                condition.status = ConditionStatus::False;
                condition.reason = "FailedUpdateScale".into();
                condition.message =
                    format!("the HPA controller was unable to update the target scale: {error}")
                        .into();
            }
        }
        let events = self
            .events
            .iter()
            .map(|event| refuse_event(event, error))
            .collect();
        Refused {
            state,
            conditions,
            events,
        }
    }
}

fn refuse_event(event: &Event, error: &str) -> Event {
    let (reason, message) = match event.reason.as_ref() {
        "SuccessfulRescale" => (
            "FailedRescale",
            format!("{}; error: {error}", event.message),
        ),
        "KEDAScaleTargetActivated" => (
            "KEDAScaleTargetActivationFailed",
            format!("{}: {error}", event.message),
        ),
        "KEDAScaleTargetDeactivated" => (
            "KEDAScaleTargetDeactivationFailed",
            format!("{}: {error}", event.message),
        ),
        _ => return event.clone(),
    };
    Event {
        kind: EventKind::Warning,
        reason: reason.into(),
        message,
    }
}
