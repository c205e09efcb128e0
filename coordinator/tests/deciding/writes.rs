//! How writes behave when the API server does not just take them.

use std::time::Duration;

use neap_coordinator::scaler::ScaleError;
use serde_json::json;

use crate::bench::Bench;

fn spec() -> serde_json::Value {
    json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 50,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
        }}},
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

async fn bench_at_one() -> Bench {
    let bench = Bench::start().await;
    bench.deployment("web", 1);
    bench.scaled_object("web", spec());
    bench.pod("producer", 0);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), []);
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_first_at_most_one_write_per_second() {
    let bench = bench_at_one().await;
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(25));
    let first = bench.write(0).await;
    assert_eq!(first.replicas, 2);
    bench.pod("producer", 2);
    bench.evaluate("web").await;
    bench.pod("producer", 3);
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes().len(), 1);
    bench.advance(Duration::from_millis(1_000));
    let second = bench.write(1).await;
    assert_eq!(second.replicas, 4, "what was held back comes together");
    assert!(second.at.since(first.at) >= Duration::from_secs(1));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_read_again_and_decided_again() {
    let bench = bench_at_one().await;
    // Someone else changed the object, and the watch has not said so yet.
    bench.scaler.set("web", 1, 7);
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(25));
    assert_eq!(bench.refusal(0).await.1, ScaleError::Conflict);
    bench.advance(Duration::from_millis(25));
    let write = bench.write(0).await;
    assert_eq!((write.replicas, write.version.as_str()), (2, "7"));
    assert!(
        bench
            .text()
            .contains("neap_scale_writes_total{result=\"conflict\"} 1")
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_carries_the_version_last_seen_though_nothing_else_changed() {
    let bench = bench_at_one().await;
    // A controller writes the status all the time.
    for version in [5, 8] {
        bench.scaler.set("web", 1, version);
        bench.see("web");
    }
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(25));
    let write = bench.write(0).await;
    assert_eq!((write.replicas, write.version.as_str()), (2, "8"));
    assert_eq!(bench.scaler.refused(), [], "no conflict");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_a_conflict_shows_first_counts_too() {
    let bench = bench_at_one().await;
    for round in 0..3 {
        bench.pod("producer", round + 1);
        bench.advance(Duration::from_millis(1_100));
        bench.write(usize::try_from(round).unwrap()).await;
        bench.evaluate("web").await;
        // The watch is late: the next write finds the reset.
        let (_, version) = bench.scaler.get("web");
        bench.scaler.set("web", 1, version + 1);
    }
    bench.pod("producer", 4);
    bench.advance(Duration::from_millis(1_100));
    bench.refusal(2).await;
    bench.see_by_hand("web");
    let event = bench
        .passing(bench.publisher.event("TargetContested"))
        .await;
    assert!(event.note.contains("argocd-controller"), "{}", event.note);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_honoured_for_all_targets() {
    let bench = bench_at_one().await;
    bench.deployment("other", 1);
    let mut other = spec();
    other["triggers"][0]["metadata"]["podSelector"] = json!("app=late");
    bench.scaled_object("other", other);
    bench.evaluate("other").await;
    bench.scaler.fail([ScaleError::Throttled {
        retry_after: Duration::from_secs(40),
    }]);
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(25));
    bench.refusal(0).await;
    bench.evaluate("web").await;
    bench.pod("late", 0);
    bench.pod("late", 1);
    bench.advance(Duration::from_secs(30));
    bench.evaluate("web").await;
    bench.evaluate("other").await;
    assert_eq!(bench.scaler.writes(), []);
    bench.advance(Duration::from_secs(11));
    bench.write(1).await;
    let mut written: Vec<String> = bench
        .scaler
        .writes()
        .into_iter()
        .map(|write| write.target)
        .collect();
    written.sort();
    assert_eq!(written, ["other", "web"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_write_is_shown_and_tried_again() {
    let bench = bench_at_one().await;
    bench.scaler.fail([ScaleError::Forbidden(
        "deployments.apps/scale is forbidden".into(),
    )]);
    bench.pod("producer", 1);
    bench.advance(Duration::from_millis(25));
    bench.refusal(0).await;
    let event = bench.passing(bench.publisher.event("FailedRescale")).await;
    assert!(event.note.contains("is forbidden"), "{}", event.note);
    bench.advance(Duration::from_millis(1_050));
    assert_eq!(bench.write(0).await.replicas, 2);
    bench.stop().await;
}

/// At one replica; twenty are asked for from here on, of which a policy allows four in 60 s.
async fn held_to_four_a_minute(bench: &Bench) {
    let mut spec = spec();
    spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]["policies"] =
        json!([{"type": "Pods", "value": 4, "periodSeconds": 60}]);
    bench.scaled_object("web", spec);
    bench.evaluate("web").await;
    (1..20).for_each(|n| bench.pod("producer", n));
    bench.advance(Duration::from_millis(25));
}

/// Less than the policy's period.
async fn half_a_minute(bench: &Bench) {
    for _ in 0..5 {
        bench.advance(Duration::from_secs(6));
        bench.evaluate("web").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_done_without_an_answer_counts_for_the_policy() {
    let bench = bench_at_one().await;
    bench.scaler.leave_unanswered(1);
    held_to_four_a_minute(&bench).await;
    assert_eq!(bench.write(0).await.replicas, 5);
    half_a_minute(&bench).await;
    assert_eq!(bench.scaler.writes().len(), 1);
    assert_eq!(bench.scaler.refused(), []);
    bench.advance(Duration::from_secs(35));
    assert_eq!(bench.write(1).await.replicas, 9);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_arrives_after_it_was_looked_for_counts_for_the_policy() {
    let bench = bench_at_one().await;
    bench.scaler.fail([ScaleError::Timeout]);
    held_to_four_a_minute(&bench).await;
    assert_eq!(bench.refusal(0).await.0, 5);
    bench.scaler.set("web", 5, 2);
    bench.see("web");
    half_a_minute(&bench).await;
    assert_eq!(bench.scaler.writes(), []);
    bench.advance(Duration::from_secs(35));
    assert_eq!(bench.write(0).await.replicas, 9);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_known_not_to_be_done_does_not_count() {
    let bench = bench_at_one().await;
    bench.scaler.fail([
        ScaleError::Forbidden("deployments.apps/scale is forbidden".into()),
        ScaleError::Timeout,
    ]);
    held_to_four_a_minute(&bench).await;
    bench.refusal(0).await;
    bench.advance(Duration::from_millis(1_050));
    assert_eq!(bench.refusal(1).await, (5, ScaleError::Timeout));
    bench.advance(Duration::from_millis(2_050));
    assert_eq!(bench.write(0).await.replicas, 5);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_unknown_fate_is_sent_again_on_its_version_and_counts_once() {
    let bench = bench_at_one().await;
    bench.scaler.fail([ScaleError::Timeout]);
    bench.scaler.set_unreadable(true);
    held_to_four_a_minute(&bench).await;
    bench.refusal(0).await;
    bench.scaler.set_unreadable(false);
    bench.advance(Duration::from_millis(1_050));
    assert_eq!(bench.write(0).await.replicas, 5, "only one of both is done");
    half_a_minute(&bench).await;
    assert_eq!(bench.scaler.writes().len(), 1);
    bench.advance(Duration::from_secs(35));
    assert_eq!(bench.write(1).await.replicas, 9);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_resetting_the_replicas_is_named() {
    let bench = bench_at_one().await;
    bench.pod("producer", 1);
    for round in 0..3 {
        bench.advance(Duration::from_millis(1_100));
        assert_eq!(
            bench.write(round).await.replicas,
            2,
            "a change from outside is answered"
        );
        bench.evaluate("web").await;
        bench.set_by_hand("web", 1);
    }
    let event = bench
        .passing(bench.publisher.event("TargetContested"))
        .await;
    assert!(event.note.contains("argocd-controller"), "{}", event.note);
    let contested = bench.publisher.condition("web", "Contested", "True");
    let (_, message) = bench.passing(contested).await;
    assert!(message.contains("argocd-controller"), "{message}");
    bench.advance(Duration::from_secs(13));
    let fourth = bench.write(3).await;
    assert_eq!(fourth.replicas, 2);
    let third = &bench.scaler.writes()[2];
    assert!(
        fourth.at.since(third.at) >= Duration::from_secs(15),
        "one write per 15 s: {third:?} {fourth:?}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_load_writes_nothing() {
    let bench = bench_at_one().await;
    bench
        .passing(bench.publisher.condition("web", "Ready", "True"))
        .await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    let before = bench.publisher.patches();
    for _ in 0..60 {
        bench.advance(Duration::from_secs(5));
        bench.evaluate("web").await;
    }
    assert_eq!(bench.scaler.writes(), []);
    let written = bench.publisher.patches() - before;
    assert!(
        written <= 6,
        "{written} status writes in 5 minutes: at most one a minute, for lastActiveTime"
    );
    bench.stop().await;
}
