//! The reference to what is scaled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names the object whose scale subresource is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTarget {
    /// Name of the object, in the ScaledObject's namespace.
    #[schemars(length(min = 1))]
    pub name: String,
    /// API group and version; apps/v1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the object; Deployment if absent. Any kind with a scale subresource works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Container whose environment the triggers read; the first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_source_container_name: Option<String>,
}

impl ScaleTarget {
    /// API version and kind with their defaults, and with the usual case for the kinds of `apps`.
    pub fn group_version_kind(&self) -> TargetKind {
        TargetKind::parse(
            self.api_version.as_deref().unwrap_or_default(),
            self.kind.as_deref().unwrap_or_default(),
        )
    }

    /// The container whose environment is read, unless it is the first.
    pub fn env_source_container_name(&self) -> Option<&str> {
        self.env_source_container_name
            .as_deref()
            .filter(|n| !n.is_empty())
    }
}

/// Group, version and kind of a scale target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl TargetKind {
    /// Reads an `apiVersion` and a `kind` as a ScaledObject or an HPA gives them. Empty text takes
    /// the default (`apps/v1`, `Deployment`). Users write kinds of `apps` in lower case or by
    /// their plural; these get their proper spelling, others stay as written.
    pub fn parse(api_version: &str, kind: &str) -> Self {
        let api_version = if api_version.is_empty() {
            "apps/v1"
        } else {
            api_version
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = if kind.is_empty() { "Deployment" } else { kind };
        let kind = match (group, kind.to_ascii_lowercase().as_str()) {
            ("apps", "deployment" | "deployments") => "Deployment",
            ("apps", "statefulset" | "statefulsets") => "StatefulSet",
            ("apps", "replicaset" | "replicasets") => "ReplicaSet",
            _ => kind,
        };
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// `group/version.Kind`, the form of `status.scaleTargetKind` and of KEDA's messages.
impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}.{}", self.group, self.version, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_defaults_and_a_proper_case() {
        assert_eq!(TargetKind::parse("", "").to_string(), "apps/v1.Deployment");
        assert_eq!(
            TargetKind::parse("", "statefulset").to_string(),
            "apps/v1.StatefulSet"
        );
        assert_eq!(
            TargetKind::parse("argoproj.io/v1alpha1", "Rollout").to_string(),
            "argoproj.io/v1alpha1.Rollout"
        );
        assert_eq!(
            TargetKind::parse("v1", "ReplicationController").to_string(),
            "/v1.ReplicationController"
        );
        assert_eq!(TargetKind::parse("v1", "Pod").api_version(), "v1");
    }
}
