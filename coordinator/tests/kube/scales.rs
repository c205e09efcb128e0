//! Scales of every kind of target.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use neap_coordinator::scaler::{ScaleError, Scaler};
use neap_coordinator::world::{TargetProblem, TargetState, is_older_version};
use serde_json::json;

use crate::bench::{apply_definition, bench, create, leader};

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn a_scale_is_read_written_and_watched() {
    let bench = bench("scale").await;
    bench.deployment("web", 1).await;
    bench
        .scaled_object("web", json!({"name": "web", "kind": "deployment"}))
        .await;
    let target = bench.target("apps/v1", "Deployment", "web");
    bench
        .see("the target is found", |_| {
            bench.replicas(&target).filter(|n| *n == 1)
        })
        .await;
    bench
        .see("its pod is known, with an address", |world| {
            world
                .pods_of(&target)
                .iter()
                .any(|pod| !pod.ips.is_empty() && pod.node.is_some())
                .then_some(())
        })
        .await;
    let pods = bench.world.pods_of(&target);
    assert_eq!(pods[0].shape.declared_tcp_ports(), [8080]);
    assert_eq!(pods[0].started_containers[0].name.as_ref(), "app");
    assert_eq!(pods[0].started_containers[0].id.as_str().len(), 64);

    // A write must carry the latest version, also where nothing of the scale changed.
    let noted = Patch::Merge(json!({"metadata": {"annotations": {"note": "anything"}}}));
    let noted = bench
        .api::<Deployment>()
        .patch("web", &PatchParams::default(), &noted)
        .await
        .unwrap();
    let version = noted.metadata.resource_version.unwrap();
    bench
        .see(
            "a change of nothing that matters moves the version",
            |world| match world.target(&target) {
                TargetState::Found(facts) => {
                    (!is_older_version(&facts.resource_version, &version)).then_some(())
                }
                _ => None,
            },
        )
        .await;

    let scaler = bench.scaler();
    let deadline = || bench.clock.boottime() + Duration::from_secs(10);
    let written = loop {
        let scale = scaler.read(&target).await.unwrap();
        assert_eq!(scale.selector.as_deref(), Some("app=web"));
        match scaler
            .write(&target, 3, &scale.resource_version, leader(), deadline())
            .await
        {
            // The Deployment controller writes status all the time.
            Err(ScaleError::Conflict) => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(written.replicas, 3);
    bench
        .see("the write is watched", |_| {
            bench.replicas(&target).filter(|n| *n == 3)
        })
        .await;
    let stale = scaler
        .write(&target, 2, "1", leader(), deadline())
        .await
        .unwrap_err();
    assert_eq!(stale, ScaleError::Conflict);

    let fields = bench
        .api::<Deployment>()
        .get("web")
        .await
        .unwrap()
        .metadata
        .managed_fields
        .unwrap();
    assert!(
        fields
            .iter()
            .any(|f| f.manager.as_deref() == Some("neap")
                && f.subresource.as_deref() == Some("scale"))
    );
    let by_hand = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let params = PatchParams {
        field_manager: Some("by-hand".into()),
        ..PatchParams::default()
    };
    bench
        .api::<Deployment>()
        .patch("web", &params, &by_hand)
        .await
        .unwrap();
    bench
        .see("a change by hand is watched", |_| {
            bench.replicas(&target).filter(|n| *n == 0)
        })
        .await;
    assert_eq!(scaler.read(&target).await.unwrap().replicas, 0);
    bench
        .see("whose it was", |_| {
            bench.last_writer(&target).filter(|by| &**by == "by-hand")
        })
        .await;
    bench
        .see("its pods go", |world| {
            world.pods_of(&target).is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn targets_of_every_kind_and_what_is_wrong_with_them() {
    let bench = bench("kinds").await;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"crew": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"crew": {"type": "integer"}, "labels": {"type": "string"}}}}});
    apply_definition(
        &bench.client,
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "ships.kube-test.dev"},
            "spec": {"group": "kube-test.dev", "scope": "Namespaced",
                "names": {"kind": "Ship", "plural": "ships", "singular": "ship"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew", "labelSelectorPath": ".status.labels"}}}]}}),
    )
    .await;
    let ships: Api<DynamicObject> = Api::namespaced_with(
        bench.client.clone(),
        &bench.namespace,
        &ApiResource {
            group: "kube-test.dev".into(),
            version: "v1".into(),
            api_version: "kube-test.dev/v1".into(),
            kind: "Ship".into(),
            plural: "ships".into(),
        },
    );
    create(&ships, json!({"apiVersion": "kube-test.dev/v1", "kind": "Ship", "metadata": {"name": "ark"}, "spec": {"crew": 2}})).await;
    bench
        .scaled_object(
            "ark",
            json!({"name": "ark", "apiVersion": "kube-test.dev/v1", "kind": "ship"}),
        )
        .await;
    let ark = bench.target("kube-test.dev/v1", "ship", "ark");
    bench
        .see("a custom resource is found", |_| {
            bench.replicas(&ark).filter(|n| *n == 2)
        })
        .await;
    let scale = bench.scaler().read(&ark).await.unwrap();
    let deadline = bench.clock.boottime() + Duration::from_secs(10);
    bench
        .scaler()
        .write(&ark, 5, &scale.resource_version, leader(), deadline)
        .await
        .unwrap();
    bench
        .see("and followed", |_| bench.replicas(&ark).filter(|n| *n == 5))
        .await;
    let by_flux = PatchParams {
        field_manager: Some("flux".into()),
        ..PatchParams::default()
    };
    let crew = Patch::Merge(json!({"spec": {"crew": 1}}));
    ships.patch("ark", &by_flux, &crew).await.unwrap();
    // Its replicas stand in another field than spec.replicas.
    bench
        .see("whose it was", |_| {
            bench.last_writer(&ark).filter(|by| &**by == "flux")
        })
        .await;

    for (name, target, expected) in [
        (
            "no-such",
            json!({"name": "no-such"}),
            "there is no Deployment \"no-such\"",
        ),
        (
            "no-scale",
            json!({"name": "x", "kind": "DaemonSet"}),
            "DaemonSet of apps/v1 has no scale subresource",
        ),
        (
            "no-kind",
            json!({"name": "x", "kind": "Rocket"}),
            "\"Rocket\" is not a kind of apps/v1",
        ),
        (
            "no-version",
            json!({"name": "x", "apiVersion": "apps/v9"}),
            "\"apps/v9\" is not served",
        ),
    ] {
        bench.scaled_object(name, target.clone()).await;
        let key = bench.key(name);
        let problem = bench
            .see(name, |world| {
                let entry = world.scaled_object(&key)?;
                match world.target(&entry.target) {
                    TargetState::Unavailable(problem) => Some(problem),
                    _ => None,
                }
            })
            .await;
        assert!(problem.to_string().contains(expected), "{problem}");
        assert!(!matches!(
            problem.as_ref(),
            TargetProblem::Unreadable { .. }
        ));
    }
    bench.deployment("no-such", 0).await;
    let late = bench.target("apps/v1", "Deployment", "no-such");
    bench
        .see("a target that comes later is found", |_| {
            bench.replicas(&late).filter(|n| *n == 0)
        })
        .await;
}
