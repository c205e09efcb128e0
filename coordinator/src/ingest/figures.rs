//! What is counted of streams.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::limits::StreamSlots;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct IngestFigures {
    /// Streams refused for their token.
    pub unauthenticated: AtomicU64,
    /// Streams refused because they spoke for another node than the token's.
    pub wrong_node: AtomicU64,
    /// Streams ended because the API server no longer accepts their token.
    pub review_failed: AtomicU64,
    /// Messages taken in.
    pub messages: AtomicU64,
    /// Samples left out because their pod is bound to another node.
    pub foreign_samples: AtomicU64,
    /// Series left out because they could not be understood.
    pub unknown_series: AtomicU64,
}

impl IngestFigures {
    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Shows the figures to Prometheus.
#[derive(Debug)]
pub struct IngestCollector {
    /// The counts.
    pub figures: Arc<IngestFigures>,
    /// The streams.
    pub slots: StreamSlots,
}

impl Collector for IngestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = &self.figures;
        for (name, help, counter) in [
            (
                "neap_agent_streams_unauthenticated",
                "Streams refused for their token",
                &figures.unauthenticated,
            ),
            (
                "neap_agent_streams_wrong_node",
                "Streams refused because they spoke for another node than their token",
                &figures.wrong_node,
            ),
            (
                "neap_agent_streams_review_failed",
                "Streams ended because the API server no longer accepts their token",
                &figures.review_failed,
            ),
            (
                "neap_agent_messages",
                "Messages of agents taken in",
                &figures.messages,
            ),
            (
                "neap_agent_samples_foreign",
                "Samples left out because their pod is bound to another node",
                &figures.foreign_samples,
            ),
            (
                "neap_agent_series_unknown",
                "Series left out because they could not be understood",
                &figures.unknown_series,
            ),
        ] {
            let metric = ConstCounter::new(counter.load(Ordering::Relaxed));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let streams = ConstGauge::new(i64::try_from(self.slots.len()).unwrap_or(i64::MAX));
        let descriptor = encoder.encode_descriptor(
            "neap_agent_streams",
            "Streams of agents",
            None,
            streams.metric_type(),
        )?;
        streams.encode(descriptor)
    }
}
