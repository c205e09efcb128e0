//! Not turning around more often than the HPA, although deciding more often.

use neap_units::Timestamp;

use crate::draft::{Draft, direction_of};
use crate::why::{Direction, NextCause, Step};

/// Proposals are remembered for this many holds, to tell noise from news.
const MEMORY: u32 = 4;

/// Notes that the metrics propose `raw`. A proposal that stays the same counts from when it
/// appeared.
pub(crate) fn note(draft: &mut Draft<'_>, raw: i32) {
    let (hold, now) = (draft.spec.settings.reversal_hold, draft.now);
    let proposals = &mut draft.state.proposals;
    if hold.is_zero()
        || proposals
            .latest()
            .is_some_and(|latest| latest.replicas == raw)
    {
        return;
    }
    proposals.forget_before(now - hold * MEMORY);
    proposals.record(raw, now, hold * MEMORY, |_| false);
}

/// Holds a change that turns against the last one. Returns the number to go to.
///
/// It waits until the hold has passed since the last change. That alone makes the replicas at the
/// HPA's looks the HPA's where the load stands still between them. Where other proposals appeared
/// within the hold the load is noisy, and looking at every bit of noise would turn more often than
/// the HPA's few looks. There a turn goes only as far as all proposals remembered agree; but a
/// number above all of them is news, not noise, and is gone to at once.
pub(crate) fn hold(draft: &mut Draft<'_>, current: i32, desired: i32) -> i32 {
    let (hold, now) = (draft.spec.settings.reversal_hold, draft.now);
    let (Some(direction), Some(last)) = (direction_of(current, desired), draft.state.last_change)
    else {
        return desired;
    };
    if hold.is_zero() || last.direction == direction {
        return desired;
    }
    let until = last.at + hold;
    if now < until {
        held(draft, direction, desired, until);
        return current;
    }
    let entries = draft.state.proposals.entries();
    let before = || entries.iter().filter(|entry| entry.at < now);
    let is_noisy = before().any(|entry| entry.at > now - hold);
    if !is_noisy {
        return desired;
    }
    let agreed = match direction {
        Direction::Down => before()
            .filter(|entry| entry.replicas > desired)
            .map(|entry| (entry.replicas.min(current), entry.at + hold * MEMORY))
            .max(),
        Direction::Up if before().all(|entry| entry.replicas < desired) => None,
        Direction::Up => before()
            .filter(|entry| entry.at > now - hold && entry.replicas < desired)
            .map(|entry| (entry.replicas.max(current), entry.at + hold))
            .min_by_key(|(replicas, until)| (*replicas, std::cmp::Reverse(*until))),
    };
    let Some((agreed, until)) = agreed else {
        return desired;
    };
    held(draft, direction, desired, until);
    agreed
}

/// Whether this evaluation is a look at the HPA's pace; if so the next is a period away.
pub(crate) fn look(draft: &mut Draft<'_>) -> bool {
    let (pace, now) = (draft.spec.settings.sync_period, draft.now);
    let is_look = draft.state.last_look.is_none_or(|last| now >= last + pace);
    if is_look {
        draft.state.last_look = Some(now);
    }
    is_look
}

/// Leaves a change that noise could have made to the next look.
pub(crate) fn wait_for_look(draft: &mut Draft<'_>, current: i32, desired: i32) -> i32 {
    let Some(direction) = direction_of(current, desired) else {
        return desired;
    };
    let last = draft.state.last_look.unwrap_or(draft.now);
    let until = last + draft.spec.settings.sync_period;
    held(draft, direction, desired, until);
    current
}

fn held(draft: &mut Draft<'_>, direction: Direction, from: i32, until: Timestamp) {
    draft.steps.push(Step::ReversalHeld {
        direction,
        from,
        until,
    });
    draft.due(until, NextCause::ReversalHold);
}
