//! Files that wait in directories of the nodes.

use std::time::Duration;

use neap_coordinator::signals::Spool;
use serde_json::json;

use crate::bench::Bench;

const PATH: &str = "/var/spool/jobs";

fn jobs() -> Spool {
    Spool {
        path: PATH.into(),
        max_age: Some(Duration::from_secs(3_600)),
    }
}

fn spec(min: i32) -> serde_json::Value {
    json!({
        "minReplicaCount": min,
        "maxReplicaCount": 10,
        "cooldownPeriod": 30,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
            "scaleDown": {"stabilizationWindowSeconds": 0},
        }}},
        "triggers": [{"type": "node-spool", "metadata": {
            "path": PATH, "value": "5", "activationValue": "1", "maxAge": "1h"
        }}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_on_the_nodes_wake_a_target_and_let_it_rest_again() {
    let bench = Bench::start().await;
    bench.deployment("worker", 0);
    bench.scaled_object("worker", spec(0));
    let mut wanted = bench.wanted.clone();
    let asked = wanted.wait_for(|all| !all.spools.is_empty());
    let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
    assert_eq!(*asked.unwrap().unwrap().spools, [jobs()]);

    let (mut one, mut two) = (bench.agent_on("n1"), bench.agent_on("n2"));
    one.spool_roots(&["/var/spool"]);
    two.spool_roots(&["/var/spool"]);
    let (on_one, on_two) = (one.spool("n1", jobs()), two.spool("n2", jobs()));
    one.gauge(on_one, 0.0, 1);
    two.gauge(on_two, 0.0, 0);
    bench.evaluate("worker").await;
    assert_eq!(
        bench.scaler.writes(),
        [],
        "1 is not above the activation value"
    );

    // 12 files, 5 for each replica; nothing but the agent's word makes the decider look.
    two.gauge(on_two, 0.0, 11);
    bench.advance(Duration::from_millis(25));
    assert_eq!(bench.scaler.write(0).await.replicas, 3);
    bench
        .passing(bench.publisher.event("KEDAScaleTargetActivated"))
        .await;
    for n in 0..3 {
        bench.pod("worker", n);
    }

    // Agents that fall silent, and one that restarts, take nothing away.
    bench.advance(Duration::from_secs(100));
    bench.evaluate("worker").await;
    let mut two = bench.agent_on("n2");
    two.spool_roots(&["/var/spool"]);
    bench.evaluate("worker").await;
    assert_eq!(bench.scaler.writes().len(), 1, "absent is not zero");

    let on_two = two.spool("n2", jobs());
    two.gauge(on_two, 0.0, 0);
    one.gauge(on_one, 0.0, 0);
    bench.evaluate("worker").await;
    for _ in 0..8 {
        bench.advance(Duration::from_secs(5));
        one.heartbeat();
        two.heartbeat();
        bench.evaluate("worker").await;
    }
    assert_eq!(
        bench.scaler.writes().last().map(|write| write.replicas),
        Some(0)
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_no_agent_reads_is_a_failing_trigger_that_says_why() {
    let bench = Bench::start().await;
    bench.deployment("worker", 2);
    bench.scaled_object("worker", spec(1));
    let mut agent = bench.agent();
    agent.spool_roots(&["/srv/in"]);
    agent.heartbeat();
    bench.advance(Duration::from_secs(4));
    agent.heartbeat();
    let says = |part| bench.publisher.condition_says("worker", "HPAActive", part);
    let message = bench.passing(says("is not allowed on any node")).await;
    assert!(
        message.contains("metadata.path: \"/var/spool/jobs\"")
            && message.contains("chart value agent.spoolRoots): /srv/in"),
        "{message}"
    );
    let (reason, _) = bench
        .passing(bench.publisher.condition("worker", "Ready", "False"))
        .await;
    assert_eq!(reason, "TriggerError");

    let mut other = bench.agent_on("n2");
    other.spool_roots(&["/var"]);
    other.spool_problem(jobs(), "No such file or directory (os error 2)");
    bench
        .passing(says("n2: No such file or directory (os error 2)"))
        .await;
    assert_eq!(
        bench.scaler.writes(),
        [],
        "nothing is scaled down by what is not known"
    );
    bench.stop().await;
}
