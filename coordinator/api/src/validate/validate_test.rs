//! What the vectors of KEDA do not reach: Neap's own triggers, surroundings, and the texts.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, PodSpec};
use serde_json::{Value, json};

use super::*;

fn scaled_object_of(spec: Value) -> ScaledObject {
    serde_json::from_value(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "shop", "namespace": "web"}, "spec": spec,
    }))
    .unwrap()
}

fn with_triggers(types: &[&str], min: i32) -> ScaledObject {
    let triggers: Vec<Value> = types
        .iter()
        .map(|t| json!({"type": t, "metadata": {}}))
        .collect();
    scaled_object_of(json!({
        "scaleTargetRef": {"name": "shop"}, "minReplicaCount": min, "triggers": triggers,
    }))
}

fn pod(resources: Value) -> Workload {
    let pod: PodSpec = serde_json::from_value(
        json!({"containers": [{"name": "app", "resources": resources}, {"name": "log"}]}),
    )
    .unwrap();
    Workload::from(&pod)
}

fn reasons(so: &ScaledObject, around: &Surroundings) -> Vec<Reason> {
    scaled_object(so, around, Request::default())
        .into_iter()
        .map(|r| r.reason)
        .collect()
}

fn beside(workload: Workload) -> Surroundings {
    Surroundings {
        workload,
        ..Default::default()
    }
}

#[test]
fn triggers_on_own_pods_need_something_else_to_leave_zero() {
    let around = beside(pod(json!({"requests": {"cpu": "1"}})));
    for own in [
        &["node-accept-queue"][..],
        &["node-pressure", "node-accept-queue"],
    ] {
        assert_eq!(
            reasons(&with_triggers(own, 0), &around),
            [Reason::ScaleToZeroRequirementsNotMet],
            "{own:?}"
        );
        assert!(reasons(&with_triggers(own, 1), &around).is_empty());
    }
    assert!(reasons(&with_triggers(&["node-accept-queue", "cron"], 0), &around).is_empty());
    // Of a kind whose pods are not known nothing is said.
    let unknown = beside(Workload::Unchecked);
    assert!(reasons(&with_triggers(&["node-accept-queue"], 0), &unknown).is_empty());
}

#[test]
fn a_refusal_names_field_value_and_what_is_allowed() {
    let refusals = scaled_object(
        &with_triggers(&["node-pressure"], 0),
        &beside(pod(json!({}))),
        Request::default(),
    );
    assert_eq!(
        refusals[0].to_string(),
        "scaledobject has only triggers on its own pods (cpu, memory, node-accept-queue, node-pressure) AND minReplica is 0 (scale to zero doesn't work in this case) (spec.minReplicaCount = 0; allowed: 1 or more, or a trigger on an event source beside these)"
    );
}

#[test]
fn triggers_on_own_pods_have_no_fallback_and_no_cache() {
    let mut so = with_triggers(&["node-accept-queue"], 1);
    so.spec.fallback = Some(crate::Fallback::default());
    so.spec.triggers[0].use_cached_metrics = Some(true);
    assert_eq!(
        reasons(&so, &beside(Workload::Unchecked)),
        [Reason::IncorrectTriggers, Reason::IncorrectFallback]
    );
}

#[test]
fn requests_may_come_from_a_limit_or_the_namespace() {
    let so = scaled_object_of(json!({
        "scaleTargetRef": {"name": "shop"}, "minReplicaCount": 1,
        "triggers": [{"type": "cpu", "metadata": {"containerName": "app"}}],
    }));
    for (resources, refused) in [
        (json!({}), true),
        (json!({"requests": {"cpu": "0"}}), true),
        (json!({"requests": {"memory": "1Gi"}}), true),
        (json!({"requests": {"cpu": "10m"}}), false),
        (json!({"limits": {"cpu": "1"}}), false),
    ] {
        let found = reasons(&so, &beside(pod(resources.clone())));
        assert_eq!(
            found == [Reason::MissingRequests],
            refused,
            "{resources}: {found:?}"
        );
    }
    let range = |kind: &str| -> LimitRange {
        serde_json::from_value(
            json!({"spec": {"limits": [{"type": kind, "defaultRequest": {"cpu": "100m"}}]}}),
        )
        .unwrap()
    };
    let around = |kind: &str| Surroundings {
        workload: pod(json!({})),
        defaults: [range(kind)].iter().collect(),
        ..Default::default()
    };
    assert!(reasons(&so, &around("Container")).is_empty());
    assert_eq!(reasons(&so, &around("Pod")), [Reason::MissingRequests]);
}

#[test]
fn a_missing_workload_matters_only_for_its_containers() {
    let around = beside(Workload::Missing);
    assert_eq!(
        scaled_object(&with_triggers(&["cpu"], 1), &around, Request::default())[0].message,
        "deployments.apps \"shop\" not found"
    );
    assert!(reasons(&with_triggers(&["cron"], 0), &around).is_empty());
    let dry = Request { dry_run: true };
    assert!(scaled_object(&with_triggers(&["cpu"], 1), &around, dry).is_empty());
}

#[test]
fn an_owner_is_found_whichever_way_the_kind_is_written() {
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "plain"},
        "spec": {"maxReplicas": 3, "scaleTargetRef":
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop"}},
    }))
    .unwrap();
    let mut so = with_triggers(&["cron"], 0);
    so.spec.scale_target_ref.kind = Some("statefulset".into());
    let mut around = Surroundings {
        hpas: vec![(&hpa).into()],
        ..Default::default()
    };
    assert_eq!(reasons(&so, &around), [Reason::OtherHpa]);
    around.hpas[0].owners = vec!["shop".into()];
    assert!(reasons(&so, &around).is_empty());
    around.hpas[0].owners = vec!["other".into()];
    around.hpas[0].exempt = true;
    assert!(reasons(&so, &around).is_empty());
}

#[test]
fn all_faults_are_given_at_once() {
    let so = scaled_object_of(json!({
        "scaleTargetRef": {"name": "shop"}, "minReplicaCount": 3, "maxReplicaCount": 2,
        "fallback": {"failureThreshold": -1, "replicas": 1, "behavior": "magic"},
        "advanced": {"scalingModifiers": {"formula": "queue + 1", "target": "0"}},
        "triggers": [
            {"type": "cron", "metadata": {}, "name": "a"},
            {"type": "cron", "metadata": {}, "name": "a",
             "authenticationRef": {"name": "x", "kind": "Secret"}},
        ],
    }));
    assert_eq!(
        reasons(&so, &beside(Workload::Unchecked)),
        [
            Reason::IncorrectTriggers,
            Reason::IncorrectTriggers,
            Reason::IncorrectReplicas,
            Reason::IncorrectFallback,
            Reason::IncorrectFallback,
            Reason::ScalingModifiers,
        ]
    );
}

#[test]
fn taking_a_finalizer_off_is_not_checked() {
    let mut old = with_triggers(&["cron"], 0);
    old.metadata.finalizers = Some(vec![crate::keys::FINALIZER.into()]);
    let mut new = old.clone();
    new.metadata.finalizers = None;
    assert!(only_removes_finalizers(&old, &new));
    new.spec.min_replica_count = Some(1);
    assert!(!only_removes_finalizers(&old, &new));
    assert!(!only_removes_finalizers(&old, &old.clone()));
}
