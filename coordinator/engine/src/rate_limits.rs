//! Policies: how much may change in how long (`hpa.md` 3.3 and 3.4).

use std::time::Duration;

use neap_units::Timestamp;

use crate::behavior::{PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::state::ScaleEvent;
use crate::why::Direction;

/// More events than this are never kept: a change each second for the longest period there is. Past
/// it the two oldest are joined into one that counts as the younger of them, which in its own
/// direction can only allow less.
pub(crate) const MAX_EVENTS: usize = 1800;

/// Both lists of changes: each enters the limits of both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Events<'a> {
    pub(crate) up: &'a [ScaleEvent],
    pub(crate) down: &'a [ScaleEvent],
}

impl Events<'_> {
    /// The replicas at the start of a period: the current ones without the changes inside it. A
    /// change as old as the period does not count any more.
    fn at_start_of(&self, period: Duration, current: i32, now: Timestamp) -> i64 {
        let inside = |events: &[ScaleEvent]| -> i64 {
            let young = events.iter().filter(|event| event.at > now - period);
            young.map(|event| i64::from(event.delta)).sum()
        };
        i64::from(current) - inside(self.up) + inside(self.down)
    }

    /// The changes of `direction` inside `period`.
    pub(crate) fn inside(
        &self,
        direction: Direction,
        period: Duration,
        now: Timestamp,
    ) -> impl Iterator<Item = ScaleEvent> {
        let events = match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        };
        events
            .iter()
            .copied()
            .filter(move |event| event.at > now - period)
    }
}

/// The furthest that the rules let the number go in one direction.
pub(crate) fn limit(
    direction: Direction,
    rules: &ScalingRules,
    current: i32,
    events: Events<'_>,
    now: Timestamp,
) -> i32 {
    let limits = rules.policies.iter().map(|policy| {
        let start = events.at_start_of(policy.period, current, now);
        policy_limit(direction, policy, start)
    });
    // "Max" is the largest change: for fewer replicas the lowest limit.
    let limit = match (rules.select_policy, direction) {
        (SelectPolicy::Disabled, _) => None,
        (SelectPolicy::Max, Direction::Up) | (SelectPolicy::Min, Direction::Down) => limits.max(),
        (SelectPolicy::Min, Direction::Up) | (SelectPolicy::Max, Direction::Down) => limits.min(),
    };
    let limit = limit.unwrap_or(current);
    match direction {
        Direction::Up => limit.max(current),
        Direction::Down => limit.min(current),
    }
}

fn policy_limit(direction: Direction, policy: &ScalingPolicy, start: i64) -> i32 {
    let value = i64::from(policy.value);
    let limit = match (policy.kind, direction) {
        (PolicyKind::Pods, Direction::Up) => start.saturating_add(value),
        (PolicyKind::Pods, Direction::Down) => start.saturating_sub(value),
        // In doubles and in this order, as the HPA computes it; upwards rounded up, downwards cut.
        (PolicyKind::Percent, Direction::Up) => {
            (start as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64
        }
        (PolicyKind::Percent, Direction::Down) => {
            (start as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64
        }
    };
    limit.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// Records a change into the list of its direction. Entries older than the longest period free
/// their slots; the last free one is taken.
pub(crate) fn record(events: &mut Vec<ScaleEvent>, delta: i32, longest: Duration, now: Timestamp) {
    let since = now - longest;
    let mut free = None;
    for (slot, event) in events.iter_mut().enumerate() {
        // Once outdated an entry stays so, even if the period is lengthened later.
        event.outdated |= event.at < since;
        if event.outdated {
            free = Some(slot);
        }
    }
    let event = ScaleEvent {
        delta,
        at: now,
        outdated: false,
    };
    match free {
        Some(slot) => events[slot] = event,
        None => events.push(event),
    }
    if events.len() > MAX_EVENTS {
        join_oldest(events);
    }
}

fn join_oldest(events: &mut Vec<ScaleEvent>) {
    let oldest = |events: &[ScaleEvent]| {
        let oldest = events.iter().enumerate().min_by_key(|(_, event)| event.at);
        oldest.map(|(slot, _)| slot)
    };
    let Some(first) = oldest(events) else { return };
    let removed = events.remove(first);
    if let Some(second) = oldest(events) {
        events[second].delta = events[second].delta.saturating_add(removed.delta);
    }
}

/// When a limit can next be wider: the earliest end of a period with a change inside it.
pub(crate) fn next_release(
    direction: Direction,
    rules: &ScalingRules,
    events: Events<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let periods = rules.policies.iter().map(|policy| policy.period);
    let ends = periods.flat_map(|period| {
        events
            .inside(direction, period, now)
            .map(move |event| event.at + period)
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn rules(select_policy: SelectPolicy, policies: &[(PolicyKind, i32, u64)]) -> ScalingRules {
        let policies = policies
            .iter()
            .map(|&(kind, value, seconds)| ScalingPolicy {
                kind,
                value,
                period: Duration::from_secs(seconds),
            });
        ScalingRules {
            stabilization_window: None,
            select_policy,
            policies: policies.collect(),
            tolerance: None,
        }
    }

    fn event(delta: i32, second: i64) -> ScaleEvent {
        ScaleEvent {
            delta,
            at: at(second),
            outdated: false,
        }
    }

    const NONE: Events<'static> = Events { up: &[], down: &[] };

    #[test]
    fn max_is_the_largest_change_in_either_direction() {
        let policies = [(PolicyKind::Pods, 4, 60), (PolicyKind::Percent, 10, 60)];
        let max = rules(SelectPolicy::Max, &policies);
        let min = rules(SelectPolicy::Min, &policies);
        assert_eq!(limit(Direction::Up, &max, 10, NONE, at(0)), 14);
        assert_eq!(limit(Direction::Up, &min, 10, NONE, at(0)), 11);
        assert_eq!(limit(Direction::Down, &max, 10, NONE, at(0)), 6);
        assert_eq!(limit(Direction::Down, &min, 10, NONE, at(0)), 9);
        let disabled = rules(SelectPolicy::Disabled, &policies);
        assert_eq!(limit(Direction::Up, &disabled, 10, NONE, at(0)), 10);
    }

    #[test]
    fn percent_is_rounded_up_going_up_and_cut_going_down() {
        let policies = [(PolicyKind::Percent, 25, 60)];
        let rules = rules(SelectPolicy::Max, &policies);
        assert_eq!(limit(Direction::Up, &rules, 5, NONE, at(0)), 7);
        assert_eq!(limit(Direction::Down, &rules, 5, NONE, at(0)), 3);
    }

    #[test]
    fn changes_of_both_directions_move_the_start_until_they_are_as_old_as_the_period() {
        let rules = rules(SelectPolicy::Max, &[(PolicyKind::Pods, 4, 60)]);
        let up = [event(3, 0)];
        let down = [event(1, 10)];
        let events = Events {
            up: &up,
            down: &down,
        };
        assert_eq!(limit(Direction::Up, &rules, 10, events, at(59)), 12);
        assert_eq!(limit(Direction::Up, &rules, 10, events, at(60)), 15);
        assert_eq!(
            next_release(Direction::Up, &rules, events, at(59)),
            Some(at(60))
        );
    }

    #[test]
    fn a_release_is_that_of_the_limits_own_direction_and_lies_ahead() {
        let rules = rules(SelectPolicy::Max, &[(PolicyKind::Pods, 4, 60)]);
        let (up, down) = ([event(3, 0)], [event(1, 10)]);
        let events = Events {
            up: &up,
            down: &down,
        };
        let release = |direction, second| next_release(direction, &rules, events, at(second));
        assert_eq!(release(Direction::Up, 60), None);
        assert_eq!(release(Direction::Down, 60), Some(at(70)));
        assert_eq!(release(Direction::Down, 70), None);
    }

    #[test]
    fn a_limit_out_of_range_is_held_at_its_edge() {
        let rules = rules(SelectPolicy::Max, &[(PolicyKind::Pods, i32::MAX, 60)]);
        let most = limit(Direction::Up, &rules, i32::MAX, NONE, at(0));
        assert_eq!(most, i32::MAX);
        let up = [event(i32::MAX, 0), event(i32::MAX, 0)];
        let events = Events { up: &up, down: &[] };
        let least = limit(Direction::Down, &rules, 0, events, at(1));
        assert_eq!(least, i32::MIN);
    }

    #[test]
    fn a_change_as_old_as_the_longest_period_keeps_its_slot() {
        let mut events = vec![event(1, 0)];
        record(&mut events, 5, Duration::from_secs(60), at(60));
        assert_eq!(events, [event(1, 0), event(5, 60)]);
    }

    #[test]
    fn an_outdated_slot_is_taken_again_and_stays_outdated() {
        let mut events = vec![event(1, 0), event(2, 10)];
        record(&mut events, 5, Duration::from_secs(60), at(65));
        assert_eq!(events[0], event(5, 65));
        record(&mut events, 6, Duration::from_secs(600), at(80));
        assert_eq!(events.len(), 3, "lengthening the period frees nothing");
    }

    #[test]
    fn too_many_changes_are_joined_and_never_count_for_less() {
        let mut events = Vec::new();
        let quarter = |step: i64| Timestamp::from_millis(step * 250);
        for step in 0..8000 {
            record(&mut events, 1, Duration::from_secs(1800), quarter(step));
        }
        assert_eq!(events.len(), MAX_EVENTS);
        let counted = Events {
            up: &events,
            down: &[],
        };
        let start = counted.at_start_of(Duration::from_secs(1800), 8000, quarter(7999));
        assert!(start <= 8000 - 7200, "{start}");
    }
}
