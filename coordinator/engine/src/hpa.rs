//! The HPA's part of a decision: bounds, metrics, stabilisation, limits (`hpa.md` 0 and 3).

use crate::draft::{Change, Draft, Verdict, direction_of};
use crate::evaluation::{ConditionStatus, ConditionType, EventKind};
use crate::messages::MetricError;
use crate::metrics::{Combined, Replicas, Sources, combine, not_computed, plain_value};
use crate::normalize;
use crate::observation::SelectorProblem;
use crate::reversal;
use crate::spec::{MetricSpec, ZeroHandling};
use crate::why::{Bound, Step};

/// Decides from `replicas`, with the HPA's conditions and events.
pub(crate) fn decide(
    draft: &mut Draft<'_>,
    sources: &Sources<'_, '_>,
    replicas: Replicas,
) -> Verdict {
    let spec = draft.spec;
    let current = replicas.spec;
    draft.condition(
        ConditionType::AbleToScale,
        ConditionStatus::True,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    normalize::record_initial(draft, current);
    let min = spec.hpa_min();
    if current == 0 {
        if !may_leave_zero(draft) {
            return disabled(draft, sources);
        }
    } else if current > spec.max_replicas {
        return to_bound(draft, sources, spec.max_replicas, Bound::Max);
    } else if current < min {
        return to_bound(draft, sources, min, Bound::Min);
    }

    let Some(proposed) = proposal(draft, sources, replicas) else {
        reversal::note_nothing(draft);
        return stay(current);
    };
    let Proposed {
        raw,
        title,
        ratio,
        highest,
    } = proposed;
    reversal::look(draft);
    // Chosen from the bare proposal, whatever becomes of it.
    let raw = raw.max(0);
    let mut reason = match raw.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{title} above target"),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let mut desired = normalize::normalize(draft, current, raw);
    if current == 0 && min != 0 && desired < min {
        desired = min;
        if reason.is_empty() {
            reason = BELOW_MIN.to_owned();
        }
    }
    let noisy = reversal::note(draft, current, raw, ratio);
    let desired = reversal::hold(draft, current, desired, highest, noisy);
    note_zero(draft, current, desired);
    Verdict {
        desired,
        hpa_desired: Some(desired),
        change: Change::Hpa { reason },
    }
}

const BELOW_MIN: &str = "Current number of replicas below Spec.MinReplicas";
const ABOVE_MAX: &str = "Current number of replicas above Spec.MaxReplicas";

/// Nothing changes and the HPA's shown number stays.
fn stay(current: i32) -> Verdict {
    let change = Change::Hpa {
        reason: String::new(),
    };
    Verdict {
        desired: current,
        hpa_desired: None,
        change,
    }
}

/// What the metrics propose together.
pub(crate) struct Proposed {
    /// The number.
    pub(crate) raw: i32,
    /// The metric that proposed it, as the HPA words it.
    pub(crate) title: String,
    /// Value to target of that metric, where it has one.
    pub(crate) ratio: Option<f64>,
    /// The largest value to target of all metrics.
    pub(crate) highest: Option<f64>,
}

/// The combined proposal; `None` if too many metrics failed, with the conditions and events of it.
pub(crate) fn proposal(
    draft: &mut Draft<'_>,
    sources: &Sources<'_, '_>,
    replicas: Replicas,
) -> Option<Proposed> {
    if let Some(problem) = draft.seen.selector_problem {
        selector_failed(draft, sources, problem);
        return None;
    }
    match combine(draft, sources, replicas) {
        Combined::Usable {
            replicas,
            title,
            ratio,
            highest,
        } => {
            draft.condition(
                ConditionType::ScalingActive,
                ConditionStatus::True,
                "ValidMetricFound",
                format!("the HPA was able to successfully calculate a replica count from {title}"),
            );
            Some(Proposed {
                raw: replicas,
                title,
                ratio,
                highest,
            })
        }
        Combined::Unusable(error) => {
            metrics_failed(draft, &error);
            None
        }
    }
}

fn metrics_failed(draft: &mut Draft<'_>, error: &MetricError) {
    draft.condition(
        ConditionType::ScalingActive,
        ConditionStatus::False,
        error.reason,
        format!(
            "the HPA was unable to compute the replica count: {}",
            error.message
        ),
    );
    let summary = draft.error.clone().unwrap_or_default();
    draft.event(EventKind::Warning, "FailedComputeMetricsReplicas", summary);
}

fn selector_failed(draft: &mut Draft<'_>, sources: &Sources<'_, '_>, problem: SelectorProblem<'_>) {
    let (event, condition, message, shown) = match problem {
        SelectorProblem::Missing => (
            "SelectorRequired",
            "InvalidSelector",
            "selector is required".to_owned(),
            "the HPA target's scale is missing a selector".to_owned(),
        ),
        SelectorProblem::Invalid(error) => {
            let message = format!(
                "couldn't convert selector into a corresponding internal selector object: {error}"
            );
            (
                "InvalidSelector",
                "InvalidSelector",
                message.clone(),
                message,
            )
        }
        SelectorProblem::Ambiguous {
            selector,
            autoscalers,
        } => {
            let message = format!(
                "pods by selector {selector} are controlled by multiple HPAs: {autoscalers}"
            );
            (
                "AmbiguousSelector",
                "AmbiguousSelector",
                message.clone(),
                message,
            )
        }
    };
    draft.event(EventKind::Warning, event, message.clone());
    draft.condition(
        ConditionType::ScalingActive,
        ConditionStatus::False,
        condition,
        shown,
    );
    draft.event(
        EventKind::Warning,
        "FailedComputeMetricsReplicas",
        message.clone(),
    );
    leave_triggers(draft, sources);
    let all = u32::try_from(draft.spec.triggers.len()).unwrap_or(u32::MAX);
    draft.steps.push(Step::Blocked {
        failed: all,
        of: all,
        proposal: None,
    });
    draft.error = Some(message);
}

/// Lists the triggers without computing them.
pub(crate) fn leave_triggers(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) {
    let (seen, now) = (draft.seen, draft.now);
    draft.triggers = not_computed(draft.spec, sources, |index| plain_value(seen, index, now));
}

/// Outside min..max the number goes straight to the bound: no metrics, no stabilisation, no limit.
fn to_bound(draft: &mut Draft<'_>, sources: &Sources<'_, '_>, bound: i32, side: Bound) -> Verdict {
    leave_triggers(draft, sources);
    draft.steps.push(Step::OutOfBounds { bound, side });
    let reason = match side {
        Bound::Max => ABOVE_MAX,
        Bound::Min => BELOW_MIN,
    };
    note_zero(draft, draft.seen.spec_replicas, bound);
    let change = Change::Hpa {
        reason: reason.to_owned(),
    };
    Verdict {
        desired: bound,
        hpa_desired: Some(bound),
        change,
    }
}

/// At zero a plain HPA does nothing, unless it went there itself under HPAScaleToZero.
fn may_leave_zero(draft: &Draft<'_>) -> bool {
    draft.spec.zero == ZeroHandling::HpaScaleToZero
        && draft.state.scaled_to_zero == Some(true)
        && (draft.spec.min_replicas != 0 || has_object_or_external(draft))
}

/// Says that the HPA's part rests at zero.
pub(crate) fn disabled(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) -> Verdict {
    leave_triggers(draft, sources);
    draft.condition(
        ConditionType::ScalingActive,
        ConditionStatus::False,
        "ScalingDisabled",
        "scaling is disabled since the replica count of the target is zero",
    );
    draft.steps.push(Step::DisabledAtZero);
    if draft.spec.zero != ZeroHandling::HpaScaleToZero {
        draft.state.scaled_to_zero = None;
    }
    let change = Change::Hpa {
        reason: String::new(),
    };
    Verdict {
        desired: 0,
        hpa_desired: Some(0),
        change,
    }
}

fn has_object_or_external(draft: &Draft<'_>) -> bool {
    let mut triggers = draft.spec.triggers.iter();
    triggers.any(|trigger| {
        matches!(
            trigger.metric,
            MetricSpec::Object { .. } | MetricSpec::External { .. }
        )
    })
}

/// Remembers whether a change is the HPA's own to zero. Each change says so anew.
fn note_zero(draft: &mut Draft<'_>, current: i32, desired: i32) {
    if direction_of(current, desired).is_none() {
        return;
    }
    let own = current > 0
        && desired == 0
        && draft.spec.min_replicas == 0
        && has_object_or_external(draft);
    draft.zero_change = match draft.spec.zero {
        ZeroHandling::HpaScaleToZero => Some(own),
        ZeroHandling::Disabled | ZeroHandling::Triggers => None,
    };
}
