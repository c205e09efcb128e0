//! A target's pods as the engine wants them.

use std::collections::HashMap;
use std::sync::Arc;

use neap_engine::{Container, ContainerKind, Pod, PodPhase, Ready, ReadyStatus, Requests};
use neap_units::{PodUid, Timestamp};

use super::time::DecisionClock;
use crate::clock::Clock;
use crate::world::{ContainerRole, PodFacts, PodPhase as Phase, Readiness};

/// One pod, in both forms.
#[derive(Debug, Clone)]
pub(super) struct PodView {
    pub(super) facts: Arc<PodFacts>,
    pub(super) pod: Pod,
}

/// Makes the views of `now`'s pods, in their order.
///
/// The times in a pod's status were written by its node, whose wall clock may be wrong. What
/// happens while this process looks on is therefore taken at the time it was seen: a pod that is
/// new since `former` started now, and one whose readiness changed became so now. Only for the pods of
/// the first look the written times are all there is.
pub(super) fn views(
    now: &[Arc<PodFacts>],
    former: Vec<PodView>,
    first_look: bool,
    time: &DecisionClock,
    clock: &dyn Clock,
) -> Vec<PodView> {
    let seen = time.at(clock.boottime());
    let mut known: HashMap<PodUid, PodView> = former
        .into_iter()
        .map(|view| (view.facts.uid.clone(), view))
        .collect();
    now.iter()
        .map(|facts| match known.remove(&facts.uid) {
            Some(view) if Arc::ptr_eq(&view.facts, facts) => view,
            Some(view) => {
                let since = if view.facts.ready == facts.ready {
                    view.pod.ready.and_then(|ready| ready.since)
                } else {
                    Some(seen)
                };
                let started = view.pod.started.or(facts.started.map(|_| seen));
                PodView {
                    facts: facts.clone(),
                    pod: pod(facts, started, since),
                }
            }
            None if first_look => {
                let of_wall = |at: jiff::Timestamp| time.of_wall(at, clock).min(seen);
                let started = facts.started.map(of_wall);
                PodView {
                    facts: facts.clone(),
                    pod: pod(facts, started, facts.ready_changed.map(of_wall)),
                }
            }
            None => {
                let started = facts.started.map(|_| seen);
                PodView {
                    facts: facts.clone(),
                    pod: pod(facts, started, Some(seen)),
                }
            }
        })
        .collect()
}

fn pod(facts: &PodFacts, started: Option<Timestamp>, ready_since: Option<Timestamp>) -> Pod {
    let ready = |status| {
        Some(Ready {
            status,
            since: ready_since,
        })
    };
    Pod {
        name: facts.name.to_string(),
        phase: match facts.phase {
            Phase::Pending => PodPhase::Pending,
            Phase::Running => PodPhase::Running,
            Phase::Succeeded => PodPhase::Succeeded,
            Phase::Failed => PodPhase::Failed,
            Phase::Unknown => PodPhase::Unknown,
        },
        deleting: facts.deleting,
        started,
        ready: match facts.ready {
            Readiness::Absent => None,
            Readiness::True => ready(ReadyStatus::True),
            Readiness::False => ready(ReadyStatus::False),
            Readiness::Unknown => ready(ReadyStatus::Unknown),
        },
        containers: facts
            .shape
            .containers
            .iter()
            .filter_map(|container| {
                let kind = match container.role {
                    ContainerRole::App => ContainerKind::Main,
                    ContainerRole::Sidecar => ContainerKind::Sidecar,
                    ContainerRole::Init => ContainerKind::Init,
                    ContainerRole::Ephemeral => return None,
                };
                Some(Container {
                    name: container.name.to_string(),
                    kind,
                    requests: requests(&container.requests),
                })
            })
            .collect(),
        pod_requests: facts.shape.pod_requests.as_ref().map(requests),
        overhead: requests(&facts.shape.overhead),
    }
}

fn requests(of: &crate::world::Requests) -> Requests {
    Requests {
        cpu: of.cpu,
        memory: of.memory.map(|memory| memory.milli()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Boottime, ManualClock};
    use crate::decide::time::Opened;
    use crate::world::testing;

    #[test]
    fn a_nodes_wrong_wall_clock_is_believed_only_at_first() {
        let wall = jiff::Timestamp::from_second(10_000).unwrap();
        let clock = ManualClock::new(Boottime::from_micros(0), wall);
        let time = DecisionClock::take_over(None, Opened::before(&clock), &clock);
        let early = jiff::Timestamp::from_second(9_700).unwrap();
        let pod = |ready, name| {
            testing::pod("ns", name)
                .ready(ready, early)
                .with(|facts| facts.started = Some(early))
                .done()
        };
        let old = pod(Readiness::True, "old");
        let first = views(std::slice::from_ref(&old), Vec::new(), true, &time, &clock);
        assert_eq!(first[0].pod.started, Some(Timestamp::from_millis(-300_000)));

        clock.advance(Duration::from_secs(10));
        let new = pod(Readiness::False, "new");
        let second = views(&[old.clone(), new.clone()], first, false, &time, &clock);
        assert_eq!(
            second[0].pod.started,
            Some(Timestamp::from_millis(-300_000))
        );
        assert_eq!(
            second[1].pod.started,
            Some(Timestamp::from_millis(10_000)),
            "it was seen to start"
        );

        clock.advance(Duration::from_secs(5));
        let ready = pod(Readiness::True, "new");
        let third = views(&[old, ready], second, false, &time, &clock);
        assert_eq!(third[1].pod.started, Some(Timestamp::from_millis(10_000)));
        let became = third[1].pod.ready.unwrap();
        assert_eq!(
            (became.status, became.since),
            (ReadyStatus::True, Some(Timestamp::from_millis(15_000)))
        );
    }
}
