//! One decision for one target.

use neap_units::Timestamp;

use crate::activation::{self, Layer};
use crate::draft::Draft;
use crate::evaluation::Evaluation;
use crate::fallback::{self, Source};
use crate::hpa;
use crate::metrics::{Replicas, Sources};
use crate::observation::Observation;
use crate::pause;
use crate::scaling_modifiers::composite;
use crate::spec::{ScalingSpec, ZeroHandling};
use crate::state::DecisionState;

/// Decides how many replicas a target should have at `now`.
///
/// `state` is what the last evaluation left (or the default for a new target), and `now` never lies
/// before that evaluation. Commit [`Evaluation::state`], then write [`Evaluation::write`]; if the
/// write is refused, commit the state of [`Evaluation::refuse`] instead. Evaluate again when a
/// reading or the scale changes, and at [`Evaluation::deadline`].
///
/// Deterministic: the same arguments give the same result, byte for byte.
#[must_use]
pub fn evaluate(
    spec: &ScalingSpec,
    state: &DecisionState,
    seen: &Observation<'_>,
    now: Timestamp,
) -> Evaluation {
    let mut draft = Draft::new(spec, state, seen, now);
    let replicas = Replicas {
        spec: seen.spec_replicas,
        status: seen.status_replicas,
    };
    if spec.zero != ZeroHandling::Triggers {
        let sources = Sources {
            triggers: &[],
            composite: None,
            active: &[],
        };
        let verdict = hpa::decide(&mut draft, &sources, replicas);
        return draft.finish(verdict);
    }

    draft
        .state
        .original_replicas
        .get_or_insert(seen.spec_replicas);
    if !spec.pause.is_full() {
        fallback::update_health(spec, &mut draft.state, seen, now);
    }
    let triggers: Vec<Source<'_>> = (0..spec.triggers.len())
        .map(|index| fallback::source(spec, &draft.state, seen, index, now))
        .collect();
    let composite = composite(spec, &triggers);
    let active = activation::per_trigger(spec, &triggers);
    let sources = Sources {
        triggers: &triggers,
        composite: composite.as_ref(),
        active: &active,
    };

    if let Some(verdict) = pause::paused(&mut draft) {
        hpa::leave_triggers(&mut draft, &sources);
        return draft.finish(verdict);
    }
    let activity = activation::activity(spec, &triggers, &active, composite.as_ref());
    match activation::decide(&mut draft, &sources, activity) {
        Layer::Decided(verdict) => draft.finish(verdict),
        Layer::ToHpa => {
            let verdict = hpa::decide(&mut draft, &sources, replicas);
            draft.finish(verdict)
        }
    }
}
