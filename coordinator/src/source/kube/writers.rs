//! Who set the replicas of an object, by its managed fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kube_api::FIELD_MANAGER;

/// What the API server writes where a request names neither a field manager nor a User-Agent.
const NAMELESS: &str = "unknown";

/// One entry of `metadata.managedFields`: of the fields, only what concerns replicas.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Writer {
    manager: Option<String>,
    time: Option<Time>,
    fields_v1: Option<OwnedFields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OwnedFields {
    #[serde(rename = "f:spec")]
    spec: Option<OwnedSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OwnedSpec {
    #[serde(rename = "f:replicas")]
    replicas: Option<IgnoredAny>,
}

impl Writer {
    fn owns_spec(&self) -> bool {
        self.fields_v1
            .as_ref()
            .is_some_and(|fields| fields.spec.is_some())
    }

    fn owns_replicas(&self) -> bool {
        self.fields_v1
            .as_ref()
            .and_then(|fields| fields.spec.as_ref())
            .is_some_and(|spec| spec.replicas.is_some())
    }
}

impl From<&ManagedFieldsEntry> for Writer {
    fn from(entry: &ManagedFieldsEntry) -> Self {
        let spec = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| fields.0.get("f:spec"));
        Self {
            manager: entry.manager.clone(),
            time: entry.time.clone(),
            fields_v1: Some(OwnedFields {
                spec: spec.map(|spec| OwnedSpec {
                    replicas: spec.get("f:replicas").map(|_| IgnoredAny),
                }),
            }),
        }
    }
}

/// The manager, other than Neap, that last set `spec.replicas`. A custom resource may keep its
/// replicas in another field of its spec: where nobody owns `spec.replicas`, the last that set
/// anything of the spec. `None` where the object names nobody.
pub(super) fn last_writer(writers: &[Writer]) -> Option<&str> {
    let has_replicas = writers.iter().any(Writer::owns_replicas);
    let manager = writers
        .iter()
        .filter(|writer| writer.manager.as_deref() != Some(FIELD_MANAGER))
        .filter(|writer| {
            if has_replicas {
                writer.owns_replicas()
            } else {
                writer.owns_spec()
            }
        })
        .max_by_key(|writer| writer.time.as_ref().map(|time| time.0))?
        .manager
        .as_deref()?;
    Some(match manager {
        NAMELESS => {
            "a client that names neither itself nor a field manager (\"unknown\" to the API server)"
        }
        _ => manager,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// One that reads the same from a watch and from a whole object.
    fn writer(manager: &str, second: u32, fields: Value) -> Writer {
        let entry = json!({"manager": manager, "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "time": format!("2026-11-22T10:00:{second:02}Z"), "fieldsV1": fields});
        let lean: Writer = serde_json::from_value(entry.clone()).unwrap();
        let whole = Writer::from(&serde_json::from_value::<ManagedFieldsEntry>(entry).unwrap());
        assert_eq!(
            (lean.owns_spec(), lean.owns_replicas(), &lean.time),
            (whole.owns_spec(), whole.owns_replicas(), &whole.time)
        );
        lean
    }

    #[test]
    fn the_last_other_writer_of_the_replicas_is_named() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let mut writers = vec![
            writer("kubectl", 1, replicas.clone()),
            writer("argocd-controller", 5, replicas.clone()),
            writer("neap", 9, replicas.clone()),
            writer("kube-controller-manager", 8, json!({"f:status": {}})),
            writer("helm", 9, json!({"f:spec": {"f:template": {}}})),
        ];
        assert_eq!(last_writer(&writers), Some("argocd-controller"));
        writers.push(writer("unknown", 7, replicas));
        assert!(
            last_writer(&writers)
                .unwrap()
                .starts_with("a client that names")
        );
        assert_eq!(last_writer(&[]), None);
    }

    #[test]
    fn a_custom_resource_may_keep_its_replicas_elsewhere() {
        let crew = json!({"f:spec": {"f:crew": {}}});
        let writers = [
            writer("kubectl-create", 1, crew.clone()),
            writer("flux", 4, crew),
            writer("ship-controller", 6, json!({"f:status": {"f:crew": {}}})),
        ];
        assert_eq!(last_writer(&writers), Some("flux"));
    }
}
