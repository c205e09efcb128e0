//! What the coordinator answers at `/api/v1/top/pods` and `/api/v1/top/nodes`. What is not known is absent.

use serde::Deserialize;

/// The rows, in the order asked for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Top<T> {
    /// Rows that the limit left out.
    #[serde(default)]
    pub(super) omitted: u64,
    pub(super) items: Vec<T>,
}

/// One pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodRow {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) cpu_cores: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
    pub(super) pressure: Stalls,
    pub(super) queue: Option<u64>,
    pub(super) queues: Vec<Queue>,
}

/// One node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) heard: bool,
    pub(super) cpu_cores: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
    pub(super) load: Option<f64>,
    pub(super) pressure: Stalls,
    pub(super) queue: Option<u64>,
    pub(super) pods: Option<u64>,
}

/// Pressure in percent of the time.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stalls {
    pub(super) cpu: Option<f64>,
    pub(super) memory: Option<f64>,
    pub(super) io: Option<f64>,
}

/// One accept queue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) at: String,
    pub(super) waiting: u64,
    pub(super) limit: Option<u64>,
}
