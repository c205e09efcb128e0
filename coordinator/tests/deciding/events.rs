//! Pauses, and what is told of them.

use std::time::Duration;

use serde_json::json;

use crate::bench::Bench;

fn spec() -> serde_json::Value {
    json!({
        "minReplicaCount": 1,
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_and_is_told() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    let paused = json!({"annotations": {"autoscaling.keda.sh/paused": "true"}});
    bench.apply("web", spec(), paused);
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_secs(5));
    bench.evaluate("web").await;
    let (reason, _) = bench
        .passing(bench.publisher.condition("web", "Paused", "True"))
        .await;
    assert_eq!(reason, "ScaledObjectPaused");
    bench
        .passing(bench.publisher.event("ScaledObjectPaused"))
        .await;
    assert_eq!(bench.scaler.writes(), []);

    let at_two = json!({"annotations": {"autoscaling.keda.sh/paused-replicas": "2"}});
    bench.apply("web", spec(), at_two);
    bench.advance(Duration::from_secs(5));
    assert_eq!(
        bench.write(0).await.replicas,
        2,
        "straight to the number, and held there"
    );
    bench.advance(Duration::from_secs(20));
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes().len(), 1);

    bench.apply("web", spec(), json!({}));
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.write(1).await.replicas, 3);
    bench
        .passing(bench.publisher.condition("web", "Paused", "False"))
        .await;
    bench
        .passing(bench.publisher.event("ScaledObjectUnpaused"))
        .await;
    bench.stop().await;
}
