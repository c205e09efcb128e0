//! Calendars, pods that are counted, and sources that fail.

use std::time::Duration;

use serde_json::json;

use crate::bench::{Bench, pod};

/// Scales down at once and up without limit, so that only what a test is about holds it back.
fn free_behavior() -> serde_json::Value {
    json!({"horizontalPodAutoscalerConfig": {"behavior": {
        "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {"stabilizationWindowSeconds": 0},
    }}})
}

fn workload(selector: &str) -> serde_json::Value {
    json!({"type": "kubernetes-workload", "metadata": {"podSelector": selector, "value": "1"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calendar_takes_a_target_from_zero_and_back() {
    let bench = Bench::start().await;
    bench.deployment("report", 0);
    // The test's wall begins at 08:00 UTC.
    bench.scaled_object(
        "report",
        json!({
            "minReplicaCount": 0,
            "cooldownPeriod": 60,
            "triggers": [{"type": "cron", "metadata": {
                "timezone": "UTC", "start": "5 8 * * *", "end": "10 8 * * *", "desiredReplicas": "3"
            }}],
        }),
    );
    bench.evaluate("report").await;
    bench.advance(Duration::from_secs(298));
    bench.evaluate("report").await;
    assert_eq!(bench.scaler.writes(), []);
    bench.advance(Duration::from_secs(3));
    assert_eq!(
        bench.write(0).await.replicas,
        3,
        "what the calendar asks for, in one step"
    );
    bench
        .passing(bench.publisher.condition("report", "Active", "True"))
        .await;
    bench
        .passing(bench.publisher.event("KEDAScaleTargetActivated"))
        .await;

    for _ in 0..30 {
        bench.advance(Duration::from_secs(10));
        bench.evaluate("report").await;
    }
    assert_eq!(
        bench.scaler.writes().len(),
        1,
        "08:10 has just passed: it cools down"
    );
    let (reason, _) = bench
        .passing(bench.publisher.condition("report", "Active", "False"))
        .await;
    assert_eq!(reason, "ScalerCooldown");
    bench.advance(Duration::from_secs(62));
    assert_eq!(bench.write(1).await.replicas, 0);
    bench
        .passing(bench.publisher.event("KEDAScaleTargetDeactivated"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_another_workload_are_counted_as_they_come_and_go() {
    let bench = Bench::start().await;
    bench.deployment("consumer", 0);
    bench.scaled_object(
        "consumer",
        json!({"cooldownPeriod": 5, "advanced": free_behavior(), "triggers": [workload("app=producer")]}),
    );
    bench.evaluate("consumer").await;
    assert_eq!(bench.scaler.writes(), []);
    bench.pod("producer", 0);
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(50));
    let first = bench.write(0).await;
    assert!((1..=2).contains(&first.replicas), "{first:?}");
    bench.advance(Duration::from_secs(2));
    bench.evaluate("consumer").await;
    assert_eq!(bench.scaler.writes().last().unwrap().replicas, 2);

    for n in 0..2 {
        bench.world.remove_pod("ns", &format!("producer-{n}"));
    }
    bench.advance(Duration::from_secs(2));
    bench.evaluate("consumer").await;
    let writes = bench.scaler.writes();
    assert_eq!(
        writes.last().unwrap().replicas,
        2,
        "the cooldown runs: {writes:?}"
    );
    bench.advance(Duration::from_secs(30));
    assert_eq!(bench.write(writes.len()).await.replicas, 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_trigger_blocks_scaling_down_and_not_up() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    // Nothing listens on port 1.
    let failing = json!({"type": "prometheus", "metadata": {
        "serverAddress": "http://127.0.0.1:1", "query": "up", "threshold": "1"
    }});
    bench.scaled_object(
        "web",
        json!({"minReplicaCount": 1, "advanced": free_behavior(), "triggers": [workload("app=producer"), failing]}),
    );
    let (reason, _) = bench
        .passing(bench.publisher.condition("web", "Ready", "False"))
        .await;
    assert_eq!(reason, "TriggerError", "as long as nothing else is active");
    for n in 0..3 {
        bench
            .world
            .apply_pod(std::sync::Arc::new(pod("producer", n)));
    }
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    let writes = bench.scaler.writes();
    assert_eq!(
        writes.last().map(|write| write.replicas),
        Some(3),
        "{writes:?}"
    );
    let (reason, _) = bench
        .passing(bench.publisher.condition("web", "Ready", "Unknown"))
        .await;
    assert_eq!(reason, "PartialTriggerError");

    for n in 0..3 {
        bench.world.remove_pod("ns", &format!("producer-{n}"));
    }
    for _ in 0..10 {
        bench.advance(Duration::from_secs(60));
        bench.evaluate("web").await;
    }
    assert_eq!(
        bench.scaler.writes(),
        writes,
        "one failing trigger blocks scaling down"
    );

    // Without it the same target shrinks.
    bench.scaled_object(
        "web",
        json!({"minReplicaCount": 1, "advanced": free_behavior(), "triggers": [workload("app=producer")]}),
    );
    bench.advance(Duration::from_secs(2));
    assert_eq!(bench.write(writes.len()).await.replicas, 1);
    bench
        .passing(bench.publisher.condition("web", "Ready", "True"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_keeps_failing_falls_back() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object(
        "web",
        json!({
            "minReplicaCount": 1,
            "pollingInterval": 10,
            "fallback": {"failureThreshold": 2, "replicas": 4},
            "advanced": free_behavior(),
            "triggers": [{"type": "prometheus", "metadata": {
                "serverAddress": "http://127.0.0.1:1", "query": "up", "threshold": "1"
            }}],
        }),
    );
    let polls = || {
        let text = bench.text();
        let line = text.lines().find_map(|line| {
            line.strip_prefix("neap_polls_total{result=\"error\"} ")
                .map(str::to_owned)
        });
        line.and_then(|count| count.parse::<u64>().ok())
            .unwrap_or(0)
    };
    for n in 1..=3 {
        while polls() < n {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.evaluate("web").await;
        if n < 3 {
            assert_eq!(bench.scaler.writes(), [], "{n} failures are borne");
        }
        bench.advance(Duration::from_secs(10));
    }
    assert_eq!(bench.write(0).await.replicas, 4);
    bench
        .passing(bench.publisher.condition("web", "Fallback", "True"))
        .await;
    bench
        .passing(bench.publisher.event("ScaledObjectFallbackActivated"))
        .await;
    bench.stop().await;
}
