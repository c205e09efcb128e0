//! What runs on the nodes: a pod on each.

use neap_load::replicas::names::{PODS_NAMESPACE, node, pod_uid};
use serde_json::{Value, json};

/// The pods of `count` nodes.
pub(crate) fn pods(count: usize) -> Vec<Value> {
    (0..count).map(pod).collect()
}

fn pod(index: usize) -> Value {
    let name = format!("pod-{index}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": PODS_NAMESPACE, "uid": pod_uid(index), "resourceVersion": "1"},
        "spec": {"nodeName": node(index), "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
