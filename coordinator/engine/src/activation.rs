//! KEDA's layer over the HPA: zero and idle (`keda-core.md` 2.2 and 2.3).

use neap_units::MilliValue;

use crate::draft::{Change, Draft, Verdict, direction_of};
use crate::evaluation::{ConditionStatus, ConditionType, Event, EventKind};
use crate::fallback::Source;
use crate::hpa;
use crate::metrics::{Replicas, Sources};
use crate::normalize;
use crate::replica_calculator::total;
use crate::reversal;
use crate::scaling_modifiers::Composite;
use crate::spec::{FirstStep, MetricSpec, ScalingSpec};
use crate::why::{Direction, NextCause, Step};

/// Whether the target is active, and how its triggers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Some trigger is active, or the annotation forces it.
    pub(crate) active: bool,
    /// Some trigger failed and nothing stands in for it.
    pub(crate) failed: bool,
    /// A fallback stands in for some trigger.
    pub(crate) fallback: bool,
}

/// Whether each trigger counts as active; `None` where it never activates.
pub(crate) fn per_trigger(spec: &ScalingSpec, sources: &[Source<'_>]) -> Vec<Option<bool>> {
    let each = spec.triggers.iter().zip(sources);
    each.map(|(trigger, source)| match (&trigger.metric, source) {
        (MetricSpec::External { activation, .. }, Source::Read(read)) => Some(
            read.active
                .unwrap_or_else(|| exceeds(total(read.values), *activation)),
        ),
        // What a fallback stands in for counts as active, whatever its replicas.
        (MetricSpec::External { .. }, Source::Fallback { .. }) => Some(true),
        (MetricSpec::External { .. }, _) => Some(false),
        _ => None,
    })
    .collect()
}

fn exceeds(value: MilliValue, threshold: MilliValue) -> bool {
    value > threshold
}

/// Puts the triggers together: any active one suffices, under a formula only its value counts, and
/// an object with nothing but pod metrics is always active.
pub(crate) fn activity(
    spec: &ScalingSpec,
    sources: &[Source<'_>],
    active: &[Option<bool>],
    composite: Option<&Composite>,
) -> Activity {
    let failed = sources
        .iter()
        .any(|source| matches!(source, Source::Failed { .. }));
    let fallback = sources
        .iter()
        .any(|source| matches!(source, Source::Fallback { .. }));
    let by_triggers = match (&spec.scaling_modifiers, composite) {
        (Some(modifiers), Some(composite)) => {
            let value = composite.value.as_ref().ok();
            !failed && value.is_some_and(|value| exceeds(*value, modifiers.activation_target))
        }
        _ => active.contains(&Some(true)),
    };
    let only_pods = active.iter().all(Option::is_none);
    Activity {
        active: by_triggers || only_pods || spec.force_activation,
        failed,
        fallback,
    }
}

/// What the layer does before the HPA's part.
pub(crate) enum Layer {
    /// It decided.
    Decided(Verdict),
    /// The HPA's part decides.
    ToHpa,
}

/// Decides about zero and idle.
pub(crate) fn decide(
    draft: &mut Draft<'_>,
    sources: &Sources<'_, '_>,
    activity: Activity,
) -> Layer {
    note_fallback(draft, activity);
    if activity.active {
        note_active(draft);
        when_active(draft, sources, activity)
    } else {
        draft.condition(
            ConditionType::Active,
            ConditionStatus::False,
            "ScalerNotActive",
            "Scaling is not performed because triggers are not active",
        );
        when_inactive(draft, sources, activity)
    }
}

fn note_fallback(draft: &mut Draft<'_>, activity: Activity) {
    if activity.fallback {
        draft.condition(
            ConditionType::Fallback,
            ConditionStatus::True,
            "FallbackExists",
            "At least one trigger is falling back on this scaled object",
        );
    } else {
        draft.condition(
            ConditionType::Fallback,
            ConditionStatus::False,
            "NoFallbackFound",
            "No fallbacks are active on this scaled object",
        );
    }
}

fn note_active(draft: &mut Draft<'_>) {
    let message = if draft.spec.force_activation {
        "Scaling is performed because activation is being forced by annotation"
    } else {
        "Scaling is performed because triggers are active"
    };
    draft.condition(
        ConditionType::Active,
        ConditionStatus::True,
        "ScalerActive",
        message,
    );
}

/// The triggers work, as far as the layer speaks on it.
fn ready(draft: &mut Draft<'_>) {
    draft.condition(
        ConditionType::Ready,
        ConditionStatus::True,
        "ScaledObjectReady",
        "ScaledObject is defined correctly and is ready for scaling",
    );
}

fn when_active(draft: &mut Draft<'_>, sources: &Sources<'_, '_>, activity: Activity) -> Layer {
    let spec = draft.spec;
    let current = draft.seen.spec_replicas;
    let rests = current == 0 || (spec.idle_replicas.is_some() && current < spec.min_replicas);
    if rests {
        ready(draft);
        if spec.pause.scale_out {
            draft.steps.push(Step::DirectionPaused {
                direction: Direction::Up,
                from: spec.min_replicas.max(1),
            });
            return Layer::Decided(rest(draft, sources));
        }
        return Layer::Decided(activate(draft, sources));
    }
    if activity.failed {
        draft.condition(
            ConditionType::Ready,
            ConditionStatus::Unknown,
            "PartialTriggerError",
            "Some triggers defined in ScaledObject are not working correctly",
        );
    } else {
        ready(draft);
        draft.state.last_active = Some(draft.now);
    }
    Layer::ToHpa
}

/// Out of zero or idle: to max(min, 1) at once, and in the same write to what the values ask for as
/// far as scale-up rules allow from there.
fn activate(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) -> Verdict {
    let spec = draft.spec;
    let current = draft.seen.spec_replicas;
    let first = spec.min_replicas.max(1).min(spec.max_replicas);
    draft.steps.push(Step::Activated {
        from: current,
        to: first,
        forced: spec.force_activation,
    });
    normalize::record_initial(draft, first);
    reversal::look(draft);
    // From zero the HPA's formulas need no pods and know no tolerance.
    let seen = Replicas {
        spec: current,
        status: draft.seen.status_replicas,
    };
    let raw = hpa::proposal(draft, sources, seen).map(|proposed| proposed.raw);
    let desired = match raw {
        Some(raw) if raw > first => match spec.first_step {
            FirstStep::Value => raw.min(spec.max_replicas),
            FirstStep::Behavior => normalize::normalize(draft, first, raw).max(first),
        },
        _ => first,
    };
    draft.state.last_active = Some(draft.now);
    let cause = if spec.force_activation {
        "caused by forced activation annotation".to_owned()
    } else {
        format!("triggered by {}", active_names(spec, sources))
    };
    let message = format!(
        "Scaled {} {}/{} from {current} to {desired}, {cause}",
        spec.target_kind, spec.namespace, spec.target_name
    );
    let event = Event {
        kind: EventKind::Normal,
        reason: "KEDAScaleTargetActivated".into(),
        message,
    };
    let change = Change::Layer {
        event: Some(event),
        hpa_from: first,
    };
    Verdict {
        desired,
        hpa_desired: Some(desired),
        change,
    }
}

fn active_names(spec: &ScalingSpec, sources: &Sources<'_, '_>) -> String {
    if spec.scaling_modifiers.is_some() {
        return crate::messages::COMPOSITE_NAME.to_owned();
    }
    let each = spec.triggers.iter().zip(sources.active);
    let active = each.filter(|(_, active)| **active == Some(true));
    active
        .map(|(trigger, _)| trigger.metric_name.as_str())
        .collect::<Vec<_>>()
        .join(";")
}

fn when_inactive(draft: &mut Draft<'_>, sources: &Sources<'_, '_>, activity: Activity) -> Layer {
    let spec = draft.spec;
    let current = draft.seen.spec_replicas;
    if activity.failed {
        match spec.fallback {
            // With a fallback of 0 KEDA goes on as if nothing had failed. What was not read yet has not
            // failed: it may be active.
            Some(fallback) if fallback.replicas == 0 && !any_unread(sources) => ready(draft),
            Some(_) => {
                ready(draft);
                return hpa_or_rest(draft, sources);
            }
            None => {
                draft.condition(
                    ConditionType::Ready,
                    ConditionStatus::False,
                    "TriggerError",
                    "Triggers defined in ScaledObject are not working correctly",
                );
                return hpa_or_rest(draft, sources);
            }
        }
    } else {
        ready(draft);
    }
    let leaves = match spec.idle_replicas {
        Some(idle) => current > idle || (current > 0 && spec.min_replicas == 0),
        None => current > 0 && spec.min_replicas == 0,
    };
    if leaves {
        return deactivate(draft, sources);
    }
    if spec.idle_replicas.is_none() && current < spec.min_replicas {
        hpa::leave_triggers(draft, sources);
        draft.steps.push(Step::RaisedToMin {
            from: current,
            to: spec.min_replicas,
        });
        let change = Change::Layer {
            event: None,
            hpa_from: spec.min_replicas,
        };
        let desired = spec.min_replicas;
        return Layer::Decided(Verdict {
            desired,
            hpa_desired: Some(desired),
            change,
        });
    }
    if spec.idle_replicas == Some(current) {
        return Layer::Decided(rest(draft, sources));
    }
    hpa_or_rest(draft, sources)
}

/// Some trigger has no reading that counts, neither a good nor a bad one.
fn any_unread(sources: &Sources<'_, '_>) -> bool {
    let mut triggers = sources.triggers.iter();
    triggers.any(
        |source| matches!(source, Source::Failed { failure, .. } if !failure.counts_for_fallback),
    )
}

/// At zero the HPA's part rests, above it decides.
fn hpa_or_rest(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) -> Layer {
    if draft.seen.spec_replicas == 0 {
        return Layer::Decided(rest(draft, sources));
    }
    Layer::ToHpa
}

/// Stays at zero or idle.
fn rest(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) -> Verdict {
    let current = draft.seen.spec_replicas;
    draft.condition(
        ConditionType::AbleToScale,
        ConditionStatus::True,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let mut verdict = hpa::disabled(draft, sources);
    // In the layer's words; the condition says the HPA's.
    draft.steps.pop();
    draft.steps.push(Step::Resting);
    verdict.desired = current;
    verdict.hpa_desired = Some(current);
    verdict
}

/// From N straight to idle, min or zero once the cooldown is over, past the HPA's behaviour, as KEDA
/// does it.
fn deactivate(draft: &mut Draft<'_>, sources: &Sources<'_, '_>) -> Layer {
    let spec = draft.spec;
    let current = draft.seen.spec_replicas;
    let to = spec.idle_replicas.unwrap_or(spec.min_replicas);
    if spec.pause.scale_in {
        draft.steps.push(Step::DirectionPaused {
            direction: Direction::Down,
            from: to,
        });
        return Layer::ToHpa;
    }
    let (since, period, initial) = match draft.state.last_active {
        // Never active: the cooldown does not count, only the initial one.
        None => (spec.created_at, spec.initial_cooldown, true),
        Some(last) => (last, spec.cooldown, false),
    };
    let ends = since + period;
    if draft.now <= ends {
        draft.condition(
            ConditionType::Active,
            ConditionStatus::False,
            "ScalerCooldown",
            "Scaler cooling down because triggers are not active",
        );
        // It is over only strictly after its end.
        let until = ends + std::time::Duration::from_millis(1);
        draft.steps.push(Step::CoolingDown { until, initial });
        draft.due(until, NextCause::Cooldown);
        return Layer::ToHpa;
    }
    if direction_of(current, to) == Some(Direction::Down)
        && reversal::is_too_soon(draft, Direction::Down, to)
    {
        return Layer::ToHpa;
    }
    hpa::leave_triggers(draft, sources);
    draft.steps.push(Step::Deactivated { from: current, to });
    let message = format!(
        "Deactivated {} {}/{} from {current} to {to}",
        spec.target_kind, spec.namespace, spec.target_name
    );
    let event = Event {
        kind: EventKind::Normal,
        reason: "KEDAScaleTargetDeactivated".into(),
        message,
    };
    // No change of the HPA's, so none that its policies count.
    let change = Change::Layer {
        event: Some(event),
        hpa_from: to,
    };
    Layer::Decided(Verdict {
        desired: to,
        hpa_desired: Some(to),
        change,
    })
}
