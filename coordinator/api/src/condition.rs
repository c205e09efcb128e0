//! Status conditions, their reasons and messages, under KEDA's names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observed aspect of an object. Unlike `metav1.Condition` it carries no transition time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// What the condition speaks of: Ready, Active, Fallback, Paused or HPAActive.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why, as one CamelCase word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, as a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    /// A condition of the given type, status, reason and message.
    pub fn new(type_: &str, status: &str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// The four conditions of a new object: everything unknown, and not paused.
    pub fn initial() -> Vec<Self> {
        vec![
            Self::new(types::READY, status::UNKNOWN, "", ""),
            Self::new(types::ACTIVE, status::UNKNOWN, "", ""),
            Self::new(types::FALLBACK, status::UNKNOWN, "", ""),
            Self::new(types::PAUSED, status::FALSE, "", ""),
        ]
    }
}

/// The condition of type `type_`, if the list has one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Puts `condition` in place of the one of its type, or at the end. Returns whether the list
/// changed.
pub fn set(conditions: &mut Vec<Condition>, condition: Condition) -> bool {
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(present) if *present == condition => false,
        Some(present) => {
            *present = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}

/// Condition types.
pub mod types {
    /// The spec is right and its triggers work.
    pub const READY: &str = "Ready";
    /// Some trigger asks for replicas.
    pub const ACTIVE: &str = "Active";
    /// Some trigger's value is replaced by the fallback.
    pub const FALLBACK: &str = "Fallback";
    /// Scaling is paused by annotation.
    pub const PAUSED: &str = "Paused";
    /// What an HPA would report of itself.
    pub const HPA_ACTIVE: &str = "HPAActive";
}

/// Condition statuses.
pub mod status {
    /// It holds.
    pub const TRUE: &str = "True";
    /// It does not hold.
    pub const FALSE: &str = "False";
    /// It cannot be told.
    pub const UNKNOWN: &str = "Unknown";
}

/// Condition reasons, as KEDA writes them.
pub mod reason {
    /// Ready=True of a ScaledObject.
    pub const SCALED_OBJECT_READY: &str = "ScaledObjectReady";
    /// Ready=True of a ScaledJob.
    pub const SCALED_JOB_READY: &str = "ScaledJobReady";
    /// Ready=False: the spec is wrong or its target cannot be scaled.
    pub const SCALED_OBJECT_CHECK_FAILED: &str = "ScaledObjectCheckFailed";
    /// Ready=False of a ScaledJob.
    pub const SCALED_JOB_CHECK_FAILED: &str = "ScaledJobCheckFailed";
    /// Ready=False: the target's replicas cannot be read.
    pub const ERROR_GETTING_CURRENT_REPLICAS: &str = "ErrorGettingCurrentReplicas";
    /// Ready=False: no trigger works.
    pub const TRIGGER_ERROR: &str = "TriggerError";
    /// Ready=Unknown: some triggers work.
    pub const PARTIAL_TRIGGER_ERROR: &str = "PartialTriggerError";
    /// Active=True.
    pub const SCALER_ACTIVE: &str = "ScalerActive";
    /// Active=False.
    pub const SCALER_NOT_ACTIVE: &str = "ScalerNotActive";
    /// Active=False while the cooldown runs.
    pub const SCALER_COOLDOWN: &str = "ScalerCooldown";
    /// Active=Unknown while the object is not ready.
    pub const UNKNOWN_STATE: &str = "UnknownState";
    /// Fallback=True.
    pub const FALLBACK_EXISTS: &str = "FallbackExists";
    /// Fallback=False.
    pub const NO_FALLBACK_FOUND: &str = "NoFallbackFound";
    /// Paused=True of a ScaledObject.
    pub const SCALED_OBJECT_PAUSED: &str = "ScaledObjectPaused";
    /// Paused=False of a ScaledObject.
    pub const SCALED_OBJECT_UNPAUSED: &str = "ScaledObjectUnpaused";
    /// Paused=True of a ScaledJob.
    pub const SCALED_JOB_PAUSED: &str = "ScaledJobPaused";
    /// Paused=False of a ScaledJob.
    pub const SCALED_JOB_UNPAUSED: &str = "ScaledJobUnpaused";
    /// HPAActive=True: replicas follow the triggers' values.
    pub const HPA_ACTIVE: &str = "HPAActive";
    /// HPAActive=True: nothing to do while the target is at zero.
    pub const SCALING_DISABLED: &str = "ScalingDisabled";
    /// HPAActive=False: values are missing.
    pub const HPA_METRICS_UNAVAILABLE: &str = "HPAMetricsUnavailable";
}

/// Condition messages that tools match on.
pub mod message {
    /// With [`reason::SCALED_OBJECT_READY`](super::reason::SCALED_OBJECT_READY).
    pub const SCALED_OBJECT_READY: &str =
        "ScaledObject is defined correctly and is ready for scaling";
    /// With [`reason::SCALED_JOB_READY`](super::reason::SCALED_JOB_READY).
    pub const SCALED_JOB_READY: &str = "ScaledJob is defined correctly and is ready for scaling";
    /// With [`reason::TRIGGER_ERROR`](super::reason::TRIGGER_ERROR).
    pub const TRIGGER_ERROR: &str = "Triggers defined in ScaledObject are not working correctly";
    /// With [`reason::PARTIAL_TRIGGER_ERROR`](super::reason::PARTIAL_TRIGGER_ERROR).
    pub const PARTIAL_TRIGGER_ERROR: &str =
        "Some triggers defined in ScaledObject are not working correctly";
    /// With [`reason::SCALER_ACTIVE`](super::reason::SCALER_ACTIVE).
    pub const SCALER_ACTIVE: &str = "Scaling is performed because triggers are active";
    /// With [`reason::SCALER_ACTIVE`](super::reason::SCALER_ACTIVE), forced by annotation.
    pub const SCALER_ACTIVE_FORCED: &str =
        "Scaling is performed because activation is being forced by annotation";
    /// With [`reason::SCALER_NOT_ACTIVE`](super::reason::SCALER_NOT_ACTIVE).
    pub const SCALER_NOT_ACTIVE: &str = "Scaling is not performed because triggers are not active";
    /// With [`reason::SCALER_COOLDOWN`](super::reason::SCALER_COOLDOWN).
    pub const SCALER_COOLDOWN: &str = "Scaler cooling down because triggers are not active";
    /// With [`reason::NO_FALLBACK_FOUND`](super::reason::NO_FALLBACK_FOUND).
    pub const NO_FALLBACK_FOUND: &str = "No fallbacks are active on this scaled object";
    /// With [`reason::SCALED_OBJECT_PAUSED`](super::reason::SCALED_OBJECT_PAUSED).
    pub const SCALED_OBJECT_PAUSED: &str = "ScaledObject is paused";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_says_whether_anything_changed() {
        let mut conditions = Condition::initial();
        let ready = Condition::new(
            types::READY,
            status::TRUE,
            reason::SCALED_OBJECT_READY,
            message::SCALED_OBJECT_READY,
        );
        assert!(set(&mut conditions, ready.clone()));
        assert!(!set(&mut conditions, ready));
        assert_eq!(conditions.len(), 4);
        assert_eq!(
            find(&conditions, types::READY).map(|c| c.status.as_str()),
            Some(status::TRUE)
        );
        let hpa = Condition::new(types::HPA_ACTIVE, status::TRUE, reason::HPA_ACTIVE, "");
        assert!(set(&mut conditions, hpa));
        assert_eq!(conditions.len(), 5);
    }
}
