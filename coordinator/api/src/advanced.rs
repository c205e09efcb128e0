//! `spec.advanced` and `spec.fallback`: how replicas follow values, and what holds when a value
//! is missing.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

/// Settings beyond the usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvancedConfig {
    /// What an HPA would be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_pod_autoscaler_config: Option<HorizontalPodAutoscalerConfig>,
    /// Whether deleting the object puts the replicas back to what they were before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_to_original_replica_count: Option<bool>,
    /// A formula over the triggers' values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_modifiers: Option<ScalingModifiers>,
}

/// The part of a HorizontalPodAutoscaler that a user may set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HorizontalPodAutoscalerConfig {
    /// Speed and stabilization of scaling up and down, as in autoscaling/v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::behavior_schema::behavior")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// Name of the HPA; keda-hpa-NAME if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

open_enum! {
    /// How a formula's result is compared with its target.
    ModifiersMetricType {
        /// The target is a share per replica.
        AverageValue = "AverageValue",
        /// The target is one figure for all.
        Value = "Value",
    }
}

/// One value made from several triggers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingModifiers {
    /// An expression over the names of the triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
    /// What the result is divided by: a number above 0. Needed with a formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The result above which the object is active; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_target: Option<String>,
    /// AverageValue if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_type: Option<ModifiersMetricType>,
}

impl ScalingModifiers {
    /// The formula, unless absent or empty.
    pub fn formula(&self) -> Option<&str> {
        self.formula.as_deref().filter(|f| !f.is_empty())
    }

    /// The target, unless absent or empty.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref().filter(|t| !t.is_empty())
    }

    /// The activation target, unless absent or empty.
    pub fn activation_target(&self) -> Option<&str> {
        self.activation_target.as_deref().filter(|t| !t.is_empty())
    }

    /// The metric type, unless absent or empty.
    pub fn metric_type(&self) -> Option<&ModifiersMetricType> {
        self.metric_type.as_ref().filter(|m| !m.as_str().is_empty())
    }

    /// Whether any field is set. `scalingModifiers: {}` sets none, and counts as absent.
    pub fn is_used(&self) -> bool {
        self.formula().is_some()
            || self.target().is_some()
            || self.activation_target().is_some()
            || self.metric_type().is_some()
    }
}

open_enum! {
    /// What the replicas are while a trigger fails.
    FallbackBehavior {
        /// The given replicas.
        Static = "static",
        /// The replicas of that moment.
        CurrentReplicas = "currentReplicas",
        /// The larger of the two.
        CurrentReplicasIfHigher = "currentReplicasIfHigher",
        /// The smaller of the two.
        CurrentReplicasIfLower = "currentReplicasIfLower",
        /// The formula decides: failed triggers are nil in it.
        ScalingModifiers = "scalingModifiers",
    }
}

/// What holds after a trigger has failed several times in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Failures in a row that are borne; the next one starts the fallback.
    #[schemars(range(min = 0))]
    pub failure_threshold: i32,
    /// Replicas during the fallback.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// How replicas and the replicas of that moment are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "static"))]
    pub behavior: Option<FallbackBehavior>,
}

impl Fallback {
    /// The behaviour, with its default.
    pub fn behavior(&self) -> FallbackBehavior {
        match &self.behavior {
            Some(behavior) if !behavior.as_str().is_empty() => behavior.clone(),
            _ => FallbackBehavior::Static,
        }
    }
}
