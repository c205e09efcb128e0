//! The fallback: its numbers, and whether there is a trigger it can stand in for.

use super::{Reason, Refusal};
use crate::advanced::FallbackBehavior;
use crate::scaled_object::ScaledObjectSpec;
use crate::trigger::ScaleTrigger;

pub(super) fn check(spec: &ScaledObjectSpec, refusals: &mut Vec<Refusal>) {
    let Some(fallback) = &spec.fallback else {
        return;
    };
    if fallback.failure_threshold < 0 || fallback.replicas < 0 {
        refusals.push(Refusal::new(
            Reason::IncorrectFallback,
            format!(
                "FailureThreshold={} & Replicas={} must both be greater than or equal to 0",
                fallback.failure_threshold, fallback.replicas
            ),
            "spec.fallback",
            format!("{}/{}", fallback.failure_threshold, fallback.replicas),
            "0 or more for failureThreshold and for replicas",
        ));
    } else if spec.scaling_modifiers().is_none()
        && spec.triggers.iter().all(ScaleTrigger::is_pod_local)
    {
        refusals.push(Refusal::new(
            Reason::IncorrectFallback,
            "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the fallback to be enabled",
            "spec.fallback",
            "set",
            "absent, as long as every trigger reads the target's own pods; or a trigger on an event source",
        ));
    }
    if let FallbackBehavior::Other(word) = fallback.behavior() {
        refusals.push(Refusal::new(
            Reason::IncorrectFallback,
            format!("fallback behavior {word:?} is not known"),
            "spec.fallback.behavior",
            word,
            FallbackBehavior::ALLOWED.join(", "),
        ));
    }
}
