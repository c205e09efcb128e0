//! Bad input: each refusal names field, value and what is allowed, in the condition and in an
//! Event; nothing is scaled and other ScaledObjects are untouched.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use neap_e2e::{Bed, Workload, scaled_object, until, within};
use serde_json::{Value, json};

fn cron(key: &str, value: &str) -> Value {
    let mut metadata = json!({"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "2"});
    metadata[key] = json!(value);
    json!([{"type": "cron", "metadata": metadata}])
}

fn queue(metadata: Value) -> Value {
    json!([{"type": "node-accept-queue", "metadata": metadata}])
}

/// Name, kind and name of the target, triggers, the rest of the spec, and the words that must
/// stand in the refusal.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Value,
    Value,
    Vec<&'static str>,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn refusals_name_field_value_and_what_is_allowed() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "refusals";
    bed.namespace(ns).await?;
    for name in ["app", "bare", "good", "other"] {
        let app = Workload {
            name,
            kind: "Deployment",
            args: &["wait"],
            replicas: 1,
            cpu_request: (name != "bare").then_some("5m"),
        };
        bed.apply(ns, &app.object()).await?;
    }
    bed.apply(
        ns,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}),
    )
    .await?;
    let since = Timestamp::now();
    let ok = cron("desiredReplicas", "2");
    let workload = json!([{"type": "kubernetes-workload", "metadata": {"podSelector": "app=other", "value": "1"}}]);
    bed.apply(
        ns,
        &scaled_object(
            "good",
            "Deployment",
            "good",
            workload.clone(),
            json!({"minReplicaCount": 1}),
        ),
    )
    .await?;
    bed.await_condition(ns, "good", "Ready", "True").await?;

    let one = json!({"minReplicaCount": 1});
    let pressure = |resource: &str| json!([{"type": "node-pressure", "metadata": {"resource": resource, "kind": "some", "value": "20"}}]);
    let cases: Vec<Case> = vec![
        (
            "missing-target",
            "Deployment",
            "nowhere",
            ok.clone(),
            one.clone(),
            vec!["nowhere"],
        ),
        (
            "no-scale",
            "ConfigMap",
            "settings",
            ok.clone(),
            one.clone(),
            vec!["scale", "ConfigMap"],
        ),
        (
            "second-owner",
            "Deployment",
            "good",
            ok.clone(),
            one.clone(),
            vec!["already managed", "good"],
        ),
        (
            "unknown-type",
            "Deployment",
            "app",
            json!([{"type": "kafkaa", "metadata": {}}]),
            one.clone(),
            vec!["kafkaa", "cron"],
        ),
        (
            "bad-zone",
            "Deployment",
            "app",
            cron("timezone", "Mars/Olympus"),
            one.clone(),
            vec!["timezone", "Mars/Olympus"],
        ),
        (
            "bad-start",
            "Deployment",
            "app",
            cron("start", "61 * * * *"),
            one.clone(),
            vec!["start", "61"],
        ),
        (
            "bad-desired",
            "Deployment",
            "app",
            cron("desiredReplicas", "two"),
            one.clone(),
            vec!["desiredReplicas", "two"],
        ),
        (
            "bad-port",
            "Deployment",
            "app",
            queue(json!({"port": "http", "value": "5"})),
            one.clone(),
            vec!["port", "http"],
        ),
        (
            "no-value",
            "Deployment",
            "app",
            queue(json!({"port": "8080"})),
            one.clone(),
            vec!["value"],
        ),
        (
            "bad-metric",
            "Deployment",
            "app",
            queue(json!({"port": "8080", "value": "5", "metric": "depth"})),
            one.clone(),
            vec!["metric", "depth", "backlog", "delay", "saturation"],
        ),
        (
            "bad-resource",
            "Deployment",
            "app",
            pressure("disk"),
            one.clone(),
            vec!["resource", "disk", "cpu", "memory", "io"],
        ),
        (
            "no-request",
            "Deployment",
            "bare",
            json!([{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}]),
            one.clone(),
            vec!["cpu", "request"],
        ),
        (
            "local-from-zero",
            "Deployment",
            "app",
            pressure("cpu"),
            json!({"minReplicaCount": 0}),
            vec!["minReplica"],
        ),
    ];
    for (name, kind, target, triggers, rest, words) in cases {
        let mut object = scaled_object(name, kind, target, triggers, rest);
        if kind == "ConfigMap" {
            object["spec"]["scaleTargetRef"]["apiVersion"] = json!("v1");
        }
        bed.apply(ns, &object).await?;
        let (reason, message) = bed.await_condition(ns, name, "Ready", "False").await?;
        println!("saw: {name}: {reason}: {message}");
        for word in &words {
            ensure!(
                message.contains(word),
                "{name}: the condition does not name {word:?}: {message}"
            );
        }
        let events = until(
            "the Event of the refusal",
            Duration::from_secs(20),
            || async { within(bed.events(ns, name).await?, |e| !e.is_empty()) },
        )
        .await?;
        ensure!(
            events
                .iter()
                .any(|(_, m)| words.iter().all(|w| m.contains(w))),
            "{name}: no Event says what the condition says: {events:?}"
        );
        bed.objects("keda.sh/v1alpha1", "ScaledObject", ns)?
            .delete(name, &kube::api::DeleteParams::default())
            .await?;
    }
    // min > max does not even get past the schema's rule.
    let wrong = scaled_object(
        "min-max",
        "Deployment",
        "app",
        ok,
        json!({"minReplicaCount": 5, "maxReplicaCount": 2}),
    );
    let refused = bed
        .apply(ns, &wrong)
        .await
        .err()
        .map(|e| format!("{e:#}"))
        .unwrap_or_default();
    ensure!(
        refused.contains("minReplicaCount must be less than or equal to maxReplicaCount"),
        "answer: {refused}"
    );

    for name in ["app", "bare", "other"] {
        let writes = bed.audit.scale_writes(ns, name, since)?;
        ensure!(
            writes.is_empty(),
            "{name} was scaled by a refused object: {writes:?}"
        );
    }
    let (status, ..) = bed
        .condition(ns, "good", "Ready")
        .await?
        .unwrap_or_default();
    ensure!(status == "True", "the good object was touched");
    bed.drop_namespace(ns).await;
    Ok(())
}
