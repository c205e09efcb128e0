//! Names of the things the coordinator speaks of.
//!
//! They are parsed once, at the edge that first sees them, and passed on as these types.

use std::fmt;
use std::sync::Arc;

pub use neap_consensus::LeaderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A ScaledObject by namespace and name. Each ScaledObject is one target of the decider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    /// Namespace of the ScaledObject, which is also that of what it scales.
    pub namespace: Arc<str>,
    /// Name of the ScaledObject.
    pub name: Arc<str>,
}

impl TargetKey {
    /// Names the ScaledObject `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for TargetKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.namespace, &*self.name).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TargetKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (namespace, name) = <(String, String)>::deserialize(deserializer)?;
        Ok(Self::new(namespace, name))
    }
}

/// The object whose scale is read and written: what `spec.scaleTargetRef` of a ScaledObject names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetRef {
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// API group, empty for the core group.
    pub group: Arc<str>,
    /// API version within the group, as `v1`.
    pub version: Arc<str>,
    /// Kind as the ScaledObject spells it; implementations compare without regard to case.
    pub kind: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

impl TargetRef {
    /// Reads `apiVersion` (`apps/v1`, or `v1` for the core group), a kind and a name.
    pub fn new(namespace: &str, api_version: &str, kind: &str, name: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            namespace: namespace.into(),
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            name: name.into(),
        }
    }

    /// True when both name the same object: the version of the API does not matter, nor the
    /// case of the kind.
    pub fn same_object(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.name == other.name
            && self.group == other.group
            && self.kind.eq_ignore_ascii_case(&other.kind)
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            write!(
                f,
                "{}.{} {}/{}",
                self.version, self.kind, self.namespace, self.name
            )
        } else {
            write!(
                f,
                "{}/{}.{} {}/{}",
                self.group, self.version, self.kind, self.namespace, self.name
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_the_same_whatever_version_or_case_names_it() {
        let a = TargetRef::new("db", "apps/v1", "StatefulSet", "mysql");
        let b = TargetRef::new("db", "apps/v1beta2", "statefulset", "mysql");
        assert!(a.same_object(&b));
        assert!(!a.same_object(&TargetRef::new(
            "db",
            "apps.example.org/v1",
            "StatefulSet",
            "mysql"
        )));
        assert_eq!(a.to_string(), "apps/v1.StatefulSet db/mysql");
        assert_eq!(
            TargetRef::new("db", "v1", "ReplicationController", "x")
                .group
                .as_ref(),
            ""
        );
    }
}
