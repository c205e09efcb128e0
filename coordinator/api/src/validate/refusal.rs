//! One reason why an object is refused.

use crate::open_enum::open_enum;

open_enum! {
    /// The reason as KEDA counts it in `keda_webhook_scaled_object_validation_errors_total`, and
    /// some that KEDA leaves to a later error.
    Reason {
        /// minReplicaCount, maxReplicaCount and idleReplicaCount do not go together.
        IncorrectReplicas = "incorrect-replicas",
        /// The object's name does not fit in a label.
        NameTooLong = "name-too-long",
        /// The HPA's name does not fit in a label.
        HpaNameTooLong = "hpa-name-too-long",
        /// The fallback cannot work.
        IncorrectFallback = "incorrect-fallback",
        /// The list of triggers is empty or contradicts itself.
        IncorrectTriggers = "incorrect-triggers",
        /// An HPA owns the target.
        OtherHpa = "other-hpa",
        /// Ownership of an HPA is to be transferred, but not of that one.
        TransferOwnershipMissingHpaName = "transfer-ownership-missing-hpa-name",
        /// Another ScaledObject owns the target.
        OtherScaledObject = "other-scaled-object",
        /// Another ScaledObject owns the HPA's name.
        OtherScaledObjectHpa = "other-scaled-object-hpa",
        /// The formula or its target is wrong.
        ScalingModifiers = "scaling-modifiers",
        /// The fallback is left to a formula that is not there.
        ScalingModifiersFallback = "scaling-modifiers-fallback",
        /// A container has no request for the resource it is scaled on.
        MissingRequests = "missing-requests",
        /// Nothing would ever bring the target back from zero.
        ScaleToZeroRequirementsNotMet = "scale-to-zero-requirements-not-met",
        /// The behaviour is none that an HPA accepts.
        IncorrectBehavior = "incorrect-behavior",
        /// KEDA has no reason for it.
        Unlabelled = "unlabelled",
    }
}

/// Why an object is refused: what KEDA says, and the field, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for metrics and programs.
    pub reason: Reason,
    /// KEDA's text where it has one.
    pub message: String,
    /// Path of the field, such as `spec.minReplicaCount`.
    pub field: String,
    /// The value that is refused, as text.
    pub value: String,
    /// What would be accepted.
    pub allowed: String,
}

impl Refusal {
    pub(super) fn new(
        reason: Reason,
        message: impl Into<String>,
        field: impl Into<String>,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            message: message.into(),
            field: field.into(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}

/// The text for webhook answers, conditions, Events and the log.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({} = {}; allowed: {})",
            self.message, self.field, self.value, self.allowed
        )
    }
}
