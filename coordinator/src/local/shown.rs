//! Replicas and workloads as the API server would show them.

use std::sync::Arc;

use serde_json::json;

use super::NODE;
use super::ids::stable_uid;
use super::objects::Scaled;
use super::replica::Replica;

use super::workload::WorkloadKind;
use crate::world::ScaleResource;

/// The replica as the API server would show it.
pub(super) fn as_pod(replica: &Replica, now: jiff::Timestamp) -> serde_json::Value {
    let spec = &replica.spec;
    let mut labels = spec.workload.template_labels();
    if replica.ordinal.is_some() {
        labels.insert(
            "statefulset.kubernetes.io/pod-name".to_owned(),
            spec.name.clone(),
        );
    }
    let all_started = replica.containers.iter().all(Option::is_some);
    let names = spec.workload.containers().iter();
    let statuses: Vec<_> = names
        .zip(&replica.containers)
        .map(|(container, started)| {
            let id = started.as_ref().map(|(id, ..)| format!("local://{id}"));
            json!({"name": container.name, "containerID": id})
        })
        .collect();
    let mut template = serde_json::to_value(&spec.workload.template.spec).unwrap_or_default();
    template["nodeName"] = json!(NODE);
    template["hostNetwork"] = json!(true);
    json!({
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "uid": spec.uid,
            "labels": labels,
            "deletionTimestamp": replica.deleting.then_some(now),
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": replica.id.kind.as_str(),
                "name": &*replica.id.key.name,
                "uid": stable_uid(replica.id.kind.as_str(), &replica.id.key),
                "controller": true,
            }],
        },
        "spec": template,
        "status": {
            "phase": if all_started { "Running" } else { "Pending" },
            "startTime": replica.started,
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [{
                "type": "Ready",
                "status": if replica.is_ready() { "True" } else { "False" },
                "lastTransitionTime": replica.ready_changed,
            }],
            "containerStatuses": statuses,
        },
    })
}

/// The workload as the API server would show it.
pub(super) fn as_object(scaled: &Scaled) -> serde_json::Value {
    let workload = &scaled.workload;
    json!({
        "metadata": {
            "name": &*workload.id.key.name,
            "namespace": &*workload.id.key.namespace,
            "uid": stable_uid(workload.id.kind.as_str(), &workload.id.key),
            "resourceVersion": scaled.version.to_string(),
            "generation": scaled.generation,
        },
        "spec": {
            "replicas": scaled.replicas,
            "selector": workload.selector,
            "template": &*workload.template,
        },
        "status": {"replicas": scaled.existing},
    })
}

pub(super) fn resource(kind: WorkloadKind) -> Arc<ScaleResource> {
    Arc::new(ScaleResource {
        group: "apps".into(),
        version: "v1".into(),
        kind: kind.as_str().into(),
        plural: kind.plural().into(),
    })
}
