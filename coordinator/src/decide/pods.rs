//! A target's pods as the engine wants them.

use std::collections::HashMap;
use std::sync::Arc;

use neap_engine::{Container, ContainerKind, Pod, PodPhase, Ready, ReadyStatus, Requests};
use neap_units::PodUid;

use super::time::{DecisionClock, boottime_of_wall};
use crate::clock::{Boottime, Clock};
use crate::world::{ContainerRole, PodFacts, PodPhase as Phase, Readiness};

/// One pod, in both forms.
#[derive(Debug, Clone)]
pub(super) struct PodView {
    pub(super) facts: Arc<PodFacts>,
    pub(super) pod: Pod,
    /// When it started. Kept as boottime: a replica may see pods before the log has told it the time.
    started: Option<Boottime>,
    /// When its readiness last changed.
    ready_changed: Option<Boottime>,
}

impl PodView {
    fn new(
        facts: &Arc<PodFacts>,
        started: Option<Boottime>,
        ready_changed: Option<Boottime>,
        time: &DecisionClock,
    ) -> Self {
        let mut view = Self {
            facts: facts.clone(),
            pod: pod(facts),
            started,
            ready_changed,
        };
        view.place(time);
        view
    }

    /// Says when its times were by `time`.
    pub(super) fn place(&mut self, time: &DecisionClock) {
        self.pod.started = self.started.map(|at| time.at(at));
        let since = self.ready_changed.map(|at| time.at(at));
        if let Some(ready) = &mut self.pod.ready {
            ready.since = since;
        }
    }
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
    let seen = clock.boottime();
    let mut known: HashMap<PodUid, PodView> = former
        .into_iter()
        .map(|view| (view.facts.uid.clone(), view))
        .collect();
    now.iter()
        .map(|facts| match known.remove(&facts.uid) {
            Some(view) if Arc::ptr_eq(&view.facts, facts) => view,
            Some(view) => {
                let changed = if view.facts.ready == facts.ready {
                    view.ready_changed
                } else {
                    Some(seen)
                };
                let started = view.started.or(facts.started.map(|_| seen));
                PodView::new(facts, started, changed, time)
            }
            None if first_look => {
                let of_wall = |at: jiff::Timestamp| boottime_of_wall(at, clock);
                let started = facts.started.map(of_wall);
                PodView::new(facts, started, facts.ready_changed.map(of_wall), time)
            }
            None => {
                let started = facts.started.map(|_| seen);
                PodView::new(facts, started, Some(seen), time)
            }
        })
        .collect()
}

/// The pod without its times.
fn pod(facts: &PodFacts) -> Pod {
    let ready = |status| {
        Some(Ready {
            status,
            since: None,
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
        started: None,
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

    use neap_units::Timestamp;

    use super::*;
    use crate::clock::ManualClock;
    use crate::decide::time::{Opened, TimeAnchor};
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

    #[test]
    fn what_was_seen_before_the_logs_time_is_placed_by_it_later() {
        let wall = |second| jiff::Timestamp::from_second(second).unwrap();
        let clock = ManualClock::new(Boottime::from_micros(0), wall(10_000));
        let opened = Opened::before(&clock);
        let unknown = DecisionClock::take_over(None, opened, &clock);
        let starting = testing::pod("ns", "starting")
            .ready(Readiness::False, wall(9_990))
            .with(|facts| facts.started = Some(wall(9_940)))
            .done();
        let mut seen = views(&[starting], Vec::new(), true, &unknown, &clock);

        clock.advance(Duration::from_secs(5));
        let anchor = TimeAnchor {
            at: Timestamp::from_millis(1_000_000_000),
            wall_micros: 0,
            applied: clock.boottime(),
        };
        clock.advance(Duration::from_secs(2));
        let time = DecisionClock::take_over(Some(anchor), opened, &clock);
        seen[0].place(&time);
        assert_eq!(
            seen[0].pod.started,
            Some(Timestamp::from_millis(999_935_000)),
            "60 s before it was seen, and that was 5 s before the entry"
        );
        assert_eq!(
            seen[0].pod.ready.unwrap().since,
            Some(Timestamp::from_millis(999_985_000))
        );
    }
}
