//! One decision for one target.

use neap_units::Timestamp;

use crate::evaluation::Evaluation;
use crate::observation::Observation;
use crate::spec::ScalingSpec;
use crate::state::DecisionState;
use crate::why::Why;

/// Decides how many replicas a target should have at `now`.
///
/// `state` is what the last evaluation left (or the default for a new target), `now` never lies
/// before the evaluation that left it. Commit [`Evaluation::state`], then write
/// [`Evaluation::write`]; if the write is refused, commit the state of [`Evaluation::refuse`].
#[must_use]
pub fn evaluate(
    spec: &ScalingSpec,
    state: &DecisionState,
    seen: &Observation<'_>,
    now: Timestamp,
) -> Evaluation {
    let _ = spec;
    Evaluation {
        desired: seen.spec_replicas,
        write: None,
        hpa_desired: None,
        state: state.clone(),
        refused: None,
        deadline: None,
        why: Why {
            at: now,
            current: seen.spec_replicas,
            desired: seen.spec_replicas,
            triggers: Vec::new(),
            steps: Vec::new(),
            next: None,
        },
        conditions: Vec::new(),
        events: Vec::new(),
        current_metrics: Vec::new(),
        error: None,
    }
}
