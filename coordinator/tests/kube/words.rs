//! Status, events, and what is read for triggers.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use neap_api::ScaledObject;
use neap_coordinator::publish::{EventNote, EventSeverity, Publisher};
use neap_coordinator::source::SecretReader;
use neap_coordinator::source::kube::KubeReader;
use serde_json::json;

use crate::bench::{bench, create};

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn status_events_and_secrets() {
    let bench = bench("words").await;
    let object = bench.scaled_object("web", json!({"name": "web"})).await;
    let (key, publisher) = (bench.key("web"), bench.publisher());
    let conditions = json!([{"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "m"}]);
    publisher
        .patch_status(
            &key,
            &json!({"conditions": conditions, "hpaName": "keda-hpa-web"}),
        )
        .await
        .unwrap();
    publisher
        .patch_status(&key, &json!({"hpaName": null}))
        .await
        .unwrap();
    let status = bench
        .api::<ScaledObject>()
        .get("web")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!((status.conditions.len(), status.hpa_name), (1, None));

    for text in ["first", "second"] {
        let note = EventNote {
            regarding: key.clone(),
            uid: object.uid().unwrap(),
            severity: EventSeverity::Warning,
            reason: "ScaledObjectCheckFailed".into(),
            note: text.repeat(400),
        };
        publisher.event(&note).await.unwrap();
    }
    let events = bench
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let about: Vec<_> = events
        .iter()
        .filter(|event| event.regarding.as_ref().and_then(|r| r.uid.clone()) == object.uid())
        .collect();
    assert_eq!(about.len(), 2);
    assert!(
        about
            .iter()
            .all(|event| event.type_.as_deref() == Some("Warning"))
    );

    create::<Secret>(
        &bench.api(),
        json!({"metadata": {"name": "s"}, "stringData": {"password": "one"}}),
    )
    .await;
    let reader = KubeReader::new(bench.client.clone());
    let read = reader.secret(&bench.namespace, "s").await.unwrap().unwrap();
    assert_eq!(
        read.get("password").map(Vec::as_slice),
        Some(b"one".as_slice())
    );
    assert!(
        reader
            .secret(&bench.namespace, "none")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        reader
            .limit_ranges(&bench.namespace)
            .await
            .unwrap()
            .is_empty()
    );
}
