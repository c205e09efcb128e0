//! One owner per target.

use std::time::Duration;

use neap_coordinator::publish::PublishError;
use neap_coordinator::world::{HpaFacts, KedaPresence, ObjectKind};
use serde_json::json;

use crate::bench::{Bench, NS, key, target_id};

fn spec() -> serde_json::Value {
    json!({
        "minReplicaCount": 1,
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

fn hpa(name: &str, of: Option<&str>) -> HpaFacts {
    HpaFacts {
        namespace: NS.into(),
        name: name.into(),
        uid: format!("hpa-{name}").into(),
        resource_version: "1".into(),
        target: target_id("web"),
        scaled_object: of.map(|name| (name.into(), format!("so-{name}").into())),
        is_no_owner: false,
        external_metrics_answered: false,
        deleting: false,
    }
}

async fn wanting_three() -> Bench {
    let bench = Bench::start().await;
    bench.world.set_keda(KedaPresence::Gone);
    bench.deployment("web", 1);
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_an_hpa_is_decided_and_explained_and_not_written() {
    let bench = wanting_three().await;
    bench.world.apply_hpa(hpa("mine", None));
    bench.scaled_object("web", spec());
    bench.evaluate("web").await;
    let (reason, message) = bench
        .passing(bench.publisher.condition("web", "Ready", "False"))
        .await;
    assert_eq!(reason, "ScaledObjectCheckFailed");
    assert!(
        message.contains("is already managed by the hpa 'mine'"),
        "{message}"
    );
    assert_eq!(bench.scaler.writes(), []);
    assert!(bench.text().contains("kube_horizontalpodautoscaler_status_desired_replicas{namespace=\"ns\",horizontalpodautoscaler=\"keda-hpa-web\"} 3"));

    bench.world.remove_hpa(&key("mine"));
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.advance(Duration::from_secs(3));
    bench
        .passing(bench.publisher.condition("web", "Ready", "True"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_living_keda_owns_is_not_touched_at_all() {
    let bench = wanting_three().await;
    bench.world.set_keda(KedaPresence::Alive {
        namespace: "keda".into(),
    });
    bench.scaled_object("web", spec());
    for _ in 0..3 {
        bench.advance(Duration::from_secs(30));
        bench.evaluate("web").await;
    }
    assert_eq!(bench.scaler.writes(), []);
    assert_eq!(bench.publisher.patches(), 0, "not even its status");

    // KEDA goes and leaves its HPA behind.
    bench.world.apply_hpa(hpa("keda-hpa-web", Some("web")));
    bench.world.set_keda(KedaPresence::Gone);
    bench
        .passing(bench.publisher.hpa_removed("keda-hpa-web"))
        .await;
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes(), [], "two never scale at once");
    bench.world.remove_hpa(&key("keda-hpa-web"));
    bench.advance(Duration::from_secs(1));
    assert_eq!(
        bench.write(0).await.replicas,
        3,
        "from the current replicas"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_before_every_owner_is_known() {
    let bench = Bench::start_unlisted().await;
    bench.deployment("web", 1);
    bench.deployment("free", 1);
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.scaled_object("web", spec());
    bench.scaled_object("free", spec());
    for _ in 0..20 {
        bench.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.evaluations(), 0);
    // The HPA that owns one of them is listed last.
    bench.world.apply_hpa(hpa("mine", None));
    for kind in ObjectKind::ALL {
        bench.world.mark_synced(kind);
    }
    assert_eq!(bench.write(0).await.target, "free");
    bench.evaluate("web").await;
    assert_eq!(bench.scaler.writes().len(), 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_of_keda_stays_while_nobody_knows_whether_keda_lives() {
    let bench = wanting_three().await;
    bench.world.set_keda(KedaPresence::Unknown);
    bench.world.apply_hpa(hpa("keda-hpa-web", Some("web")));
    bench.scaled_object("web", spec());
    for _ in 0..3 {
        bench.advance(Duration::from_secs(30));
        bench.evaluate("web").await;
    }
    assert_eq!(bench.scaler.writes(), []);
    assert_eq!(bench.publisher.patches(), 0, "not even its status");
    assert_eq!(bench.publisher.hpas_removed(), [] as [&str; 0]);

    bench.world.set_keda(KedaPresence::Gone);
    bench
        .passing(bench.publisher.hpa_removed("keda-hpa-web"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_that_may_not_be_removed_is_named() {
    let bench = wanting_three().await;
    bench.publisher.keep_hpas(PublishError::Refused(
        "horizontalpodautoscalers is forbidden".into(),
    ));
    bench.world.apply_hpa(hpa("keda-hpa-web", Some("web")));
    bench.scaled_object("web", spec());
    let (reason, message) = bench
        .passing(bench.publisher.condition("web", "Ready", "False"))
        .await;
    assert_eq!(reason, "ScaledObjectCheckFailed");
    for part in ["'keda-hpa-web'", "is forbidden", "rbac.takeOver"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(bench.scaler.writes(), []);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_of_two_scaled_objects_has_the_target() {
    let bench = wanting_three().await;
    bench.scaled_object("web", spec());
    let mut second = spec();
    second["scaleTargetRef"] = json!({"name": "web"});
    second["maxReplicaCount"] = json!(2);
    bench.apply(
        "younger",
        second,
        json!({"creationTimestamp": "2027-01-15T07:59:00Z"}),
    );
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 3);
    let (_, message) = bench
        .passing(bench.publisher.condition("younger", "Ready", "False"))
        .await;
    assert!(
        message.contains("is already managed by the ScaledObject 'web'"),
        "{message}"
    );
    bench
        .passing(bench.publisher.condition("web", "Ready", "True"))
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_object_restores_the_replicas_and_lets_go() {
    let bench = wanting_three().await;
    let mut restoring = spec();
    restoring["advanced"] = json!({"restoreToOriginalReplicaCount": true});
    let metadata = json!({"finalizers": ["finalizer.keda.sh"]});
    bench.apply("web", restoring.clone(), metadata.clone());
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;

    let mut deleted = metadata;
    deleted["deletionTimestamp"] = json!("2027-01-15T08:00:10Z");
    bench.apply("web", restoring, deleted);
    bench.advance(Duration::from_millis(50));
    bench
        .passing(bench.publisher.finalizer_removed("web"))
        .await;
    assert_eq!(bench.scaler.writes().last().unwrap().replicas, 1);
    bench.world.remove_scaled_object(&key("web"));
    bench.stop().await;
}
