//! What survives a leader.

use std::time::Duration;

use neap_coordinator::clock::Clock;
use serde_json::json;

use crate::bench::Bench;
use crate::objects::wall;

fn spec() -> serde_json::Value {
    json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 50,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        }}},
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stabilisation_window_goes_on_where_it_was() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec());
    for n in 0..5 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    bench.write(0).await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes().last().unwrap().replicas, 5);
    let writes = bench.scaler.writes().len();

    // The load goes: from here on 1 replica is recommended, and 5 are held for 300 s.
    for n in 1..5 {
        bench.world.remove_pod("ns", &format!("producer-{n}"));
    }
    for _ in 0..10 {
        bench.advance(Duration::from_secs(10));
        bench.evaluate("web").await;
    }
    assert_eq!(bench.scaler.writes().len(), writes);
    let (replicas, version) = bench.scaler.get("web");
    let disk = bench.stop().await;

    // The machine is another one, just booted; 60 s have passed on the wall.
    let bench = Bench::start_at(disk, 20, 102 + 60).await;
    bench.scaler.set("web", replicas, version);
    bench.pod("producer", 0);
    for n in 0..5 {
        bench.pod("web", n);
    }
    bench.scaled_object("web", spec());
    // 160 s of the window are over.
    for _ in 0..12 {
        bench.advance(Duration::from_secs(10));
        bench.evaluate("web").await;
        assert_eq!(
            bench.scaler.writes(),
            [],
            "without its history the window would not hold"
        );
    }
    bench.advance(Duration::from_secs(40));
    assert_eq!(
        bench.write(0).await.replicas,
        1,
        "and with a new one it would hold for 300 s more"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cooldown_counts_from_the_last_activity_and_not_from_an_earlier_one() {
    let spec = json!({
        "cooldownPeriod": 100,
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    });
    let bench = Bench::start().await;
    bench.deployment("web", 0);
    bench.scaled_object("web", spec.clone());
    bench.pod("producer", 0);
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 1);
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    // Active for longer, and for less than what is worth an entry of its own.
    bench.advance(Duration::from_secs(3));
    bench.evaluate("web").await;
    let last_active = bench.clock.wall();
    bench.world.remove_pod("ns", "producer-0");
    bench.evaluate("web").await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    let (replicas, version) = bench.scaler.get("web");
    let seconds_on = bench.clock.wall().as_second() + 1 - wall(0).as_second();
    let disk = bench.stop().await;

    let bench = Bench::start_at(disk, 20, seconds_on).await;
    bench.scaler.set("web", replicas, version);
    bench.pod("web", 0);
    bench.scaled_object("web", spec);
    let since = bench.clock.wall().duration_since(last_active);
    let left = Duration::from_secs(100) - since.unsigned_abs();
    bench.advance(left - Duration::from_secs(2));
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), [], "the cooldown goes on");
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.write(0).await.replicas, 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_is_set_changes_nothing() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec());
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    bench.write(0).await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    let writes = bench.scaler.writes().len();
    for n in 1..3 {
        bench.world.remove_pod("ns", &format!("producer-{n}"));
    }
    let set_to = bench.clock.wall();
    bench.clock.set_wall(set_to + Duration::from_secs(3_600));
    for _ in 0..5 {
        bench.advance(Duration::from_secs(10));
        bench.evaluate("web").await;
    }
    assert_eq!(
        bench.scaler.writes().len(),
        writes,
        "an hour on the wall is not an hour"
    );
    bench.clock.set_wall(set_to - Duration::from_secs(3_600));
    bench.advance(Duration::from_secs(255));
    assert_eq!(bench.write(writes).await.replicas, 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_scaled_from_zero_before_the_commit_counts_as_active() {
    let spec = json!({
        "cooldownPeriod": 100,
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    });
    let bench = Bench::start().await;
    bench.deployment("web", 0);
    bench.scaled_object("web", spec.clone());
    for _ in 0..3 {
        bench.advance(Duration::from_secs(2));
        bench.evaluate("web").await;
    }
    let disk = bench.stop().await;

    // The log says 0. A leader that died while it scaled left 1.
    let bench = Bench::start_at(disk, 20, 10).await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec);
    bench.evaluate("web").await;
    bench.advance(Duration::from_secs(90));
    bench.evaluate("web").await;
    assert_eq!(
        bench.scaler.writes(),
        [],
        "it was activated when the new leader saw it"
    );
    bench.advance(Duration::from_secs(11));
    assert_eq!(bench.write(0).await.replicas, 0);
    bench.stop().await;
}
