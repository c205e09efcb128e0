//! Whatever a trigger is given: it is built or refused with a reason, nothing panics, and nothing
//! that did not come from metadata is shown.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

use neap_triggers::{TriggerConfig, TriggerContext, build, implemented_types};
use proptest::prelude::*;

/// The names of fields of all types, and some that none has.
const NAMES: &[&str] = &[
    "Cert",
    "activationLagCount",
    "activationListLength",
    "activationQueryValue",
    "activationTargetQueryValue",
    "activationTargetValue",
    "activationThreshold",
    "activationValue",
    "address",
    "addresses",
    "aggregateFromKubeServiceEndpoints",
    "aggregationType",
    "apiKey",
    "authModes",
    "bearerToken",
    "ca",
    "cert",
    "clientID",
    "clientSecret",
    "connection",
    "connectionString",
    "consumerGroup",
    "containerName",
    "customAuthHeader",
    "customAuthValue",
    "customHeaders",
    "databaseIndex",
    "dbName",
    "desiredReplicas",
    "enableTLS",
    "end",
    "endpointParams",
    "excludeUnacknowledged",
    "format",
    "groupByNode",
    "host",
    "hosts",
    "ignoreNullValues",
    "key",
    "keyParamName",
    "keyPassword",
    "kind",
    "lagCount",
    "listLength",
    "listName",
    "method",
    "metric",
    "mode",
    "namespace",
    "oauthTokenURI",
    "operation",
    "pageSize",
    "password",
    "pendingEntriesCount",
    "podSelector",
    "port",
    "ports",
    "protocol",
    "query",
    "queryParameters",
    "queryValue",
    "queueLength",
    "queueName",
    "resource",
    "scopes",
    "sentinelMaster",
    "sentinelPassword",
    "serverAddress",
    "sslmode",
    "start",
    "stream",
    "streamLength",
    "targetQueryValue",
    "targetValue",
    "threshold",
    "timeout",
    "timezone",
    "tls",
    "token",
    "type",
    "unknown",
    "unsafeSsl",
    "url",
    "useRegex",
    "userName",
    "username",
    "value",
    "valueLocation",
    "vhostName",
    "window",
    "workloadIdentityResource",
];

/// What stands in every value that is secret.
const MARK: &str = "5ecr3t";

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        "\\PC{0,12}",
        "-?[0-9]{1,20}(\\.[0-9]{1,3})?(e[0-9])?",
        "([0-9,*/?-]{1,4} ){4}[0-9,*/?-]{1,4}",
        proptest::sample::select(vec![
            "true",
            "false",
            "enable",
            "disable",
            "5",
            "0.5",
            "10s",
            "backlog",
            "delay",
            "cpu",
            "some",
            "UTC",
            "json",
            "yaml",
            "basic",
            "bearer,tls",
            "apiKey",
            "tls",
            "custom",
            "oauth",
            "app=demo,x in (a)",
            "http://h:1/v",
            "amqp://h/v",
            "a=b,c=d",
            "1-4,7",
            "user:p@tcp(h:3306)/db?tls=true&x=1",
            "postgres://u:p@h:1,g/db?x=1",
            "host=h port=1 user=u",
            "h:1",
            "h:1,g:2",
            "h",
            "QueueLength",
            "MessageRate",
            "0 5 * * *",
            "0 6 * * *",
            "query",
            "header",
            "some",
        ])
        .prop_map(str::to_owned),
    ]
}

/// Metadata with which a trigger is built; what is random is laid over it.
fn base(trigger_type: &str) -> &'static [(&'static str, &'static str)] {
    match trigger_type {
        "cpu" | "memory" => &[("value", "50")],
        "cron" => &[
            ("start", "0 5 * * *"),
            ("end", "0 6 * * *"),
            ("timezone", "UTC"),
            ("desiredReplicas", "2"),
        ],
        "kubernetes-workload" => &[("podSelector", "app=demo"), ("value", "1")],
        "metrics-api" => &[
            ("url", "http://h/m"),
            ("valueLocation", "a"),
            ("targetValue", "1"),
        ],
        "mysql" => &[("query", "SELECT 1"), ("queryValue", "1")],
        "node-accept-queue" => &[("port", "80"), ("value", "1")],
        "node-pressure" => &[("resource", "cpu"), ("value", "1")],
        "node-spool" => &[("path", "/var/spool/in"), ("value", "5")],
        "postgresql" => &[
            ("query", "SELECT 1"),
            ("targetQueryValue", "1"),
            ("host", "h"),
            ("port", "1"),
            ("userName", "u"),
            ("dbName", "d"),
            ("sslmode", "disable"),
        ],
        "prometheus" => &[
            ("serverAddress", "http://h"),
            ("query", "up"),
            ("threshold", "1"),
        ],
        "rabbitmq" => &[("host", "http://h/v"), ("queueName", "q")],
        name if name.ends_with("-streams") => &[("stream", "s"), ("address", "h:1")],
        name if name.starts_with("redis") => &[("listName", "l"), ("address", "h:1")],
        other => panic!("give {other} a base"),
    }
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec(
        (
            proptest::sample::select(NAMES).prop_map(str::to_owned),
            value(),
        ),
        0..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn is_built_or_refused_and_keeps_secrets(
        trigger_type in proptest::sample::select(implemented_types()),
        metadata in fields(),
        auth in fields(),
        env in fields(),
        metric_type in proptest::option::of(proptest::sample::select(vec!["AverageValue", "Value", "Utilization", "other"])),
        identity in proptest::sample::select(vec!["", "none", "azure-workload", "aws", "unknown"]),
    ) {
        let mut config = TriggerConfig::new(trigger_type, TriggerContext::default());
        config.metadata = base(trigger_type).iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        config.metadata.extend(metadata);
        // A secret that also stands in metadata, or is only blanks, is none.
        let marked = |fields: Vec<(String, String)>| fields.into_iter().map(|(name, value)| (name, format!("{value}{MARK}"))).collect::<Vec<_>>();
        config.auth_params = marked(auth).into_iter().collect();
        for (name, value) in marked(env) {
            config.metadata.insert(format!("{name}FromEnv"), name.to_uppercase());
            config.resolved_env.insert(name.to_uppercase(), value);
        }
        config.metric_type = metric_type.map(str::to_owned);
        config.pod_identity.provider = identity.to_owned();
        let shown = match build(&config) {
            Ok(built) => {
                prop_assert!(!built.metrics.is_empty());
                prop_assert!(built.warnings.iter().all(|warning| warning.to_string().len() > 10));
                let warnings: Vec<String> = built.warnings.iter().map(ToString::to_string).collect();
                format!("{:?} {:?} {:?} {warnings:?}", built.settings, built.source, built.warnings)
            }
            Err(error) => {
                prop_assert!(error.to_string().starts_with(&format!("trigger \"{trigger_type}\" at index 0: ")), "{}", error);
                format!("{error:?} {error}")
            }
        };
        prop_assert!(!shown.contains(MARK), "{}", shown);
        let given = format!("{config:?}");
        prop_assert!(!given.contains(MARK), "{}", given);
    }
}
