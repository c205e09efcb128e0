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
async fn the_crossing_is_met_also_where_other_pods_are_not_there_yet() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    let mut spec = spec();
    spec["advanced"] = json!({"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {
        "policies": [{"type": "Pods", "value": 10, "periodSeconds": 15}]}}}});
    bench.scaled_object("web", spec);
    bench.asked().await;
    let mut agent = bench.agent();
    let queue = agent.backlog("web-0", 8080);
    agent.holds(queue, 0);
    bench.advance(Duration::from_secs(2));
    // After 2 s the mean over 2 s is 8, and two replicas do for that.
    agent.holds(queue, 8);
    bench.advance(Duration::from_secs(2));
    agent.holds(queue, 8);
    assert_eq!(bench.write(0).await.replicas, 2);
    // The second before the next write begins when the decider has heard of this one.
    bench.evaluate("web").await;
    bench.pod("web", 1);
    bench.advance(Duration::from_secs(2));
    agent.holds(queue, 8);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes().len(), 1);

    // More than 4.4 each for two pods, one of which nobody has read yet, asks for a third: with 14
    // in place of 8 the mean gains 3 a second.
    agent.holds(queue, 14);
    bench.evaluate("web").await;
    bench.advance(Duration::from_millis(210));
    assert_eq!(bench.scaler.writes().len(), 1, "8.78 after 260 ms");
    bench.advance(Duration::from_millis(17));
    // The clock stands still here: who looked again a while later would never come.
    assert_eq!(bench.scaler.write(1).await.replicas, 3, "8.83 after 277 ms");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_nobody_serves_is_answered_as_it_ages() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    let mut spec = spec();
    spec["triggers"][0]["metadata"] = json!({"port": "8080", "metric": "delay", "value": "1000"});
    bench.scaled_object("web", spec);
    bench.asked().await;
    let mut agent = bench.agent();
    let (queue, opens) = (agent.backlog("web-0", 8080), agent.passive_opens("web-0"));
    agent.gauge(queue, 0.0, 0);
    agent.counter(opens, 10);
    for _ in 0..4 {
        bench.advance(Duration::from_secs(1));
        agent.heartbeat();
    }
    // Five come and nobody takes them. From here on nothing changes on the node but time.
    agent.gauge(queue, 0.0, 5);
    agent.counter(opens, 15);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), []);
    for _ in 0..6 {
        bench.advance(Duration::from_secs(1));
        agent.heartbeat();
    }
    let first = bench.write(0).await;
    assert!(first.replicas > 1, "{first:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_samples_is_not_looked_at_over_and_over() {
    let bench = Bench::start().await;
    bench.deployment("web", 2);
    bench.scaled_object("web", spec());
    bench.asked().await;
    let mut agent = bench.agent();
    let (first, second) = (agent.backlog("web-0", 8080), agent.backlog("web-1", 8080));
    agent.gauge(first, 0.0, 0);
    for _ in 0..4 {
        bench.advance(Duration::from_secs(1));
        agent.heartbeat();
    }
    bench.evaluate("web").await;
    let before = bench.evaluations();
    for _ in 0..20 {
        bench.advance(Duration::from_secs(1));
        agent.heartbeat();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let looks = bench.evaluations() - before;
    assert!(
        looks <= 3,
        "{looks} looks in 20 s in which nothing happened"
    );

    // Its first reading, and its window 2 s later, are told without a further reading.
    agent.gauge(second, 0.0, 40);
    bench.advance(Duration::from_millis(1_000));
    agent.heartbeat();
    bench.advance(Duration::from_millis(1_050));
    agent.heartbeat();
    assert!(bench.write(0).await.replicas > 2);
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
