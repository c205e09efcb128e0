//! The trigger types: those that Neap has, and those that KEDA has.

use crate::built::BuiltTrigger;
use crate::config::TriggerConfig;
use crate::error::{ConfigError, FieldError, UnknownTrigger};
use crate::triggers::{
    cron, kubernetes_workload, metrics_api, mysql, node_accept_queue, node_pressure, node_spool,
    postgresql, prometheus, rabbitmq, redis, redis_streams, resource,
};

/// A trigger, or every fault of its configuration.
pub(crate) type Checked = Result<BuiltTrigger, Vec<FieldError>>;

type Build = fn(&TriggerConfig) -> Checked;

/// In alphabetic order.
const IMPLEMENTED: &[(&str, Build)] = &[
    ("cpu", resource::build_cpu),
    ("cron", cron::build),
    ("kubernetes-workload", kubernetes_workload::build),
    ("memory", resource::build_memory),
    ("metrics-api", metrics_api::build),
    ("mysql", mysql::build),
    ("node-accept-queue", node_accept_queue::build),
    ("node-pressure", node_pressure::build),
    ("node-spool", node_spool::build),
    ("postgresql", postgresql::build),
    ("prometheus", prometheus::build),
    ("rabbitmq", rabbitmq::build),
    ("redis", redis::build_single),
    ("redis-cluster", redis::build_cluster),
    ("redis-cluster-streams", redis_streams::build_cluster),
    ("redis-sentinel", redis::build_sentinel),
    ("redis-sentinel-streams", redis_streams::build_sentinel),
    ("redis-streams", redis_streams::build_single),
];

/// The trigger types of KEDA (at commit 8b4f083, August 2026), in alphabetic order.
pub const KEDA_TYPES: &[&str] = &[
    "activemq",
    "apache-kafka",
    "arangodb",
    "artemis-queue",
    "aws-cloudwatch",
    "aws-dynamodb",
    "aws-dynamodb-streams",
    "aws-kinesis-stream",
    "aws-sqs-queue",
    "azure-app-insights",
    "azure-blob",
    "azure-data-explorer",
    "azure-eventhub",
    "azure-log-analytics",
    "azure-monitor",
    "azure-pipelines",
    "azure-queue",
    "azure-servicebus",
    "beanstalkd",
    "cassandra",
    "clickhouse",
    "couchdb",
    "cpu",
    "cron",
    "datadog",
    "dynatrace",
    "elastic-forecast",
    "elasticsearch",
    "etcd",
    "external",
    "external-push",
    "forgejo-runner",
    "gcp-cloudtasks",
    "gcp-pubsub",
    "gcp-spanner",
    "gcp-stackdriver",
    "gcp-storage",
    "github-runner",
    "graphite",
    "huawei-cloudeye",
    "ibmmq",
    "influxdb",
    "kafka",
    "kubernetes-resource",
    "kubernetes-workload",
    "liiklus",
    "loki",
    "memory",
    "metrics-api",
    "mongodb",
    "mssql",
    "mysql",
    "nats-jetstream",
    "new-relic",
    "nsq",
    "opensearch",
    "openstack-metric",
    "openstack-swift",
    "postgresql",
    "predictkube",
    "prometheus",
    "pulsar",
    "rabbitmq",
    "redis",
    "redis-cluster",
    "redis-cluster-streams",
    "redis-sentinel",
    "redis-sentinel-streams",
    "redis-streams",
    "selenium-grid",
    "solace-direct-messaging",
    "solace-event-queue",
    "solarwinds",
    "solr",
    "splunk",
    "splunk-observability",
    "sumologic",
    "temporal",
];

/// Builds a trigger. Reads nothing but `config`, connects to nothing.
///
/// # Errors
/// Where the type is not one of [`implemented_types`], or fields are missing or hold what is not
/// allowed; every fault is listed.
pub fn build(config: &TriggerConfig) -> Result<BuiltTrigger, ConfigError> {
    let found = IMPLEMENTED
        .iter()
        .find(|(name, _)| *name == config.trigger_type);
    let Some((_, build)) = found else {
        let keda_has_it = KEDA_TYPES.contains(&config.trigger_type.as_str());
        return Err(UnknownTrigger {
            trigger_type: config.trigger_type.clone(),
            keda_has_it,
        }
        .into());
    };
    build(config).map_err(|errors| ConfigError::Fields {
        trigger_type: config.trigger_type.clone(),
        index: config.index,
        errors,
    })
}

/// The names of the trigger types that [`build`] knows, in alphabetic order.
#[must_use]
pub fn implemented_types() -> Vec<&'static str> {
    IMPLEMENTED.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TriggerContext;

    #[test]
    fn names_what_is_known_when_a_type_is_not() {
        let error = |name: &str| {
            build(&TriggerConfig::new(name, TriggerContext::default()))
                .expect_err(name)
                .to_string()
        };
        let unknown = error("prometeus");
        assert!(
            unknown.starts_with(
                "trigger type \"prometeus\" is not known; type must be one of cpu, cron, "
            ),
            "{unknown}"
        );
        let later = error("solarwinds");
        assert!(
            later.starts_with(
                "trigger type \"solarwinds\" is one of KEDA's that Neap does not have yet; "
            ),
            "{later}"
        );
    }

    #[test]
    fn lists_are_sorted() {
        assert!(implemented_types().is_sorted());
        assert!(KEDA_TYPES.is_sorted());
    }
}
