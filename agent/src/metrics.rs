//! The agent's own metrics, as Prometheus reads them.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabels {
    /// A gRPC code in lower case, or `connect`, `credentials`, `silent`, `closed`.
    pub reason: &'static str,
}

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    profile: &'static str,
}

/// Handles to all metrics; cheap to use from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Pods on the node.
    pub pods: Gauge,
    /// Their containers, sandboxes included.
    pub containers: Gauge,
    /// Live series.
    pub series: Gauge,
    /// Network namespaces held open.
    pub namespaces: Gauge,
    /// Pods that came.
    pub pods_appeared: Counter,
    /// Pods that went.
    pub pods_vanished: Counter,
    /// Samples messages handed to a stream.
    pub batches: Counter,
    /// Times the stream had no room for a batch, which then waited.
    pub batches_deferred: Counter,
    /// Points handed to a stream.
    pub points: Counter,
    /// Socket look-ups that failed.
    pub socket_errors: Counter,
    /// Parts of directives that were left out.
    pub directives_refused: Counter,
    /// Times the node's PSI trigger fired.
    pub trigger_fired: Counter,
    /// Duration of one step of the sampler.
    pub step_seconds: Histogram,
    /// 1 while a stream to the leader takes samples.
    pub connected: Gauge,
    /// Streams that ended, by reason.
    pub streams_ended: Family<EndLabels, Counter>,
    backwards: Counter<u64, AtomicU64>,
}

impl Metrics {
    /// All at zero.
    pub fn new(profile: &'static str) -> Self {
        let mut registry = Registry::with_prefix("neap_agent");
        let build = Family::<BuildLabels, Gauge>::default();
        build
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION"),
                profile,
            })
            .set(1);
        registry.register("build_info", "Version and profile of the agent", build);
        let metrics = Self {
            pods: Gauge::default(),
            containers: Gauge::default(),
            series: Gauge::default(),
            namespaces: Gauge::default(),
            pods_appeared: Counter::default(),
            pods_vanished: Counter::default(),
            batches: Counter::default(),
            batches_deferred: Counter::default(),
            points: Counter::default(),
            socket_errors: Counter::default(),
            directives_refused: Counter::default(),
            trigger_fired: Counter::default(),
            step_seconds: Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0]),
            connected: Gauge::default(),
            streams_ended: Family::default(),
            backwards: Counter::default(),
            registry: Registry::default(),
        };
        let gauges = [
            ("pods", "Pods on the node", &metrics.pods),
            (
                "containers",
                "Containers on the node, sandboxes included",
                &metrics.containers,
            ),
            ("series", "Live series", &metrics.series),
            (
                "network_namespaces",
                "Network namespaces of pods held open",
                &metrics.namespaces,
            ),
            (
                "connected",
                "1 while a stream to the leader takes samples",
                &metrics.connected,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("pods_appeared", "Pods that came", &metrics.pods_appeared),
            ("pods_vanished", "Pods that went", &metrics.pods_vanished),
            (
                "batches_sent",
                "Samples messages handed to a stream",
                &metrics.batches,
            ),
            (
                "batches_deferred",
                "Times a batch waited because the stream had no room",
                &metrics.batches_deferred,
            ),
            ("points_sent", "Points handed to a stream", &metrics.points),
            (
                "socket_errors",
                "Socket look-ups that failed",
                &metrics.socket_errors,
            ),
            (
                "directives_refused",
                "Parts of directives that were left out",
                &metrics.directives_refused,
            ),
            (
                "pressure_trigger_fired",
                "Times the node's PSI trigger fired",
                &metrics.trigger_fired,
            ),
            (
                "counters_backwards",
                "Readings dropped because a counter went backwards",
                &metrics.backwards,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "step",
            "Duration of one step of the sampler",
            Unit::Seconds,
            metrics.step_seconds.clone(),
        );
        registry.register(
            "streams_ended",
            "Streams that ended, by reason",
            metrics.streams_ended.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    /// Readings dropped because a counter went backwards, since the start.
    pub fn set_backwards(&self, total: u64) {
        self.backwards
            .inc_by(total.saturating_sub(self.backwards.get()));
    }

    /// The text that /metrics serves (OpenMetrics).
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_exported_under_its_name() {
        let metrics = Metrics::new("full");
        metrics.pods.set(3);
        metrics.set_backwards(2);
        metrics.set_backwards(5);
        metrics.step_seconds.observe(0.002);
        metrics
            .streams_ended
            .get_or_create(&EndLabels { reason: "silent" })
            .inc();
        let text = metrics.encode().unwrap();
        for line in [
            "neap_agent_pods 3",
            "neap_agent_counters_backwards_total 5",
            "neap_agent_step_seconds_count 1",
            "neap_agent_streams_ended_total{reason=\"silent\"} 1",
            "neap_agent_pods_appeared_total 0",
            "neap_agent_connected 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(text.contains("profile=\"full\""));
    }
}
