//! What cannot be acted on: said by name, and nobody else is touched.

use std::time::Duration;

use neap_coordinator::world::{PodTemplate, TargetFacts, TargetProblem, TemplateContainer};
use serde_json::{Value, json};

use crate::bench::{Bench, facts, target_id};

fn workload() -> Value {
    json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}})
}

/// Each fault, what the condition must name, and a spec that is right.
fn faults() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let with = |trigger: Value| json!({"minReplicaCount": 1, "triggers": [trigger]});
    let behavior = |direction: &str, rules: Value| {
        json!({"minReplicaCount": 1, "triggers": [workload()],
               "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {direction: rules}}}})
    };
    vec![
        (
            "unknown-trigger",
            with(json!({"type": "prometeus", "metadata": {}})),
            vec!["spec.triggers[0]", "prometeus", "must be one of"],
        ),
        (
            "bad-metadata",
            with(json!({"type": "node-accept-queue", "metadata": {"port": "http", "value": "4"}})),
            vec!["port", "http"],
        ),
        (
            "missing-metadata",
            with(json!({"type": "kubernetes-workload", "metadata": {"value": "1"}})),
            vec!["podSelector is missing"],
        ),
        (
            "unknown-zone",
            with(json!({"type": "cron", "metadata": {
                "timezone": "Mars/Base", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "1"}})),
            vec!["timezone", "Mars/Base"],
        ),
        (
            "min-above-max",
            json!({"minReplicaCount": 5, "maxReplicaCount": 2, "triggers": [workload()]}),
            vec!["minReplicaCount", "5", "2"],
        ),
        (
            "max-zero",
            json!({"maxReplicaCount": 0, "triggers": [workload()]}),
            vec!["spec.maxReplicaCount", "0", "at least 1"],
        ),
        (
            "value-zero",
            with(
                json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "0"}}),
            ),
            vec!["spec.triggers[0]", "value", "0"],
        ),
        (
            "fallback-below-zero",
            json!({"minReplicaCount": 1, "fallback": {"failureThreshold": -1, "replicas": 1}, "triggers": [workload()]}),
            vec!["failureThreshold", "-1", "0"],
        ),
        (
            "long-period",
            behavior(
                "scaleUp",
                json!({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}),
            ),
            vec!["scaleUp.policies[0].periodSeconds", "1801", "1 to 1800"],
        ),
        (
            "long-window",
            behavior("scaleDown", json!({"stabilizationWindowSeconds": 3601})),
            vec!["scaleDown.stabilizationWindowSeconds", "3601", "0 to 3600"],
        ),
        (
            "tolerance-below-zero",
            behavior("scaleUp", json!({"tolerance": "-0.1"})),
            vec!["scaleUp.tolerance", "-0.1", "0 or more"],
        ),
        (
            "never-from-zero",
            json!({"scaleTargetRef": {"apiVersion": "example.org/v1", "kind": "Tank", "name": "never-from-zero"},
                   "minReplicaCount": 0, "triggers": [{"type": "node-accept-queue", "metadata": {"port": "80", "value": "4"}}]}),
            vec![
                "scale to zero doesn't work",
                "spec.minReplicaCount",
                "0",
                "1 or more",
            ],
        ),
        (
            "same-name-twice",
            json!({"triggers": [
                {"type": "kubernetes-workload", "name": "a", "metadata": {"podSelector": "a=b", "value": "1"}},
                {"type": "kubernetes-workload", "name": "a", "metadata": {"podSelector": "a=b", "value": "1"}}]}),
            vec!["triggerName", "a"],
        ),
        (
            "no-such-auth",
            with(
                json!({"type": "mysql", "metadata": {"query": "SELECT 1", "queryValue": "1"},
                "authenticationRef": {"name": "nobody"}}),
            ),
            vec!["authenticationRef.name", "nobody"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_named_and_nobody_else_is_touched() {
    let bench = Bench::start().await;
    for (name, spec, _) in faults() {
        bench.deployment(name, 2);
        bench.scaled_object(name, spec);
    }
    bench.deployment("good", 1);
    bench.scaled_object(
        "good",
        json!({"minReplicaCount": 1, "triggers": [workload()]}),
    );
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    for (name, _, parts) in faults() {
        let (reason, message) = bench
            .passing(bench.publisher.condition(name, "Ready", "False"))
            .await;
        assert_eq!(reason, "ScaledObjectCheckFailed", "{name}");
        for part in parts {
            assert!(message.contains(part), "{name}: {part} in {message}");
        }
        let (reason, _) = bench
            .passing(bench.publisher.condition(name, "Active", "Unknown"))
            .await;
        assert_eq!(reason, "UnknownState", "{name}");
    }
    assert_eq!(bench.write(0).await.replicas, 3);
    let written: Vec<_> = bench
        .scaler
        .writes()
        .into_iter()
        .map(|write| write.target)
        .collect();
    assert_eq!(written, ["good"]);
    let count = faults().len();
    let told = bench
        .passing(bench.publisher.told("ScaledObjectCheckFailed", count))
        .await;
    let mut names: Vec<_> = told
        .iter()
        .map(|note| note.regarding.name.as_ref())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each is told once: {told:?}");

    // Mended, the first of them is scaled.
    bench.scaled_object(
        "unknown-trigger",
        json!({"minReplicaCount": 1, "triggers": [workload()]}),
    );
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.write(1).await.replicas, 3);
    bench
        .passing(
            bench
                .publisher
                .condition("unknown-trigger", "Ready", "True"),
        )
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_object_that_turns_bad_holds_its_replicas() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object(
        "web",
        json!({"minReplicaCount": 1, "triggers": [workload()]}),
    );
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.scaled_object(
        "web",
        json!({"minReplicaCount": 1, "triggers": [{"type": "none", "metadata": {}}]}),
    );
    for n in 3..9 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_secs(20));
    bench
        .passing(bench.publisher.condition("web", "Ready", "False"))
        .await;
    assert_eq!(
        bench.scaler.writes().len(),
        1,
        "nothing is scaled while the spec is wrong"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_be_scaled_on_is_named() {
    let bench = Bench::start().await;
    let cpu = json!({"minReplicaCount": 1, "triggers": [
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}]});
    bench.scaled_object("unasked", cpu);
    let template = PodTemplate {
        containers: vec![TemplateContainer {
            name: "app".into(),
            ..TemplateContainer::default()
        }],
        ..PodTemplate::default()
    };
    let facts = TargetFacts {
        template: Some(template.into()),
        ..facts("unasked", 1, 1)
    };
    bench.world.apply_target_facts(&target_id("unasked"), facts);
    let (_, message) = bench
        .passing(bench.publisher.condition("unasked", "Ready", "False"))
        .await;
    assert!(
        message.contains("container app doesn't have the cpu request defined"),
        "{message}"
    );

    bench.scaled_object(
        "lost",
        json!({"minReplicaCount": 1, "triggers": [workload()]}),
    );
    let problem = TargetProblem::NotFound {
        kind: "Deployment".into(),
        name: "lost".into(),
        namespace: "ns".into(),
    };
    bench
        .world
        .apply_target_problem(&target_id("lost"), problem);
    let (reason, message) = bench
        .passing(bench.publisher.condition("lost", "Ready", "False"))
        .await;
    assert_eq!(reason, "ScaledObjectCheckFailed");
    assert!(
        message.contains("there is no Deployment \"lost\""),
        "{message}"
    );

    // It appears, and is scaled.
    bench.deployment("lost", 1);
    bench.see("lost");
    bench.pod("producer", 0);
    bench.pod("producer", 1);
    let write = bench.write(0).await;
    assert_eq!((write.target.as_str(), write.replicas), ("lost", 2));
    bench
        .passing(bench.publisher.condition("lost", "Ready", "True"))
        .await;
    bench.stop().await;
}
