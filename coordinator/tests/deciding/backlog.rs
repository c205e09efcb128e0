//! From a queue in a pod to replicas.

use std::time::Duration;

use neap_coordinator::signals::Wanted;
use serde_json::json;

use crate::bench::Bench;

const STEP: Duration = Duration::from_millis(100);

fn spec() -> serde_json::Value {
    json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 10,
        "triggers": [{"type": "node-accept-queue", "metadata": {"port": "8080", "value": "4"}}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_becomes_replicas_and_the_agents_are_asked_for_it() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec());
    let asked = bench.asked().await;
    let list: Vec<_> = asked
        .by_node
        .values()
        .flat_map(|list| list.iter())
        .collect();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].pod.as_str(), &list[0].what),
        ("web-0", &Wanted::AcceptQueue { port: 8080 })
    );
    assert_eq!(list[0].every, STEP);

    let mut agent = bench.agent();
    let queue = agent.backlog("web-0", 8080);
    agent.gauge(queue, 0.0, 0);
    bench.advance(Duration::from_secs(2));
    agent.gauge(queue, 0.0, 0);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), [], "an empty queue changes nothing");

    // 40 connections from now on, and no further word of the agent: the mean over 2 s passes 4.4
    // after 220 ms, and the decider knows when.
    agent.gauge(queue, 0.0, 40);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), []);
    bench.advance(Duration::from_millis(300));
    let first = bench.write(0).await;
    assert!((2..=4).contains(&first.replicas), "{first:?}");
    assert_eq!(
        first.version, "1",
        "the write carries the version that was decided on"
    );

    // The second pod has no sample yet and counts as idle. Without a behaviour the HPA at most
    // doubles, or goes to 4.
    bench.pod("web", 1);
    agent.heartbeat();
    bench.advance(Duration::from_millis(1_100));
    let second = bench.write(1).await;
    assert_eq!(second.replicas, (2 * first.replicas).max(4));
    assert!(second.at.since(first.at) >= Duration::from_secs(1));

    let (reason, _) = bench
        .passing(bench.publisher.condition("web", "Ready", "True"))
        .await;
    assert_eq!(reason, "ScaledObjectReady");
    bench
        .passing(bench.publisher.event("SuccessfulRescale"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_is_averaged_over_its_window_and_follows_the_hpas_formula() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object(
        "web",
        json!({
            "minReplicaCount": 1,
            "maxReplicaCount": 10,
            "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}],
        }),
    );
    // History is kept from when the decider asks for it.
    bench.asked().await;
    let mut agent = bench.agent();
    let cpu = agent.cpu("web-0");
    // 0.15 of a core against a request of 0.1: 150 percent, three times the target.
    for second in 0..=14u64 {
        agent.counter(cpu, second * 150_000);
        bench.advance(Duration::from_secs(1));
    }
    bench.evaluate("web").await;
    assert_eq!(
        bench.scaler.writes(),
        [],
        "14 s do not cover a window of 15 s"
    );
    agent.counter(cpu, 15 * 150_000);
    bench.advance(Duration::from_millis(25));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_signals_scale_nothing() {
    let bench = Bench::start().await;
    bench.deployment("web", 4);
    let mut spec = spec();
    spec["advanced"] = json!({"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}});
    bench.scaled_object("web", spec);
    bench.evaluate("web").await;
    let (reason, message) = bench
        .passing(bench.publisher.condition("web", "AgentsMissing", "True"))
        .await;
    assert_eq!(reason, "NoAgentOnNode");
    assert!(message.starts_with("4 pods"), "{message}");
    for _ in 0..5 {
        bench.advance(Duration::from_secs(600));
        bench.evaluate("web").await;
    }
    assert_eq!(bench.scaler.writes(), [], "absent is not zero");

    // With an agent that sees four empty queues the same target shrinks at once.
    let mut agent = bench.agent();
    let queues: Vec<u32> = (0..4)
        .map(|n| agent.backlog(&format!("web-{n}"), 8080))
        .collect();
    for _ in 0..4 {
        for queue in &queues {
            agent.gauge(*queue, 0.0, 0);
        }
        bench.advance(Duration::from_secs(1));
    }
    agent.heartbeat();
    bench.evaluate("web").await;
    assert_eq!(bench.write(0).await.replicas, 1);
    bench.stop().await;
}
