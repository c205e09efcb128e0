//! All metrics of a target: each one's proposal, and the one number they come to (`hpa.md` 2).

mod composite;
mod outcome;
mod trigger;

use crate::draft::Draft;
use crate::evaluation::EventKind;
use crate::fallback::Source;
use crate::messages::{self, MetricError};
use crate::pause::effective_behavior;
use crate::replica_calculator::Tolerances;
use crate::scaling_modifiers::Composite;
use crate::spec::{MetricSpec, ScalingSpec, TriggerSpec};
use crate::why::{Step, TriggerOutcome, TriggerWhy};
use composite::compute_composite;
pub(crate) use outcome::{not_computed, plain_value};
use outcome::{not_proposing, settle};
use trigger::compute;

/// The replicas to compute from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    /// `spec.replicas` of the scale.
    pub(crate) spec: i32,
    /// `status.replicas` of the scale.
    pub(crate) status: i32,
}

/// What the metrics come to.
pub(crate) enum Combined {
    /// A number, and which metric proposed it.
    Usable {
        /// The number.
        replicas: i32,
        /// The metric's name as the HPA words it.
        title: String,
        /// Value to target of that metric; `None` where a fallback or a floor stands in.
        ratio: Option<f64>,
        /// The largest value to target of all.
        highest: Option<f64>,
    },
    /// Too many failed; the first failure's words.
    Unusable(MetricError),
}

/// What is known of the external triggers before the HPA's part.
pub(crate) struct Sources<'s, 'a> {
    /// One per trigger.
    pub(crate) triggers: &'s [Source<'a>],
    /// The formula's result, if there is a formula.
    pub(crate) composite: Option<&'s Composite>,
    /// Whether each trigger counts as active, `None` where it never activates.
    pub(crate) active: &'s [Option<bool>],
}

struct Tally {
    best: Option<(i32, Option<usize>)>,
    first_error: Option<MetricError>,
    failed: u32,
    all: u32,
}

impl Tally {
    fn add(&mut self, result: Result<i32, MetricError>, trigger: Option<usize>) {
        self.all += 1;
        match result {
            Ok(replicas) => {
                // As the HPA has it: the first proposal, then only strictly larger ones; after a
                // proposal of 0 whatever comes next.
                let replaces = match self.best {
                    None | Some((0, _)) => true,
                    Some((best, _)) => replicas > best,
                };
                if replaces {
                    self.best = Some((replicas, trigger));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }
}

/// Computes every metric and combines the proposals.
pub(crate) fn combine(
    draft: &mut Draft<'_>,
    sources: &Sources<'_, '_>,
    replicas: Replicas,
) -> Combined {
    let spec = draft.spec;
    let mut tally = Tally {
        best: None,
        first_error: None,
        failed: 0,
        all: 0,
    };
    for (index, trigger) in spec.triggers.iter().enumerate() {
        let source = sources
            .triggers
            .get(index)
            .copied()
            .unwrap_or(Source::AsRead);
        let outcome = if takes_part(spec, trigger) {
            let result = compute(draft, trigger, index, source, replicas);
            let (status, outcome, result) = settle(trigger, source, result);
            draft.current_metrics.push(status);
            if let Err(error) = &result {
                draft.event(EventKind::Warning, error.reason, error.message.clone());
            }
            tally.add(result, Some(index));
            outcome
        } else {
            not_proposing(source)
        };
        let active = sources.active.get(index).copied().flatten();
        draft.triggers.push(TriggerWhy {
            metric_name: trigger.metric_name.clone(),
            kind: trigger.kind.clone(),
            active,
            outcome,
        });
    }
    let mut composite_ratio = None;
    if let (Some(modifiers), Some(composite)) = (&spec.scaling_modifiers, sources.composite) {
        let result = compute_composite(draft, modifiers, composite, replicas);
        let ratio = result.as_ref().ok().map(|calculation| calculation.ratio);
        composite_ratio = ratio.filter(|ratio| ratio.is_finite() && !composite.is_fallback);
        tally.add(result.map(|calculation| calculation.replicas), None);
    }
    conclude(draft, tally, composite_ratio, replicas.spec)
}

/// Whether the trigger proposes itself. Under a formula KEDA keeps resource metrics but leaves out
/// those of single containers; external values only feed the formula.
fn takes_part(spec: &ScalingSpec, trigger: &TriggerSpec) -> bool {
    spec.scaling_modifiers.is_none()
        || match &trigger.metric {
            MetricSpec::External { .. } => false,
            MetricSpec::Resource { container, .. } => container.is_none(),
            MetricSpec::Pods { .. } | MetricSpec::Object { .. } => true,
        }
}

fn conclude(
    draft: &mut Draft<'_>,
    tally: Tally,
    composite_ratio: Option<f64>,
    current: i32,
) -> Combined {
    let spec = draft.spec;
    // Before any proposal the HPA's number is 0.
    let (replicas, trigger) = tally.best.unwrap_or((0, None));
    let combined_error = tally.first_error.as_ref().map(|first| {
        let (failed, all, wrapped) = (tally.failed, tally.all, &first.wrapped);
        format!("invalid metrics ({failed} invalid out of {all}), first error is: {wrapped}")
    });
    if tally.failed > 0 && (tally.failed >= tally.all || replicas < current) || tally.all == 0 {
        draft.steps.push(Step::Blocked {
            failed: tally.failed,
            of: tally.all,
            proposal: tally.best.map(|(replicas, _)| replicas),
        });
        draft.error = combined_error;
        let none = || MetricError::whole("FailedGetExternalMetric", "no metrics".to_owned());
        return Combined::Unusable(tally.first_error.unwrap_or_else(none));
    }
    draft.error = combined_error;
    draft.steps.push(Step::Aggregated { replicas, trigger });
    let ratio = match trigger {
        Some(index) => draft.triggers.get(index).and_then(ratio_of),
        None => composite_ratio,
    };
    let ratios = draft.triggers.iter().filter_map(ratio_of);
    let highest = ratios.chain(composite_ratio).reduce(f64::max);
    let title = match trigger.map(|index| &spec.triggers[index]) {
        Some(trigger) => messages::title(trigger),
        None => messages::composite_title(),
    };
    Combined::Usable {
        replicas,
        title,
        ratio,
        highest,
    }
}

/// Value to target of a trigger that proposes of its own.
fn ratio_of(trigger: &TriggerWhy) -> Option<f64> {
    match &trigger.outcome {
        TriggerOutcome::Proposed(proposal) if proposal.raised_by_floor.is_none() => {
            Some(proposal.ratio)
        }
        _ => None,
    }
}

/// The tolerances in force: the controller's flag, overridden per direction by `behavior`.
pub(crate) fn tolerances(spec: &ScalingSpec) -> Tolerances {
    let flag = spec.settings.tolerance;
    let behavior = effective_behavior(spec).filter(|_| spec.settings.configurable_tolerance);
    Tolerances {
        down: behavior
            .as_ref()
            .and_then(|b| b.scale_down.tolerance)
            .unwrap_or(flag),
        up: behavior
            .as_ref()
            .and_then(|b| b.scale_up.tolerance)
            .unwrap_or(flag),
    }
}
