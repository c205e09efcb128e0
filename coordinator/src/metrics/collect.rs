//! Figures that other rooms keep, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use neap_consensus::{Consensus, FsyncStats, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::Clock;
use crate::poll::Poller;
use crate::signals::SignalStore;
use crate::world::World;

/// Reads the figures of the signals, the world, the polls and the log.
pub struct RoomCollector {
    /// Signals.
    pub store: Arc<SignalStore>,
    /// Objects.
    pub world: Arc<World>,
    /// Polled sources.
    pub poller: Arc<Poller>,
    /// The log.
    pub consensus: Consensus,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for RoomCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomCollector").finish_non_exhaustive()
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.metric(
            name,
            help,
            &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
        )
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
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
        self.consensus(&mut out)
    }
}

impl RoomCollector {
    fn consensus(&self, out: &mut Writer<'_>) -> fmt::Result {
        let status = self.consensus.status();
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        out.gauge(
            "neap_raft_term",
            "Latest Raft term seen",
            number(status.term),
        )?;
        out.gauge(
            "neap_raft_is_leader",
            "1 while this member leads",
            usize::from(status.role == Role::Leader),
        )?;
        out.gauge(
            "neap_raft_members",
            "Members of the cluster",
            status.members.len(),
        )?;
        out.gauge(
            "neap_raft_last_index",
            "Index of the last entry in the log",
            number(status.last_index),
        )?;
        out.gauge(
            "neap_raft_committed_index",
            "Index of the last entry known to be committed",
            number(status.committed_index),
        )?;
        out.gauge(
            "neap_raft_snapshot_index",
            "Index of the last entry in the last snapshot",
            number(status.snapshot_index),
        )?;
        let FsyncStats {
            count, total, max, ..
        } = status.fsync;
        out.counter("neap_raft_fsyncs", "Commits of the log to disk", count)?;
        out.metric(
            "neap_raft_fsync_seconds",
            "Time spent in them",
            &ConstCounter::new(total.as_secs_f64()),
        )?;
        out.metric(
            "neap_raft_fsync_longest_seconds",
            "Longest of them",
            &ConstGauge::new(max.as_secs_f64()),
        )
    }
}
