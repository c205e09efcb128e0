//! Figures that other rooms keep, read when they are asked for.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::{Boottime, Clock};
use crate::poll::Poller;
use crate::signals::{NodeName, SignalStore};
use crate::world::{PodFacts, World};

/// Reads the figures of the signals, the world and the polls.
pub struct RoomCollector {
    /// Signals.
    pub store: Arc<SignalStore>,
    /// Objects.
    pub world: Arc<World>,
    /// Polled sources.
    pub poller: Arc<Poller>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for RoomCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomCollector").finish_non_exhaustive()
    }
}

/// Writes metrics that exist only while they are asked for.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    pub(super) fn metric(
        &mut self,
        name: &str,
        help: &str,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.metric(
            name,
            help,
            &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
        )
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }
}

/// The nodes that have pods and whose agent has gone silent. One that was removed is silent too, and is remembered for a
/// while: what it had to run went before it.
fn silent_nodes(store: &SignalStore, world: &World, now: Boottime) -> usize {
    let mut silent = store.nodes();
    silent.retain(|node| store.read(node, now, |_| ()).is_none());
    if silent.is_empty() {
        return 0;
    }
    let pods = world.pods();
    let in_use = pods.iter().filter(|pod| counts(pod));
    let in_use: HashSet<&NodeName> = in_use.filter_map(|pod| pod.node.as_ref()).collect();
    silent.iter().filter(|node| in_use.contains(node)).count()
}

/// Whether it shows that its node is in use: those of DaemonSets and static ones are nobody's to scale, and a node that is
/// emptied and ended has them to the last.
fn counts(pod: &PodFacts) -> bool {
    let owner = pod.owner.as_ref();
    pod.is_current() && owner.is_none_or(|owner| !matches!(&*owner.kind, "DaemonSet" | "Node"))
}

impl Collector for RoomCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        let now = self.clock.boottime();
        let figures = self.store.figures(now);
        out.gauge(
            "neap_nodes",
            "Nodes whose agent has connected",
            figures.nodes,
        )?;
        out.gauge(
            "neap_nodes_fresh",
            "Nodes whose agent is heard of",
            figures.fresh_nodes,
        )?;
        out.gauge(
            "neap_nodes_silent",
            "Nodes whose agent has connected and is silent, and that have pods besides those of DaemonSets and static ones",
            silent_nodes(&self.store, &self.world, now),
        )?;
        out.gauge("neap_signal_series", "Series held", figures.series)?;
        out.gauge("neap_signal_points", "Points held", figures.points)?;
        out.counter("neap_signal_points_taken", "Points taken in", figures.taken)?;
        out.counter(
            "neap_signal_points_backwards",
            "Points left out because their counter went backwards",
            figures.backwards,
        )?;
        out.counter(
            "neap_signal_points_stale",
            "Points left out because they were not newer",
            figures.stale,
        )?;
        out.counter(
            "neap_signal_points_unknown",
            "Points of series that were never defined",
            figures.unknown,
        )?;
        out.counter(
            "neap_signal_series_restarted",
            "Series that began anew within a boot",
            figures.restarted,
        )?;
        let sizes = self.world.sizes();
        out.gauge(
            "neap_scaled_objects",
            "ScaledObjects known",
            sizes.scaled_objects,
        )?;
        out.gauge(
            "neap_targets",
            "Targets that ScaledObjects name",
            sizes.targets,
        )?;
        out.gauge("neap_pods", "Pods known", sizes.pods)?;
        out.gauge(
            "neap_poll_questions",
            "Distinct questions to event sources",
            self.poller.questions(),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use neap_units::BootId;

    use super::*;
    use crate::signals::{NodeTime, SignalLimits};
    use crate::world::PodOwner;
    use crate::world::testing::pod;

    #[test]
    fn a_silent_node_counts_as_long_as_it_has_pods_to_scale() {
        let (store, world) = (SignalStore::new(SignalLimits::default()), World::new());
        let now = Boottime::from_micros(0);
        for name in ["kept", "removed", "emptied", "heard"] {
            let (node, boot) = (NodeName::new(name).unwrap(), BootId::new("b").unwrap());
            let mut stream = store.connect(node, boot, 1, now).unwrap();
            let closed = NodeTime::from_nanos(1_000_000_000);
            let heard = if name == "heard" { 60 } else { 0 };
            let received = now + Duration::from_secs(heard);
            stream.batch().unwrap().heartbeat(closed, received);
        }
        for name in ["kept", "heard", "never-seen"] {
            world.apply_pod(pod("ns", name).node(name).done());
        }
        let of_the_node = PodOwner {
            kind: "DaemonSet".into(),
            name: "neap-agent".into(),
            uid: "u".into(),
        };
        let agent = pod("neap", "agent").node("emptied");
        let agent = agent.with(|pod| pod.owner = Some(Arc::new(of_the_node)));
        world.apply_pod(agent.done());
        world.apply_pod(pod("ns", "going").node("emptied").deleting().done());
        let silent = |seconds| silent_nodes(&store, &world, now + Duration::from_secs(seconds));
        assert_eq!(silent(1), 0);
        assert_eq!(silent(60), 1);
        world.remove_pod("ns", "kept");
        assert_eq!(silent(60), 0);
    }
}
