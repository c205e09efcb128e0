//! Figures that other rooms keep, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::Clock;
use crate::poll::Poller;
use crate::signals::SignalStore;
use crate::world::World;

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

impl Collector for RoomCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        let figures = self.store.figures(self.clock.boottime());
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
