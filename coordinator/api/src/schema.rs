//! The checks that an API server makes from the definitions: structure, limits, defaults and the
//! one CEL rule. For manifests that come from a folder, where no API server has looked first, and
//! for tests.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::crd;

/// One place where a manifest does not follow its schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: Invalid value: {value}: {allowed}")]
pub struct SchemaError {
    /// Path of the field, such as `spec.triggers[0].type`.
    pub field: String,
    /// The value found, as JSON (cut where it is long).
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// Most errors that one object gives; a manifest may be wrong in every line.
const MAX_ERRORS: usize = 50;

/// Applies the schema's defaults to `object` and gives every place where it breaks the schema.
/// Unknown fields are not errors (an API server drops them). `None` if `kind` is not one of
/// `keda.sh/v1alpha1` that Neap knows.
pub fn admit(kind: &str, object: &mut Value) -> Option<Vec<SchemaError>> {
    let schema = schemas().get(kind)?;
    set_defaults(schema, object);
    let mut errors = Vec::new();
    check(schema, object, &mut String::new(), &mut errors);
    if kind == "ScaledObject" && errors.is_empty() {
        check_replica_rule(object, &mut errors);
    }
    Some(errors)
}

/// The schemas by kind, made once.
fn schemas() -> &'static BTreeMap<String, Value> {
    static SCHEMAS: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        crd::all()
            .iter()
            .filter_map(|definition| {
                let kind = definition.pointer("/spec/names/kind")?.as_str()?;
                let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema")?;
                Some((kind.to_owned(), schema.clone()))
            })
            .collect()
    })
}

fn set_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (name, child) in properties {
                    // A null takes the default too, as the API server does it.
                    if let Some(default) = child.get("default")
                        && map.get(name).is_none_or(Value::is_null)
                    {
                        map.insert(name.clone(), default.clone());
                    }
                    if let Some(present) = map.get_mut(name) {
                        set_defaults(child, present);
                    }
                }
            } else if let Some(child) = schema.get("additionalProperties") {
                map.values_mut().for_each(|v| set_defaults(child, v));
            }
        }
        Value::Array(list) => {
            if let Some(child) = schema.get("items") {
                list.iter_mut().for_each(|v| set_defaults(child, v));
            }
        }
        _ => {}
    }
}

/// Checks one value and what is in it. `path` is the field's path, lengthened and cut back.
fn check(schema: &Value, value: &Value, path: &mut String, errors: &mut Vec<SchemaError>) {
    if errors.len() >= MAX_ERRORS {
        return;
    }
    if let Some(allowed) = type_fault(schema, value) {
        errors.push(error(path, value, allowed));
        return;
    }
    check_limits(schema, value, path, errors);
    match value {
        Value::Object(map) => {
            for name in strings(schema.get("required")) {
                if !map.contains_key(name) {
                    errors.push(SchemaError {
                        field: joined(path, name),
                        value: "absent".to_owned(),
                        allowed: "Required value".to_owned(),
                    });
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties");
            for (name, child) in map {
                let Some(child_schema) = properties.and_then(|p| p.get(name)).or(others) else {
                    continue;
                };
                let length = path.len();
                *path = joined(path, name);
                check(child_schema, child, path, errors);
                path.truncate(length);
            }
        }
        Value::Array(list) => {
            let Some(child_schema) = schema.get("items") else {
                return;
            };
            for (index, child) in list.iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                check(child_schema, child, path, errors);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What the type should have been, if it is another.
fn type_fault(schema: &Value, value: &Value) -> Option<String> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then(|| "must be of type integer or string".to_owned());
    }
    let wanted = schema.get("type")?.as_str()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => true,
    };
    (!fits).then(|| format!("must be of type {wanted}"))
}

fn check_limits(schema: &Value, value: &Value, path: &str, errors: &mut Vec<SchemaError>) {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let mut refuse = |allowed: String| errors.push(error(path, value, allowed));
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        refuse(format!("supported values: {}", words.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        if let Some(minimum) = limit("minimum").filter(|m| number < *m) {
            refuse(format!("should be greater than or equal to {minimum}"));
        }
        if let Some(maximum) = limit("maximum").filter(|m| number > *m) {
            refuse(format!("should be less than or equal to {maximum}"));
        }
        if schema.get("format").and_then(Value::as_str) == Some("int32")
            && !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)
        {
            refuse(format!("should be {} to {}", i32::MIN, i32::MAX));
        }
    }
    if let Some(text) = value.as_str()
        && let Some(minimum) = limit("minLength")
        && (text.chars().count() as f64) < minimum
    {
        refuse(format!("should be at least {minimum} chars long"));
    }
    if let Some(list) = value.as_array()
        && let Some(minimum) = limit("minItems")
        && (list.len() as f64) < minimum
    {
        refuse(format!("should have at least {minimum} items"));
    }
}

/// The rule that stands in the schema as CEL: min must not be above max, 100 if absent.
fn check_replica_rule(object: &Value, errors: &mut Vec<SchemaError>) {
    let count = |name: &str| {
        object
            .pointer(&format!("/spec/{name}"))
            .and_then(Value::as_i64)
    };
    let max = count("maxReplicaCount").unwrap_or(i64::from(crate::DEFAULT_MAX_REPLICAS));
    if let Some(min) = count("minReplicaCount").filter(|min| *min > max) {
        errors.push(SchemaError {
            field: "spec".to_owned(),
            value: format!("minReplicaCount {min}, maxReplicaCount {max}"),
            allowed: "minReplicaCount must be less than or equal to maxReplicaCount".to_owned(),
        });
    }
}

fn error(path: &str, value: &Value, allowed: String) -> SchemaError {
    let mut text = value.to_string();
    if let Some((cut, _)) = text.char_indices().nth(200) {
        text.truncate(cut);
        text.push_str("...");
    }
    SchemaError {
        field: path.to_owned(),
        value: text,
        allowed,
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(spec: Value) -> Vec<String> {
        let mut object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "a"}, "spec": spec});
        admit("ScaledObject", &mut object)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_right_object_passes_and_gets_its_defaults() {
        let mut object = json!({"spec": {
            "scaleTargetRef": {"name": "a"},
            "triggers": [{"type": "cron", "metadata": {"start": "0 0 * * *"}}],
            "fallback": {"failureThreshold": 1, "replicas": 2, "behavior": null},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"tolerance": 0}}}},
        }});
        assert_eq!(admit("ScaledObject", &mut object), Some(vec![]));
        assert_eq!(object["spec"]["fallback"]["behavior"], "static");
    }

    #[test]
    fn each_fault_names_field_value_and_what_is_allowed() {
        assert_eq!(
            errors(json!({
                "scaleTargetRef": {"name": ""},
                "pollingInterval": 0,
                "cooldownPeriod": "300",
                "idleReplicaCount": null,
                "triggers": [{"type": "cron", "metadata": {"desiredReplicas": 5}, "authenticationRef": {"kind": "Secret"}}],
            })),
            [
                "spec.cooldownPeriod: Invalid value: \"300\": must be of type integer",
                "spec.idleReplicaCount: Invalid value: null: must be of type integer",
                "spec.pollingInterval: Invalid value: 0: should be greater than or equal to 1",
                "spec.scaleTargetRef.name: Invalid value: \"\": should be at least 1 chars long",
                "spec.triggers[0].authenticationRef.name: Invalid value: absent: Required value",
                "spec.triggers[0].authenticationRef.kind: Invalid value: \"Secret\": supported values: \"TriggerAuthentication\", \"ClusterTriggerAuthentication\"",
                "spec.triggers[0].metadata.desiredReplicas: Invalid value: 5: must be of type string",
            ]
        );
        assert_eq!(
            errors(json!({"scaleTargetRef": {"name": "a"}, "triggers": []})),
            ["spec.triggers: Invalid value: []: should have at least 1 items"]
        );
        assert_eq!(
            errors(
                json!({"scaleTargetRef": {"name": "a"}, "triggers": [{"type": "a", "metadata": {}}], "minReplicaCount": 101})
            ),
            [
                "spec: Invalid value: minReplicaCount 101, maxReplicaCount 100: minReplicaCount must be less than or equal to maxReplicaCount"
            ]
        );
    }

    #[test]
    fn an_unknown_kind_is_not_ours() {
        assert_eq!(admit("Pod", &mut json!({})), None);
    }
}
