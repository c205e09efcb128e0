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
        trim(child);
    }
    schema.insert(
        "description".to_owned(),
        "The Job to run: a batch/v1 JobSpec, as `kubectl explain job.spec` describes it.".into(),
    );
    schema
}

/// What may be set in the metadata of a template. The rest is the API server's, and generators
/// write it all the same (`creationTimestamp: null`): unknown, it is dropped instead of refused.
const TEMPLATE_METADATA: [&str; 5] = ["annotations", "finalizers", "labels", "name", "namespace"];

/// Removes every description that is text (a property of that name is an object and stays), and
/// the server's fields from embedded metadata.
fn trim(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            if map.contains_key("managedFields") {
                map.retain(|name, _| TEMPLATE_METADATA.contains(&name.as_str()));
            }
            if is_reference(map)
                && let Some(Value::Array(required)) = map.get_mut("required")
            {
                required.retain(|name| name != "name");
            }
            map.values_mut().for_each(trim);
        }
        Value::Array(list) => list.iter_mut().for_each(trim),
        _ => {}
    }
}

/// Whether a schema is that of a reference to a Secret or ConfigMap, whose name may be absent:
/// only these have both a name and `optional`.
fn is_reference(schema: &serde_json::Map<String, Value>) -> bool {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|p| p.contains_key("name") && p.contains_key("optional"))
}
