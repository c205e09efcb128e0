//! From the metrics' number to the one to go to: stabilisation, policies, min and max.

use std::time::Duration;

use crate::behavior::{Behavior, SelectPolicy};
use crate::draft::{Draft, direction_of};
use crate::evaluation::{ConditionStatus, ConditionType};
use crate::pause::effective_behavior;
use crate::rate_limits::{self, Events};
use crate::stabilization::{self, Stabilized, Windows};
use crate::why::{Bound, Direction, NextCause, Step};

/// A target seen for the first time starts its history with the replicas it has.
pub(crate) fn record_initial(draft: &mut Draft<'_>, current: i32) {
    if draft.state.history.is_empty() {
        let now = draft.now;
        draft
            .state
            .history
            .record(current, now, Duration::ZERO, |_| false);
    }
}

/// Stabilises and limits `raw`, and records it.
pub(crate) fn normalize(draft: &mut Draft<'_>, current: i32, raw: i32) -> i32 {
    match effective_behavior(draft.spec) {
        Some(behavior) => with_behavior(draft, &behavior, current, raw),
        None => without_behavior(draft, current, raw),
    }
}

fn with_behavior(draft: &mut Draft<'_>, behavior: &Behavior, current: i32, raw: i32) -> i32 {
    let windows = Windows::of(behavior, &draft.spec.settings);
    let (pace, now) = (draft.pace(), draft.now);
    let history = &mut draft.state.history;
    let stabilized = stabilization::with_behavior(history, current, raw, windows, pace, now);
    note_stabilized(draft, stabilized, raw, raw >= current);
    limit(draft, behavior, current, stabilized.replicas)
}

fn note_stabilized(draft: &mut Draft<'_>, stabilized: Stabilized, raw: i32, upwards: bool) {
    let (reason, message) = match (stabilized.replicas == raw, upwards) {
        (true, _) => ("ReadyForNewScale", "recommended size matches current size"),
        (false, true) => (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent \
             recommendation",
        ),
        (false, false) => (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent \
             recommendation",
        ),
    };
    draft.condition(
        ConditionType::AbleToScale,
        ConditionStatus::True,
        reason,
        message,
    );
    if let Some(held) = stabilized.held {
        draft.steps.push(Step::Stabilized {
            direction: held.direction,
            from: raw,
            to: stabilized.replicas,
            held_by: held.by.replicas,
            recorded: held.by.at,
            window: held.window,
        });
        draft.due(held.until, NextCause::Stabilization);
    }
}

/// The policies of the direction that `wanted` lies in, then min or max.
fn limit(draft: &mut Draft<'_>, behavior: &Behavior, current: i32, wanted: i32) -> i32 {
    let Some(direction) = direction_of(current, wanted) else {
        within_range(draft);
        return wanted;
    };
    let now = draft.now;
    let events = Events {
        up: &draft.state.up_events,
        down: &draft.state.down_events,
    };
    let rules = match direction {
        Direction::Up => &behavior.scale_up,
        Direction::Down => &behavior.scale_down,
    };
    let allowed = rate_limits::limit(direction, rules, current, events, now);
    let spec = draft.spec;
    let (bound, by_policy, side) = match direction {
        Direction::Up => (
            spec.max_replicas.min(allowed),
            spec.max_replicas > allowed,
            Bound::Max,
        ),
        Direction::Down => {
            let min = spec.hpa_min();
            (min.max(allowed), min < allowed, Bound::Min)
        }
    };
    let exceeds = match direction {
        Direction::Up => wanted > bound,
        Direction::Down => wanted < bound,
    };
    if !exceeds {
        within_range(draft);
        return wanted;
    }
    if !by_policy {
        draft.steps.push(Step::Clamped {
            from: wanted,
            to: bound,
            side,
        });
        too_far(draft, side);
        return bound;
    }
    if rules.select_policy == SelectPolicy::Disabled {
        draft.steps.push(Step::DirectionPaused {
            direction,
            from: wanted,
        });
    } else {
        let used = events
            .inside(direction, rules.longest_period(), now)
            .collect();
        let release = rate_limits::next_release(direction, rules, events, now);
        // What this change itself uses up comes back first after the shortest period.
        let shortest = rules.policies.iter().map(|policy| policy.period).min();
        let own = shortest
            .map(|period| now + period)
            .filter(|_| bound != current);
        draft.steps.push(Step::Limited {
            direction,
            from: wanted,
            to: bound,
            used,
        });
        if let Some(at) = [release, own].into_iter().flatten().min() {
            draft.due(at, NextCause::Policy);
        }
    }
    let (reason, message) = match direction {
        Direction::Up => (
            "ScaleUpLimit",
            "the desired replica count is increasing faster than the maximum scale rate",
        ),
        Direction::Down => (
            "ScaleDownLimit",
            "the desired replica count is decreasing faster than the maximum scale rate",
        ),
    };
    draft.condition(
        ConditionType::ScalingLimited,
        ConditionStatus::True,
        reason,
        message,
    );
    bound
}

fn within_range(draft: &mut Draft<'_>) {
    draft.condition(
        ConditionType::ScalingLimited,
        ConditionStatus::False,
        "DesiredWithinRange",
        "the desired count is within the acceptable range",
    );
}

fn too_far(draft: &mut Draft<'_>, side: Bound) {
    let (reason, message) = match side {
        Bound::Max => (
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
        Bound::Min => (
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
        ),
    };
    draft.condition(
        ConditionType::ScalingLimited,
        ConditionStatus::True,
        reason,
        message,
    );
}

/// The older path: the highest recommendation of the window, at most twice the current number (at
/// least 4), min to max.
fn without_behavior(draft: &mut Draft<'_>, current: i32, raw: i32) -> i32 {
    let (pace, now, spec) = (draft.pace(), draft.now, draft.spec);
    let window = spec.settings.downscale_stabilization;
    let look = draft.state.last_look.unwrap_or(now);
    let history = &mut draft.state.history;
    let stabilized = stabilization::without_behavior(history, raw, window, pace, look, now);
    note_stabilized(draft, stabilized, raw, false);

    let wanted = stabilized.replicas;
    let since_last_look = draft
        .state
        .up_events
        .iter()
        .filter(|event| event.at > now - pace);
    let risen: i64 = since_last_look.map(|event| i64::from(event.delta)).sum();
    let start = (i64::from(current) - risen).max(0);
    let double = i32::try_from(start.saturating_mul(2).max(4))
        .unwrap_or(i32::MAX)
        .max(current.min(spec.max_replicas));
    let (min, most) = (spec.hpa_min(), spec.max_replicas.min(double));
    if wanted < min {
        draft.steps.push(Step::Clamped {
            from: wanted,
            to: min,
            side: Bound::Min,
        });
        too_far(draft, Bound::Min);
        min
    } else if wanted > most && spec.max_replicas > double {
        draft.steps.push(Step::LimitedToDouble {
            from: wanted,
            to: most,
        });
        draft.condition(
            ConditionType::ScalingLimited,
            ConditionStatus::True,
            "ScaleUpLimit",
            "the desired replica count is increasing faster than the maximum scale rate",
        );
        if !pace.is_zero() {
            let events = draft.state.up_events.iter().map(|event| event.at + pace);
            let release = events.filter(|end| *end > now).min().unwrap_or(now + pace);
            draft.due(release, NextCause::Policy);
        }
        most
    } else if wanted > most {
        draft.steps.push(Step::Clamped {
            from: wanted,
            to: most,
            side: Bound::Max,
        });
        too_far(draft, Bound::Max);
        most
    } else {
        within_range(draft);
        wanted
    }
}
