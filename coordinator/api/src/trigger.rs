//! A trigger of a ScaledObject or ScaledJob, and its reference to credentials.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

/// Where a value comes from and what is asked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTrigger {
    /// The kind of event source, such as cron, prometheus or node-accept-queue.
    #[serde(rename = "type")]
    #[schemars(length(min = 1))]
    pub type_: String,
    /// A name, unique in the object; needed where a formula speaks of this trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Settings of the event source. Every value is a string.
    pub metadata: BTreeMap<String, String>,
    /// Credentials for the event source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_ref: Option<AuthenticationRef>,
    /// AverageValue (default) or Value; for cpu and memory Utilization or AverageValue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_type: Option<String>,
    /// Use the value of the last poll between polls. Not for cpu, memory and cron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_cached_metrics: Option<bool>,
}

impl ScaleTrigger {
    /// The name, unless absent or empty.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref().filter(|n| !n.is_empty())
    }

    /// The metric type, unless absent or empty.
    pub fn metric_type(&self) -> Option<&str> {
        self.metric_type.as_deref().filter(|m| !m.is_empty())
    }

    /// Whether the last poll's value may stand for a new one. Default: no.
    pub fn uses_cached_metrics(&self) -> bool {
        self.use_cached_metrics.unwrap_or(false)
    }

    /// Whether this is a trigger on the containers' own cpu or memory, which never activates a
    /// target and has no fallback.
    pub fn is_cpu_or_memory(&self) -> bool {
        matches!(self.type_.as_str(), "cpu" | "memory")
    }

    /// Whether the values come from the target's own pods. Such a trigger never activates a
    /// target (at zero there are no pods to read), is not polled and has no fallback.
    pub fn is_pod_local(&self) -> bool {
        self.is_cpu_or_memory()
            || matches!(self.type_.as_str(), "node-accept-queue" | "node-pressure")
    }
}

open_enum! {
    /// The kind of object that holds credentials.
    AuthenticationKind {
        /// In the ScaledObject's namespace.
        TriggerAuthentication = "TriggerAuthentication",
        /// For all namespaces.
        ClusterTriggerAuthentication = "ClusterTriggerAuthentication",
    }
}

/// Names the TriggerAuthentication or ClusterTriggerAuthentication that a trigger uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthenticationRef {
    /// Name of the object.
    pub name: String,
    /// Kind of the object; TriggerAuthentication if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuthenticationKind>,
}

impl AuthenticationRef {
    /// The kind, with its default.
    pub fn kind(&self) -> AuthenticationKind {
        match &self.kind {
            Some(kind) if !kind.as_str().is_empty() => kind.clone(),
            _ => AuthenticationKind::TriggerAuthentication,
        }
    }
}

/// The types and the credentials of triggers as `kubectl get` shows them: each once, in the order
/// of first use, joined by commas.
pub fn types_and_authentications(triggers: &[ScaleTrigger]) -> (String, String) {
    let mut types: Vec<&str> = Vec::new();
    let mut authentications: Vec<&str> = Vec::new();
    for trigger in triggers {
        if !types.contains(&trigger.type_.as_str()) {
            types.push(&trigger.type_);
        }
        if let Some(reference) = &trigger.authentication_ref
            && !authentications.contains(&reference.name.as_str())
        {
            authentications.push(&reference.name);
        }
    }
    (types.join(","), authentications.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_name_each_type_once() {
        let trigger = |type_: &str, auth: Option<&str>| ScaleTrigger {
            type_: type_.into(),
            authentication_ref: auth.map(|name| AuthenticationRef {
                name: name.into(),
                kind: None,
            }),
            ..Default::default()
        };
        let triggers = [
            trigger("mysql", Some("a")),
            trigger("cron", None),
            trigger("mysql", Some("b")),
            trigger("mysql", Some("a")),
        ];
        assert_eq!(
            types_and_authentications(&triggers),
            ("mysql,cron".to_owned(), "a,b".to_owned())
        );
    }
}
