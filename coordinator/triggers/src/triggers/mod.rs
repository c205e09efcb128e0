//! One module per trigger type.

pub(crate) mod cron;
mod http_value;
pub(crate) mod kubernetes_workload;
pub(crate) mod metrics_api;
pub(crate) mod mysql;
pub(crate) mod node_accept_queue;
pub(crate) mod node_pressure;
pub(crate) mod node_spool;
mod polled;
pub(crate) mod postgresql;
pub(crate) mod prometheus;
pub(crate) mod rabbitmq;
pub(crate) mod redis;
mod redis_connection;
pub(crate) mod redis_streams;
pub(crate) mod resource;
mod sql_query;
mod window;

use crate::config::TriggerConfig;
use crate::error::FieldError;

/// Node-local triggers are compared per pod and in no other way.
fn require_average_value(config: &TriggerConfig, errors: &mut Vec<FieldError>) {
    if let Some(other) = config
        .metric_type
        .as_deref()
        .filter(|kind| !matches!(*kind, "" | "AverageValue"))
    {
        errors.push(FieldError::invalid(
            "metricType",
            other,
            "it must be AverageValue, or be left out",
        ));
    }
}
