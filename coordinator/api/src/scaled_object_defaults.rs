//! What a ScaledObject means once its defaults and annotations are applied. The schema carries
//! almost no defaults (KEDA's does not), so that an object reads back as it was written.

use std::time::Duration;

use kube::ResourceExt;

use crate::advanced::{Fallback, FallbackBehavior, ScalingModifiers};
use crate::keys;
use crate::scaled_object::{ScaledObject, ScaledObjectSpec};
use crate::trigger::ScaleTrigger;

/// Seconds between polls when `pollingInterval` is absent.
pub const DEFAULT_POLLING_INTERVAL: Duration = Duration::from_secs(30);
/// Time to zero when `cooldownPeriod` is absent.
pub const DEFAULT_COOLDOWN_PERIOD: Duration = Duration::from_secs(300);
/// Most replicas when `maxReplicaCount` is absent.
pub const DEFAULT_MAX_REPLICAS: i32 = 100;
/// What a default HPA name starts with.
pub const HPA_NAME_PREFIX: &str = "keda-hpa-";

impl ScaledObjectSpec {
    /// Time between two polls.
    pub fn polling_interval(&self) -> Duration {
        seconds(self.polling_interval).unwrap_or(DEFAULT_POLLING_INTERVAL)
    }

    /// Time from creation before a never active target may go to zero.
    pub fn initial_cooldown_period(&self) -> Duration {
        seconds(self.initial_cooldown_period).unwrap_or(Duration::ZERO)
    }

    /// Time from the last activity to zero.
    pub fn cooldown_period(&self) -> Duration {
        seconds(self.cooldown_period).unwrap_or(DEFAULT_COOLDOWN_PERIOD)
    }

    /// Fewest replicas, 0 if absent.
    pub fn min_replicas(&self) -> i32 {
        self.min_replica_count.unwrap_or(0)
    }

    /// Most replicas, 100 if absent.
    pub fn max_replicas(&self) -> i32 {
        self.max_replica_count.unwrap_or(DEFAULT_MAX_REPLICAS)
    }

    /// The lower limit of an HPA, which cannot be below 1.
    pub fn hpa_min_replicas(&self) -> i32 {
        self.min_replicas().max(1)
    }

    /// The formula and its settings, unless nothing in them is set.
    pub fn scaling_modifiers(&self) -> Option<&ScalingModifiers> {
        self.advanced
            .as_ref()?
            .scaling_modifiers
            .as_ref()
            .filter(|m| m.is_used())
    }

    /// Whether deletion restores the replicas of before.
    pub fn restore_to_original_replica_count(&self) -> bool {
        self.advanced
            .as_ref()
            .and_then(|a| a.restore_to_original_replica_count)
            .unwrap_or(false)
    }

    /// Whether the fallback is left to the formula.
    pub fn fallback_by_scaling_modifiers(&self) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(|f: &Fallback| f.behavior() == FallbackBehavior::ScalingModifiers)
    }

    /// Whether all triggers are cpu or memory (an object without triggers has none that is not).
    pub fn has_only_cpu_and_memory_triggers(&self) -> bool {
        self.triggers.iter().all(ScaleTrigger::is_cpu_or_memory)
    }
}

impl ScaledObject {
    /// The name that `advanced` gives to the HPA, unless absent or empty.
    pub fn custom_hpa_name(&self) -> Option<&str> {
        self.spec
            .advanced
            .as_ref()?
            .horizontal_pod_autoscaler_config
            .as_ref()?
            .name
            .as_deref()
            .filter(|n| !n.is_empty())
    }

    /// The HPA's name: the custom one, or `keda-hpa-` and the object's name.
    pub fn hpa_name(&self) -> String {
        match self.custom_hpa_name() {
            Some(name) => name.to_owned(),
            None => format!("{HPA_NAME_PREFIX}{}", self.name_any()),
        }
    }

    /// The pause that annotations ask for. A count that is no whole number still pauses, and its
    /// error says what is wrong.
    pub fn pause(&self) -> Pause {
        if let Some(text) = self.annotations().get(keys::PAUSED_REPLICAS) {
            return match text.parse::<i32>() {
                Ok(replicas) if replicas >= 0 => Pause::At(replicas),
                _ => Pause::Invalid(text.clone()),
            };
        }
        if self.has_true_annotation(keys::PAUSED) {
            return Pause::Here;
        }
        Pause::None
    }

    /// Whether scaling down is paused by annotation.
    pub fn pauses_scale_in(&self) -> bool {
        self.has_true_annotation(keys::PAUSED_SCALE_IN)
    }

    /// Whether scaling up is paused by annotation.
    pub fn pauses_scale_out(&self) -> bool {
        self.has_true_annotation(keys::PAUSED_SCALE_OUT)
    }

    /// Whether the object counts as active whatever its triggers say.
    pub fn forces_activation(&self) -> bool {
        self.has_true_annotation(keys::FORCE_ACTIVATION)
    }

    /// Whether an HPA of this name may be taken over. Only the literal `true` counts.
    pub fn transfers_hpa_ownership(&self) -> bool {
        self.annotations()
            .get(keys::TRANSFER_HPA_OWNERSHIP)
            .is_some_and(|v| v == "true")
    }

    /// Whether the first step from zero may go straight to what the value asks for.
    pub fn first_step_by_value(&self) -> bool {
        self.annotations()
            .get(keys::FIRST_STEP)
            .is_some_and(|v| v == "value")
    }

    fn has_true_annotation(&self, key: &str) -> bool {
        keys::bool_annotation(self.metadata.annotations.as_ref(), key)
    }
}

/// What the pause annotations ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    /// No pause.
    None,
    /// Hold the replicas where they are.
    Here,
    /// Go to this many replicas and hold.
    At(i32),
    /// `paused-replicas` is not a whole number of 0 or more: hold where it is, and report the text.
    Invalid(String),
}

fn seconds(value: Option<i32>) -> Option<Duration> {
    // The schema refuses negative periods; one that arrives all the same counts as zero.
    value.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_spec_has_kedas_defaults() {
        let spec = ScaledObjectSpec::default();
        assert_eq!(spec.polling_interval(), Duration::from_secs(30));
        assert_eq!(spec.cooldown_period(), Duration::from_secs(300));
        assert_eq!(spec.initial_cooldown_period(), Duration::ZERO);
        assert_eq!((spec.min_replicas(), spec.max_replicas()), (0, 100));
        assert_eq!(spec.hpa_min_replicas(), 1);
        assert!(spec.scaling_modifiers().is_none());
        assert!(!spec.restore_to_original_replica_count());
    }

    #[test]
    fn pause_annotations() {
        let mut so = ScaledObject::new("a", ScaledObjectSpec::default());
        assert_eq!(so.pause(), Pause::None);
        so.annotations_mut()
            .insert(keys::PAUSED.into(), "true".into());
        assert_eq!(so.pause(), Pause::Here);
        so.annotations_mut()
            .insert(keys::PAUSED_REPLICAS.into(), "4".into());
        assert_eq!(so.pause(), Pause::At(4));
        so.annotations_mut()
            .insert(keys::PAUSED_REPLICAS.into(), "four".into());
        assert_eq!(so.pause(), Pause::Invalid("four".into()));
    }

    #[test]
    fn hpa_names() {
        let mut so = ScaledObject::new("a", ScaledObjectSpec::default());
        assert_eq!(so.hpa_name(), "keda-hpa-a");
        so.spec.advanced = Some(crate::advanced::AdvancedConfig {
            horizontal_pod_autoscaler_config: Some(
                crate::advanced::HorizontalPodAutoscalerConfig {
                    name: Some("mine".into()),
                    behavior: None,
                },
            ),
            ..Default::default()
        });
        assert_eq!(so.hpa_name(), "mine");
    }
}
