//! What survives a leader.

use std::sync::Arc;
use std::time::Duration;

use neap_coordinator::clock::Clock;
use serde_json::json;

use crate::bench::{Bench, scaled_object};
use crate::objects::{facts, pod, target_id, wall};

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

/// One that rests at zero once its load was away for 100 s.
fn resting() -> serde_json::Value {
    json!({
        "cooldownPeriod": 100,
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

/// A target at the replicas that its load asks for, of which all but one goes: they are held for 300 s.
async fn held(load: i32) -> Bench {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec());
    for n in 0..load {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    bench.write(0).await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    for n in 1..load {
        bench.world.remove_pod("ns", &format!("producer-{n}"));
    }
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stabilisation_window_goes_on_where_it_was() {
    let bench = held(5).await;
    assert_eq!(bench.scaler.writes().last().unwrap().replicas, 5);
    let writes = bench.scaler.writes().len();
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
    let bench = Bench::start().await;
    bench.deployment("web", 0);
    bench.scaled_object("web", resting());
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
    bench.scaled_object("web", resting());
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
    let bench = held(3).await;
    let writes = bench.scaler.writes().len();
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
    let bench = Bench::start().await;
    bench.deployment("web", 0);
    bench.scaled_object("web", resting());
    for _ in 0..3 {
        bench.advance(Duration::from_secs(2));
        bench.evaluate("web").await;
    }
    let disk = bench.stop().await;

    // The log says 0. A leader that died while it scaled left 1.
    let bench = Bench::start_at(disk, 20, 10).await;
    bench.deployment("web", 1);
    bench.scaled_object("web", resting());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_before_the_logs_time_is_known_is_no_older_than_it_is() {
    // A decision time that has come far.
    let bench = Bench::start().await;
    bench.deployment("other", 1);
    bench.scaled_object("other", spec());
    for _ in 0..3 {
        bench.advance(Duration::from_secs(5_000));
        bench.evaluate("other").await;
    }
    let now = bench.clock.wall().as_second() + 1 - wall(0).as_second();
    let disk = bench.stop().await;

    let mut new = resting();
    new["initialCooldownPeriod"] = json!(600);
    let created = json!({"creationTimestamp": wall(now - 120).to_string()});
    let bench = Bench::start_filled(disk, 20, now, |world, scaler| {
        scaler.set("web", 1, 1);
        world.apply_scaled_object(scaled_object("web", new, created));
        world.apply_target_facts(&target_id("web"), facts("web", 1, 1));
        world.apply_pod(Arc::new(pod("web", 0)));
    })
    .await;
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), [], "it is two minutes old");
    bench.advance(Duration::from_secs(470));
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), []);
    bench.advance(Duration::from_secs(15));
    assert_eq!(bench.write(0).await.replicas, 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_made_anew_leaves_nothing_of_its_predecessor_in_the_log() {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    let mut restoring = spec();
    restoring["advanced"]["restoreToOriginalReplicaCount"] = json!(true);
    let metadata = json!({"finalizers": ["finalizer.keda.sh"]});
    bench.apply("web", restoring.clone(), metadata.clone());
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;

    let mut second = metadata;
    second["uid"] = json!("so-web-2");
    bench.apply("web", restoring.clone(), second.clone());
    for _ in 0..2 {
        bench.evaluate("web").await;
        bench.advance(Duration::from_secs(2));
    }
    bench.evaluate("web").await;
    let (replicas, version) = bench.scaler.get("web");
    let disk = bench.stop().await;

    // The second found three replicas, and leaves them.
    let bench = Bench::start_at(disk, 20, 10).await;
    bench.scaler.set("web", replicas, version);
    second["deletionTimestamp"] = json!("2027-01-15T08:00:10Z");
    bench.apply("web", restoring, second);
    bench
        .passing(bench.publisher.finalizer_removed("web"))
        .await;
    assert_eq!(bench.scaler.writes(), []);
    bench.stop().await;
}
