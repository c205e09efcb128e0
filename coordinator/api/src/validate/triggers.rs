//! What holds for every list of triggers. What each trigger's metadata must be is the business
//! of that trigger.

use std::collections::BTreeSet;

use super::{Reason, Refusal};
use crate::trigger::ScaleTrigger;

pub(super) fn check(triggers: &[ScaleTrigger], refusals: &mut Vec<Refusal>) {
    if triggers.is_empty() {
        refusals.push(Refusal::new(
            Reason::IncorrectTriggers,
            "no triggers defined in the ScaledObject/ScaledJob",
            "spec.triggers",
            "[]",
            "one trigger or more",
        ));
    }
    let mut names = BTreeSet::new();
    for (index, trigger) in triggers.iter().enumerate() {
        if trigger.uses_cached_metrics() && (trigger.is_pod_local() || trigger.type_ == "cron") {
            refusals.push(Refusal::new(
                Reason::IncorrectTriggers,
                format!(
                    "property \"useCachedMetrics\" is not supported for {:?} scaler",
                    trigger.type_
                ),
                format!("spec.triggers[{index}].useCachedMetrics"),
                true,
                "false for triggers that are not polled",
            ));
        }
        if let Some(name) = trigger.name()
            && !names.insert(name)
        {
            refusals.push(Refusal::new(
                Reason::IncorrectTriggers,
                format!(
                    "triggerName {name:?} is defined multiple times in the ScaledObject/ScaledJob, but it must be unique"
                ),
                format!("spec.triggers[{index}].name"),
                name,
                "a name that no other trigger of the object has",
            ));
        }
        if let Some(reference) = &trigger.authentication_ref
            && !reference.kind().is_known()
        {
            refusals.push(Refusal::new(
                Reason::IncorrectTriggers,
                format!(
                    "authenticationRef kind {:?} is not known",
                    reference.kind().as_str()
                ),
                format!("spec.triggers[{index}].authenticationRef.kind"),
                reference.kind(),
                crate::trigger::AuthenticationKind::ALLOWED.join(", "),
            ));
        }
    }
}
