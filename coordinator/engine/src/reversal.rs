//! Not turning around more often than the HPA, although deciding more often: a turn waits, and what
//! noise could have asked for has to be asked for longer.

use std::time::Duration;

use neap_units::Timestamp;

use crate::draft::{Draft, direction_of};
use crate::metrics::tolerances;
use crate::noise::{Extremes, Signal};
use crate::pause::effective_behavior;
use crate::stabilization::Windows;
use crate::why::{Direction, NextCause, Step};

/// Notes what the metrics ask for: `raw` replicas, at `ratio` of the target. Where something stands in
/// for a metric there is no ratio, and nothing to be noisy. Returns when the signal was last noisy
/// before.
pub(crate) fn note(
    draft: &mut Draft<'_>,
    current: i32,
    raw: i32,
    ratio: Option<f64>,
) -> Option<Timestamp> {
    let hold = draft.spec.settings.reversal_hold;
    if hold.is_zero() {
        return None;
    }
    let windows = windows(draft);
    let asks = direction_of(current, raw);
    let before = draft.state.signal.take();
    // The load, and not its share per replica: that one moves with every change of replicas.
    let load = ratio.map(|ratio| ratio * f64::from(current.max(1)));
    draft.state.signal =
        load.map(|load| Signal::next(before, load, raw, asks, hold, windows, draft.now));
    before.and_then(|before| before.noisy())
}

/// Notes that the metrics gave no number: the time that passed shows nothing.
pub(crate) fn note_nothing(draft: &mut Draft<'_>) {
    let now = draft.now;
    if let Some(signal) = &mut draft.state.signal {
        signal.skip(now);
    }
}

/// Holds a change back as far as it would turn too soon or noise could have asked for it. Returns the
/// number to go to.
///
/// Whether the signal is noisy is a matter of the past: else a load that is higher now could count
/// for less.
pub(crate) fn hold(
    draft: &mut Draft<'_>,
    current: i32,
    desired: i32,
    ratio: Option<f64>,
    noisy: Option<Timestamp>,
) -> i32 {
    let Some(direction) = direction_of(current, desired) else {
        return desired;
    };
    if is_too_soon(draft, direction, desired) {
        return current;
    }
    let (Some(signal), Some(ratio), Some(noisy)) = (draft.state.signal, ratio, noisy) else {
        return desired;
    };
    let windows = windows(draft);
    let hold = draft.spec.settings.reversal_hold;
    if direction == Direction::Up && !signal.asks_for(direction) {
        // The HPA's older path climbs to a peak it remembers while less is asked for. Looking more
        // often sees higher peaks, so not to one of noise.
        let until = noisy + windows.down.max(hold);
        if until > draft.now {
            held(draft, direction, desired, until);
            return current;
        }
    }
    if noisy + hold <= draft.now {
        return desired;
    }
    let turns = draft
        .state
        .last_change
        .is_some_and(|last| last.direction != direction);
    let needed = match direction {
        Direction::Up => windows.up,
        Direction::Down => windows.down,
    } + hold * if turns { 2 } else { 1 };
    let missing = needed.saturating_sub(signal.shown(direction));
    let to = how_far(
        draft,
        &signal,
        direction,
        current,
        desired,
        ratio,
        missing.is_zero(),
    );
    if to != desired {
        let until = draft.now + if missing.is_zero() { hold } else { missing };
        held(draft, direction, desired, until);
    }
    to
}

/// How far a change may go on the word of a noisy signal.
fn how_far(
    draft: &Draft<'_>,
    signal: &Signal,
    direction: Direction,
    current: i32,
    desired: i32,
    ratio: f64,
    is_shown: bool,
) -> i32 {
    let Extremes { least, most } = signal.extremes();
    match direction {
        Direction::Up => {
            let shown = if is_shown { least } else { current };
            let sure = sure(draft, current, desired, ratio);
            desired.min(shown.max(sure)).max(current)
        }
        Direction::Down if is_shown => desired.max(most).min(current),
        Direction::Down => current,
    }
}

/// The replicas that are needed whatever part of the ratio is noise: a load clearly over its target is
/// acted on at once.
fn sure(draft: &Draft<'_>, current: i32, desired: i32, ratio: f64) -> i32 {
    let margin = draft.spec.settings.noise_margin;
    let share = (1.0 - margin) / (1.0 + margin);
    if ratio * share <= 1.0 + tolerances(draft.spec).up {
        return current;
    }
    let sure = (f64::from(desired) * share).floor() as i32;
    sure.max(current.saturating_add(1))
}

/// Whether a change would turn against the last one within the hold; if so, says until when.
pub(crate) fn is_too_soon(draft: &mut Draft<'_>, direction: Direction, to: i32) -> bool {
    let last = draft.state.last_change;
    let Some(last) = last.filter(|last| last.direction != direction) else {
        return false;
    };
    let until = last.at + draft.spec.settings.reversal_hold;
    if draft.now >= until {
        return false;
    }
    held(draft, direction, to, until);
    true
}

/// Notes a look at the HPA's pace, if one is due.
pub(crate) fn look(draft: &mut Draft<'_>) {
    let (pace, now) = (draft.spec.settings.sync_period, draft.now);
    if draft.state.last_look.is_none_or(|last| now >= last + pace) {
        draft.state.last_look = Some(now);
    }
}

/// The stabilisation windows in force.
fn windows(draft: &Draft<'_>) -> Windows {
    let settings = &draft.spec.settings;
    match effective_behavior(draft.spec) {
        Some(behavior) => Windows::of(&behavior, settings),
        None => Windows {
            up: Duration::ZERO,
            down: settings.downscale_stabilization,
        },
    }
}

fn held(draft: &mut Draft<'_>, direction: Direction, from: i32, until: Timestamp) {
    draft.steps.push(Step::ReversalHeld {
        direction,
        from,
        until,
    });
    draft.due(until, NextCause::ReversalHold);
}

#[cfg(test)]
mod tests {
    use neap_units::MilliValue;

    use crate::formula::Formula;
    use crate::observation::{
        Failure, Observation, Pod, PodReadings, Reading, Sample, ValueReading,
    };
    use crate::spec::{
        CapacityFloor, Fallback, FallbackBehavior, MetricSpec, ModifierMetricType,
        ScalingModifiers, ScalingSpec, TriggerSpec, ValueTarget,
    };
    use crate::state::DecisionState;
    use crate::{PodPhase, evaluate};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn spec(metric: MetricSpec) -> ScalingSpec {
        ScalingSpec {
            min_replicas: 1,
            triggers: vec![TriggerSpec {
                metric_name: "s0-a".to_owned(),
                name: Some("a".to_owned()),
                kind: "any".to_owned(),
                metric,
            }],
            ..ScalingSpec::default()
        }
    }

    /// Whether a reading is a signal that could be noisy, with four pods.
    fn is_signal(spec: &ScalingSpec, reading: Reading<'_>) -> bool {
        let pod = Pod {
            phase: PodPhase::Running,
            ..Pod::default()
        };
        let seen = Observation {
            spec_replicas: 4,
            status_replicas: 4,
            ready_replicas: None,
            pods: &[&pod; 4],
            selector_problem: None,
            readings: &[reading],
        };
        let evaluation = evaluate(spec, &DecisionState::default(), &seen, NOW);
        evaluation.state.signal.is_some()
    }

    fn external() -> MetricSpec {
        MetricSpec::External {
            selector: None,
            target: ValueTarget::AverageValue(MilliValue::from_units(5)),
            activation: MilliValue::ZERO,
        }
    }

    fn ten() -> Reading<'static> {
        const TEN: MilliValue = MilliValue::from_units(10);
        Reading::Values(ValueReading {
            values: &[TEN],
            active: None,
            at: NOW,
        })
    }

    #[test]
    fn what_a_fallback_stands_in_for_is_no_signal() {
        let fallback = Some(Fallback {
            failure_threshold: 0,
            replicas: 6,
            behavior: FallbackBehavior::Static,
        });
        let modifiers = Some(ScalingModifiers {
            formula: Formula::parse("a").unwrap(),
            target: MilliValue::from_units(5),
            activation_target: MilliValue::ZERO,
            metric_type: ModifierMetricType::AverageValue,
        });
        for scaling_modifiers in [None, modifiers] {
            let spec = ScalingSpec {
                fallback,
                scaling_modifiers,
                ..spec(external())
            };
            assert!(is_signal(&spec, ten()));
            let failure = Failure::source("down", NOW);
            assert!(!is_signal(&spec, Reading::Failed(failure)));
        }
    }

    #[test]
    fn what_a_capacity_floor_raised_is_no_signal() {
        let sample = Some(Sample {
            value: MilliValue::new(10),
            at: NOW,
            window: Duration::from_secs(1),
        });
        let samples = [sample; 4];
        let pods = |arrivals: i64| {
            Reading::Pods(PodReadings {
                samples: &samples,
                unknown: &[],
                arrival_rate: Some(MilliValue::from_units(arrivals)),
            })
        };
        let spec = spec(MetricSpec::Pods {
            average_value: MilliValue::new(50),
            capacity_floor: Some(CapacityFloor::default()),
        });
        assert!(is_signal(&spec, pods(0)));
        assert!(!is_signal(&spec, pods(40)));
    }
}
