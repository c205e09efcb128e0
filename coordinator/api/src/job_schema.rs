//! The schema of `jobTargetRef`: Kubernetes' own batch/v1 JobSpec without its descriptions.
//!
//! With them the definition is over 600 KiB, more than client-side `kubectl apply` can carry in
//! its annotation. `ephemeralContainers`, which no template may have, is left open.

use k8s_openapi::api::batch::v1::JobSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// Schema of the field `jobTargetRef`.
pub(crate) fn job_spec(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = JobSpec::json_schema(generator);
    if let Some(pod) = schema
        .pointer_mut("/properties/template/properties/spec/properties")
        .and_then(Value::as_object_mut)
    {
        pod.insert(
            "ephemeralContainers".to_owned(),
            json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}),
        );
    }
    for child in schema.ensure_object().values_mut() {
        drop_descriptions(child);
    }
    schema.insert(
        "description".to_owned(),
        "The Job to run: a batch/v1 JobSpec, as `kubectl explain job.spec` describes it.".into(),
    );
    schema
}

/// Removes every description that is text; a property of that name is an object and stays.
fn drop_descriptions(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(drop_descriptions);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_descriptions),
        _ => {}
    }
}
