//! Who owns a target, and what KEDA leaves behind.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use neap_api::ScaledObject;
use neap_coordinator::publish::Publisher;
use neap_coordinator::source::kube::Scope;
use neap_coordinator::world::{KedaPresence, Owner};
use serde_json::{Value, json};

use crate::bench::{bench, create};

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn owners_are_seen_and_what_keda_left_is_removed() {
    let bench = bench("owners").await;
    bench.deployment("web", 1).await;
    let object = bench.scaled_object("web", json!({"name": "web"})).await;
    let key = bench.key("web");
    bench
        .see("Neap owns it", |world| {
            (world.scaled_object(&key).is_some() && world.owner(&key).is_neap()).then_some(())
        })
        .await;
    let hpa = |name: &str, owner: Value| {
        json!({"metadata": {"name": name, "ownerReferences": owner}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
    };
    create::<HorizontalPodAutoscaler>(&bench.api(), hpa("plain", json!([]))).await;
    bench
        .see("a plain HPA owns it", |world| {
            (world.owner(&key)
                == Owner::Hpa {
                    name: "plain".into(),
                })
            .then_some(())
        })
        .await;
    bench
        .api::<HorizontalPodAutoscaler>()
        .delete("plain", &Default::default())
        .await
        .unwrap();
    let of_keda = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": object.uid().unwrap(), "controller": true}]);
    create::<HorizontalPodAutoscaler>(&bench.api(), hpa("keda-hpa-web", of_keda)).await;

    let leases: Api<Lease> = bench.api();
    let now = format!("{:.6}", bench.clock.wall());
    create(
        &leases,
        json!({"metadata": {"name": "operator.keda.sh"},
        "spec": {"holderIdentity": "keda-operator", "leaseDurationSeconds": 15, "renewTime": now}}),
    )
    .await;
    bench
        .see("KEDA owns it", |world| {
            matches!(world.owner(&key), Owner::Keda(_)).then_some(())
        })
        .await;
    // Also for who watches other namespaces alone, unless KEDA is looked for elsewhere.
    let elsewhere = || Scope::new(&["default".to_owned()]);
    let living = bench.follow(elsewhere(), Scope::Cluster).await.0.keda();
    assert!(matches!(living, KedaPresence::Alive { .. }), "{living:?}");
    let gone = bench.follow(elsewhere(), elsewhere()).await.0.keda();
    assert_eq!(gone, KedaPresence::Gone);

    leases
        .delete("operator.keda.sh", &Default::default())
        .await
        .unwrap();
    let publisher = bench.publisher();
    bench
        .see("KEDA is gone", |world| {
            (world.keda() == KedaPresence::Gone).then_some(())
        })
        .await;
    loop {
        let removable = bench
            .see("what it left is removable", |world| {
                match world.owner(&key) {
                    Owner::NeapAfterRemoving(hpa) => Some(Some(hpa)),
                    Owner::Neap => Some(None),
                    _ => None,
                }
            })
            .await;
        let Some(removable) = removable else { break };
        // The HPA controller writes its status meanwhile: the version seen may be old.
        let _ = publisher.remove_hpa(&bench.namespace, &removable).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        bench
            .api::<HorizontalPodAutoscaler>()
            .get_opt("keda-hpa-web")
            .await
            .unwrap()
            .is_none()
    );

    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": ["finalizer.keda.sh"]}}));
    let objects: Api<ScaledObject> = bench.api();
    objects
        .patch("web", &PatchParams::default(), &finalizers)
        .await
        .unwrap();
    objects.delete("web", &Default::default()).await.unwrap();
    bench
        .see("it is being deleted", |world| {
            world
                .scaled_object(&key)?
                .object
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|_| ())
        })
        .await;
    publisher.remove_finalizer(&key).await.unwrap();
    bench
        .see("it is gone", |world| {
            world.scaled_object(&key).is_none().then_some(())
        })
        .await;
    publisher.remove_finalizer(&key).await.unwrap();
}
