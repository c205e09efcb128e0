//! What is allowed but without effect.

use crate::scaled_object::ScaledObject;

/// Admission warnings: settings that change nothing in this object.
pub fn scaled_object(so: &ScaledObject) -> Vec<String> {
    let spec = &so.spec;
    let mut warnings = Vec::new();
    // A target that never rests at zero or idle is not polled for activity.
    if spec.min_replicas() == 0 || spec.idle_replica_count.is_some() {
        return warnings;
    }
    let cached = spec.triggers.iter().any(|t| t.uses_cached_metrics());
    if spec.polling_interval.is_some() && !cached {
        warnings.push("PollingInterval is configured but is not relevant. PollingInterval is only relevant when minReplicaCount = 0, idleReplicaCount is set, or useCachedMetrics is enabled".to_owned());
    }
    if spec.cooldown_period.is_some() {
        warnings.push("CooldownPeriod is configured but is not relevant. CooldownPeriod is only relevant when minReplicaCount = 0 or idleReplicaCount is set".to_owned());
    }
    warnings
}
