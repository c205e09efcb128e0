//! Who set the replicas of an object, by its managed fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use crate::kube_api::FIELD_MANAGER;

/// What the API server writes where a request names neither a field manager nor a User-Agent.
const NAMELESS: &str = "unknown";

/// The manager, other than Neap, that last set `spec.replicas`. A custom resource may keep its
/// replicas in another field of its spec: where nobody owns `spec.replicas`, the last that set
/// anything of the spec. `None` where the object names nobody.
pub(super) fn last_writer(entries: &[ManagedFieldsEntry]) -> Option<String> {
    let last = |field: &str| {
        entries
            .iter()
            .filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER))
            .filter(|entry| {
                entry
                    .fields_v1
                    .as_ref()
                    .is_some_and(|fields| fields.0.pointer(field).is_some())
            })
            .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
            .and_then(|entry| entry.manager.clone())
    };
    let has_replicas = entries.iter().any(|entry| {
        entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    });
    let manager = if has_replicas {
        last("/f:spec/f:replicas")
    } else {
        last("/f:spec")
    }?;
    Some(match manager.as_str() {
        NAMELESS => {
            "a client that names neither itself nor a field manager (\"unknown\" to the API server)"
                .to_owned()
        }
        _ => manager,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(manager: &str, second: u32, fields: Value) -> ManagedFieldsEntry {
        serde_json::from_value(json!({"manager": manager, "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "time": format!("2026-11-22T10:00:{second:02}Z"), "fieldsV1": fields}))
        .unwrap()
    }

    #[test]
    fn the_last_other_writer_of_the_replicas_is_named() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let mut entries = vec![
            entry("kubectl", 1, replicas.clone()),
            entry("argocd-controller", 5, replicas.clone()),
            entry("neap", 9, replicas.clone()),
            entry("kube-controller-manager", 8, json!({"f:status": {}})),
            entry("helm", 9, json!({"f:spec": {"f:template": {}}})),
        ];
        assert_eq!(last_writer(&entries).as_deref(), Some("argocd-controller"));
        entries.push(entry("unknown", 7, replicas));
        assert!(
            last_writer(&entries)
                .unwrap()
                .starts_with("a client that names")
        );
        assert_eq!(last_writer(&[]), None);
    }

    #[test]
    fn a_custom_resource_may_keep_its_replicas_elsewhere() {
        let crew = json!({"f:spec": {"f:crew": {}}});
        let entries = [
            entry("kubectl-create", 1, crew.clone()),
            entry("flux", 4, crew),
            entry("ship-controller", 6, json!({"f:status": {"f:crew": {}}})),
        ];
        assert_eq!(last_writer(&entries).as_deref(), Some("flux"));
    }
}
