//! Which pods an agent may speak of: those that are bound to its node.
//!
//! An agent sees a pod's cgroup before the pod's watch tells of it, and a counter that does not move
//! is sent once. So what is said of a pod that is not known yet waits here, one point per series,
//! until the pod turns up.

use std::collections::HashMap;
use std::time::Duration;

use neap_proto::node::{CounterPoint, GaugePoint, ReplaySeries, SeriesDefinition};
use neap_units::{NodeName, PodUid};

use crate::clock::Boottime;
use crate::signals::NodeTime;
use crate::world::World;

/// Whether a pod is bound to the stream's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// To this node.
    Here,
    /// To another one: its samples are dropped.
    Elsewhere,
    /// No such pod is known (yet), or none of its node.
    Unknown,
}

/// A pod that is unknown is looked for again after this time, and later each [`LOOK_LATER`]: it may be
/// in a namespace that is not watched.
const LOOK_SOON: Duration = Duration::from_secs(1);
const LOOK_LATER: Duration = Duration::from_secs(30);
const SOON_FOR: Duration = Duration::from_secs(30);

/// The last point of a series that waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LastPoint {
    None,
    Counter(NodeTime, CounterPoint),
    Gauge(NodeTime, GaugePoint),
}

/// A series whose pod is not known.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) definition: SeriesDefinition,
    pub(super) last: LastPoint,
}

#[derive(Debug)]
struct UnknownPod {
    since: Boottime,
    next_look: Boottime,
    series: Vec<u32>,
}

/// The pods of one stream.
#[derive(Debug)]
pub(super) struct Bindings {
    node: NodeName,
    waiting: HashMap<u32, Waiting>,
    unknown: HashMap<PodUid, UnknownPod>,
    skipped: HashMap<u32, Skip>,
}

/// Why points of a series are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    /// Its pod is bound elsewhere.
    Foreign,
    /// It is of a kind that is not used.
    Unused,
}

impl Bindings {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            node,
            waiting: HashMap::new(),
            unknown: HashMap::new(),
            skipped: HashMap::new(),
        }
    }

    /// Whether `pod` is bound to the stream's node.
    pub(super) fn check(&self, world: &World, pod: &PodUid) -> Bound {
        // The watch may also be late with the binding of a pod that it has told of before.
        let facts = world.pod_by_cgroup_uid(pod);
        match facts.as_ref().and_then(|facts| facts.node.as_ref()) {
            None => Bound::Unknown,
            Some(node) if *node == self.node => Bound::Here,
            Some(_) => Bound::Elsewhere,
        }
    }

    /// A series whose points are left out.
    pub(super) fn skip(&mut self, id: u32, why: Skip) {
        self.forget(id);
        self.skipped.insert(id, why);
    }

    /// A series of a pod that is not known.
    pub(super) fn set_waiting(&mut self, pod: PodUid, definition: SeriesDefinition, now: Boottime) {
        let id = definition.id;
        if let Some(waiting) = self.waiting.get_mut(&id)
            && (waiting.definition.kind, &waiting.definition.pod_uid)
                == (definition.kind, &definition.pod_uid)
        {
            // Only its interval may have changed.
            waiting.definition = definition;
            return;
        }
        self.forget(id);
        self.waiting.insert(
            id,
            Waiting {
                definition,
                last: LastPoint::None,
            },
        );
        let unknown = self.unknown.entry(pod).or_insert_with(|| UnknownPod {
            since: now,
            next_look: now + LOOK_SOON,
            series: Vec::new(),
        });
        unknown.series.push(id);
    }

    /// A series is gone, or is defined anew.
    pub(super) fn forget(&mut self, id: u32) {
        self.skipped.remove(&id);
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        if let Some(unknown) = self.unknown.get_mut(waiting.definition.pod_uid.as_str()) {
            unknown.series.retain(|known| *known != id);
            if unknown.series.is_empty() {
                self.unknown.remove(waiting.definition.pod_uid.as_str());
            }
        }
    }

    /// Keeps a point of a series that waits. True when the point needs no further care.
    pub(super) fn holds_counter(&mut self, at: NodeTime, point: &CounterPoint) -> bool {
        match self.waiting.get_mut(&point.series) {
            Some(waiting) => {
                waiting.last = LastPoint::Counter(at, *point);
                true
            }
            None => false,
        }
    }

    /// The same for a gauge.
    pub(super) fn holds_gauge(&mut self, at: NodeTime, point: &GaugePoint) -> bool {
        match self.waiting.get_mut(&point.series) {
            Some(waiting) => {
                waiting.last = LastPoint::Gauge(at, *point);
                true
            }
            None => false,
        }
    }

    /// Keeps the end of the history of a series that waits. True when it needs no further care.
    pub(super) fn holds_history(&mut self, history: &ReplaySeries, end: NodeTime) -> bool {
        let Some(waiting) = self.waiting.get_mut(&history.series) else {
            return false;
        };
        let (Some(age), Some(value)) = (history.ages_us.last(), history.values.last()) else {
            return true;
        };
        let (at, series) = (end.before(*age), history.series);
        waiting.last = match history.integrals.last() {
            Some(integral) => {
                let peak = history.peaks.last().copied().unwrap_or(*value);
                LastPoint::Gauge(
                    at,
                    GaugePoint {
                        series,
                        age_us: 0,
                        integral: *integral,
                        last: *value,
                        peak,
                    },
                )
            }
            None => LastPoint::Counter(
                at,
                CounterPoint {
                    series,
                    age_us: 0,
                    value: *value,
                    unchanged_us: 0,
                },
            ),
        };
        true
    }

    /// The stream's node.
    pub(super) fn node(&self) -> &NodeName {
        &self.node
    }

    /// Whether and why points of this series are left out.
    pub(super) fn skips(&self, id: u32) -> Option<Skip> {
        self.skipped.get(&id).copied()
    }

    /// How many series are remembered here.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.skipped.len()
    }

    /// Looks for the pods that are due. Returns the series whose pods turned up here; those whose
    /// pods turned up elsewhere become foreign.
    pub(super) fn look(&mut self, world: &World, now: Boottime) -> Vec<Waiting> {
        let mut found = Vec::new();
        let due: Vec<PodUid> = self
            .unknown
            .iter()
            .filter(|(_, unknown)| unknown.next_look <= now)
            .map(|(pod, _)| pod.clone())
            .collect();
        for pod in due {
            let bound = self.check(world, &pod);
            if bound == Bound::Unknown {
                if let Some(unknown) = self.unknown.get_mut(&pod) {
                    let pause = if now.since(unknown.since) < SOON_FOR {
                        LOOK_SOON
                    } else {
                        LOOK_LATER
                    };
                    unknown.next_look = now + pause;
                }
                continue;
            }
            let Some(unknown) = self.unknown.remove(&pod) else {
                continue;
            };
            for id in unknown.series {
                let Some(waiting) = self.waiting.remove(&id) else {
                    continue;
                };
                match bound {
                    Bound::Here => found.push(waiting),
                    Bound::Elsewhere | Bound::Unknown => {
                        self.skipped.insert(id, Skip::Foreign);
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::testing::pod;

    fn definition(id: u32, pod: &str) -> SeriesDefinition {
        SeriesDefinition {
            id,
            pod_uid: pod.to_owned(),
            ..SeriesDefinition::default()
        }
    }

    fn uid(text: &str) -> PodUid {
        PodUid::new(text).unwrap()
    }

    #[test]
    fn what_waits_is_given_out_when_its_pod_turns_up() {
        let world = World::new();
        let start = Boottime::from_micros(0);
        let mut bindings = Bindings::new(NodeName::new("n1").unwrap());
        for (id, pod) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            bindings.set_waiting(uid(pod), definition(id, pod), start);
        }
        let point = CounterPoint {
            series: 1,
            value: 7,
            ..CounterPoint::default()
        };
        assert!(bindings.holds_counter(NodeTime::from_nanos(1), &point));
        assert!(!bindings.holds_counter(
            NodeTime::from_nanos(1),
            &CounterPoint { series: 9, ..point }
        ));

        world.apply_pod(pod("x", "a").uid("a").node("n1").done());
        world.apply_pod(pod("x", "b").uid("b").node("n2").done());
        assert!(bindings.look(&world, start).is_empty(), "not due yet");
        bindings.forget(2);
        let found = bindings.look(&world, start + LOOK_SOON);
        let ids: Vec<u32> = found.iter().map(|waiting| waiting.definition.id).collect();
        assert_eq!(ids, [1]);
        assert!(
            matches!(found.first().map(|waiting| waiting.last), Some(LastPoint::Counter(_, p)) if p.value == 7)
        );
        assert_eq!(
            bindings.skips(3),
            Some(Skip::Foreign),
            "pod b is bound to another node"
        );
        assert_eq!(bindings.len(), 2);
        bindings.forget(4);
        assert!(bindings.unknown.is_empty() && bindings.waiting.is_empty());
    }

    #[test]
    fn a_pod_that_stays_unknown_is_asked_for_less_often() {
        let world = World::new();
        let mut bindings = Bindings::new(NodeName::new("n1").unwrap());
        let start = Boottime::from_micros(0);
        bindings.set_waiting(uid("a"), definition(1, "a"), start);
        for second in 1..=40 {
            bindings.look(&world, start + Duration::from_secs(second));
        }
        let next = bindings.unknown.get(&uid("a")).unwrap().next_look;
        assert_eq!(next, start + Duration::from_secs(30) + LOOK_LATER);
    }

    #[test]
    fn a_pod_without_a_node_may_yet_turn_out_to_be_here() {
        let world = World::new();
        world.apply_pod(pod("x", "a").uid("a").done());
        let bindings = Bindings::new(NodeName::new("n1").unwrap());
        assert_eq!(bindings.check(&world, &uid("a")), Bound::Unknown);
        assert_eq!(bindings.check(&world, &uid("b")), Bound::Unknown);
        world.apply_pod(pod("x", "a").uid("a").node("n2").done());
        assert_eq!(bindings.check(&world, &uid("a")), Bound::Elsewhere);
    }
}
