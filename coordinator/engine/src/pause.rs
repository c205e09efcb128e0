//! The pause annotations (`keda-core.md` 2.4).

use std::borrow::Cow;

use crate::behavior::{Behavior, SelectPolicy};
use crate::draft::{Change, Draft, Verdict};
use crate::evaluation::{ConditionStatus, ConditionType};
use crate::spec::ScalingSpec;
use crate::why::Step;

/// The behaviour with the paused directions disabled. KEDA writes these into the HPA's `behavior`,
/// which so exists even where the object has none.
pub(crate) fn effective_behavior(spec: &ScalingSpec) -> Option<Cow<'_, Behavior>> {
    let pause = spec.pause;
    if !pause.scale_in && !pause.scale_out {
        return spec.behavior.as_ref().map(Cow::Borrowed);
    }
    let mut behavior = spec.behavior.clone().unwrap_or_default();
    if pause.scale_in {
        behavior.scale_down.select_policy = SelectPolicy::Disabled;
    }
    if pause.scale_out {
        behavior.scale_up.select_policy = SelectPolicy::Disabled;
    }
    Some(Cow::Owned(behavior))
}

/// Says whether anything is paused. If everything is, the verdict: to `paused-replicas`, or to stay.
/// Nothing is recorded meanwhile, so that unpausing goes on as if nobody had looked, and as if
/// somebody else had set the replicas.
pub(crate) fn paused(draft: &mut Draft<'_>) -> Option<Verdict> {
    let pause = draft.spec.pause;
    let any = pause.is_full() || pause.scale_in || pause.scale_out;
    if any {
        draft.condition(
            ConditionType::Paused,
            ConditionStatus::True,
            "ScaledObjectPaused",
            "ScaledObject is paused",
        );
    } else {
        draft.condition(
            ConditionType::Paused,
            ConditionStatus::False,
            "ScaledObjectUnpaused",
            "pause annotation removed for ScaledObject",
        );
    }
    if !pause.is_full() {
        return None;
    }
    let current = draft.seen.spec_replicas;
    let desired = pause.replicas.unwrap_or(current);
    draft.steps.push(Step::Paused {
        replicas: pause.replicas,
    });
    Some(Verdict {
        desired,
        hpa_desired: None,
        change: Change::Pause,
    })
}
