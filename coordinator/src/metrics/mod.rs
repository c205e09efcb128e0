//! What this process counts of itself, and the series that KEDA's and the HPA's users rest on.
//!
//! Names: `neap_*` for Neap's own; `keda_*` and `kube_horizontalpodautoscaler_*` as KEDA and
//! kube-state-metrics name them.

mod certificates;
mod collect;
mod compat;
mod raft;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use certificates::CertificateCollector;
pub use collect::RoomCollector;
pub use compat::{Compat, TargetSeries, TriggerSeries};
pub use raft::RaftCollector;

use crate::scaler::{ScaleError, Written};

/// Label `result`.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResultLabel {
    /// `ok`, or why not.
    pub result: &'static str,
}

/// All metrics of the coordinator. Each is documented by its help text.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    evaluations: Counter,
    evaluation_seconds: Histogram,
    commits: Family<ResultLabel, Counter>,
    commit_seconds: Histogram,
    scale_writes: Family<ResultLabel, Counter>,
    scale_write_seconds: Histogram,
    /// Writes of scales that were taken, and answered after their leader's lease had ended.
    pub scale_writes_late: Counter,
    polls: Family<ResultLabel, Counter>,
    poll_seconds: Histogram,
    /// Writes of ScaledObject status.
    pub status_writes: Family<ResultLabel, Counter>,
    /// Events recorded.
    pub events: Family<ResultLabel, Counter>,
    /// Events let go because too many waited.
    pub events_dropped: Counter,
    /// Pods of scaled targets whose node has no live agent.
    pub pods_without_agent: Gauge,
    /// Targets whose replicas someone else keeps resetting.
    pub targets_contested: Gauge,
    /// Targets a trigger of which gives no value.
    pub targets_without_signal: Gauge,
    /// The series of KEDA and the HPA.
    pub compat: Compat,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// All results of writing a scale.
const WRITES: [&str; 8] = [
    "ok",
    "conflict",
    "not_found",
    "no_scale",
    "forbidden",
    "throttled",
    "unreachable",
    "timeout",
];

const FAST: [f64; 10] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2];
const SLOW: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let evaluations = Counter::default();
        registry.register(
            "neap_evaluations",
            "Decisions computed",
            evaluations.clone(),
        );
        let evaluation_seconds = Histogram::new(FAST);
        registry.register(
            "neap_evaluation_seconds",
            "Time to compute one decision",
            evaluation_seconds.clone(),
        );
        let commits = Family::default();
        registry.register("neap_commits", "Log entries proposed", commits.clone());
        let commit_seconds = Histogram::new(SLOW);
        registry.register(
            "neap_commit_seconds",
            "Time from proposing to having applied an entry",
            commit_seconds.clone(),
        );
        let scale_writes = Family::<ResultLabel, Counter>::default();
        // A series that began with its first count would show an alert no increase.
        for result in WRITES {
            drop(scale_writes.get_or_create(&ResultLabel { result }));
        }
        registry.register(
            "neap_scale_writes",
            "Writes of scales",
            scale_writes.clone(),
        );
        let scale_write_seconds = Histogram::new(SLOW);
        registry.register(
            "neap_scale_write_seconds",
            "Time of one write of a scale",
            scale_write_seconds.clone(),
        );
        let scale_writes_late = Counter::default();
        registry.register(
            "neap_scale_writes_late",
            "Writes of scales that were taken, and answered after the lease had ended: another leader may have decided since",
            scale_writes_late.clone(),
        );
        let polls = Family::default();
        registry.register("neap_polls", "Event sources asked", polls.clone());
        let poll_seconds = Histogram::new(SLOW);
        registry.register(
            "neap_poll_seconds",
            "Time of one poll",
            poll_seconds.clone(),
        );
        let status_writes = Family::default();
        registry.register(
            "neap_status_writes",
            "Writes of ScaledObject status",
            status_writes.clone(),
        );
        let events = Family::default();
        registry.register("neap_events", "Events recorded", events.clone());
        let events_dropped = Counter::default();
        registry.register(
            "neap_events_dropped",
            "Events let go because too many waited",
            events_dropped.clone(),
        );
        let pods_without_agent = Gauge::default();
        registry.register(
            "neap_pods_without_agent",
            "Pods of scaled targets on nodes without a live agent",
            pods_without_agent.clone(),
        );
        let targets_contested = Gauge::default();
        registry.register(
            "neap_targets_contested",
            "Targets whose replicas someone else keeps resetting",
            targets_contested.clone(),
        );
        let targets_without_signal = Gauge::default();
        registry.register(
            "neap_targets_without_signal",
            "Targets a trigger of which gives no value",
            targets_without_signal.clone(),
        );
        let compat = Compat::register(&mut registry);
        Self {
            registry: Mutex::new(registry),
            evaluations,
            evaluation_seconds,
            commits,
            commit_seconds,
            scale_writes,
            scale_write_seconds,
            scale_writes_late,
            polls,
            poll_seconds,
            status_writes,
            events,
            events_dropped,
            pods_without_agent,
            targets_contested,
            targets_without_signal,
            compat,
        }
    }

    /// Adds metrics that other rooms keep themselves or compute when asked.
    pub fn add(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds a collector: it computes its series each time they are asked for.
    pub fn add_collector(&self, collector: Box<dyn Collector>) {
        self.add(|registry| registry.register_collector(collector));
    }

    /// A decision was computed.
    pub fn evaluated(&self, took: Duration) {
        self.evaluations.inc();
        self.evaluation_seconds.observe(took.as_secs_f64());
    }

    /// An entry was proposed.
    pub fn committed(&self, took: Duration, ok: bool) {
        self.commits.get_or_create(&result(ok)).inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// A scale was written, or not.
    pub fn written(&self, outcome: &Result<Written, ScaleError>, took: Duration) {
        let [
            ok,
            conflict,
            not_found,
            no_scale,
            forbidden,
            throttled,
            unreachable,
            timeout,
        ] = WRITES;
        let result = match outcome {
            Ok(_) => ok,
            Err(ScaleError::Conflict) => conflict,
            Err(ScaleError::NotFound) => not_found,
            Err(ScaleError::NoScaleSubresource { .. }) => no_scale,
            Err(ScaleError::Forbidden(_)) => forbidden,
            Err(ScaleError::Throttled { .. }) => throttled,
            Err(ScaleError::Unreachable(_)) => unreachable,
            Err(ScaleError::Timeout) => timeout,
        };
        self.scale_writes
            .get_or_create(&ResultLabel { result })
            .inc();
        self.scale_write_seconds.observe(took.as_secs_f64());
    }

    /// A source was asked.
    pub fn polled(&self, took: Duration, ok: bool) {
        self.polls.get_or_create(&result(ok)).inc();
        self.poll_seconds.observe(took.as_secs_f64());
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a collector cannot write what it has.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(
            &mut out,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(out)
    }
}

/// `ok` or `error`.
pub fn result(ok: bool) -> ResultLabel {
    ResultLabel {
        result: if ok { "ok" } else { "error" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show_in_the_text() {
        let metrics = Metrics::new();
        metrics.written(&Err(ScaleError::Conflict), Duration::from_millis(3));
        let retry_after = Duration::from_secs(1);
        let throttled = "neap_scale_writes_total{result=\"throttled\"}";
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains(&format!("{throttled} 0"))
        );
        metrics.written(&Err(ScaleError::Throttled { retry_after }), retry_after);
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains(&format!("{throttled} 1"))
        );
        metrics.committed(Duration::from_millis(3), true);
        let text = metrics.encode().unwrap();
        for line in [
            "neap_scale_writes_total{result=\"conflict\"} 1",
            "neap_commits_total{result=\"ok\"} 1",
            "neap_evaluations_total 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
