//! What is scaled, as far as it is known.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};

use super::pod::Requests;
use super::selector::{Selector, SelectorError};
use crate::keys::TargetRef;

/// A [`TargetRef`] without what does not tell objects apart: the version of the API and the case
/// of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    /// Namespace.
    pub namespace: Arc<str>,
    /// API group, empty for the core group.
    pub group: Arc<str>,
    /// Kind in lower case.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl From<&TargetRef> for TargetId {
    fn from(target: &TargetRef) -> Self {
        let kind = if target.kind.bytes().any(|b| b.is_ascii_uppercase()) {
            target.kind.to_ascii_lowercase().into()
        } else {
            target.kind.clone()
        };
        Self {
            namespace: target.namespace.clone(),
            group: target.group.clone(),
            kind,
            name: target.name.clone(),
        }
    }
}

/// A kind that the API server serves with a scale subresource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScaleResource {
    /// API group, empty for the core group.
    pub group: Arc<str>,
    /// API version.
    pub version: Arc<str>,
    /// Kind in its proper case.
    pub kind: Arc<str>,
    /// Resource name in paths, such as `deployments`.
    pub plural: Arc<str>,
}

impl ScaleResource {
    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// One container of a pod template: what `*FromEnv` metadata, the `env` of a
/// TriggerAuthentication and the rules on requests ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TemplateContainer {
    /// Its name.
    pub name: Arc<str>,
    /// `env`, in order: later entries win.
    pub env: Vec<EnvVar>,
    /// `envFrom`, in order.
    pub env_from: Vec<EnvFromSource>,
    /// What it asks for.
    pub requests: Requests,
    /// Its limits: the API server takes them for absent requests.
    pub limits: Requests,
}

/// The pod template of a target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodTemplate {
    /// App containers in their order.
    pub containers: Vec<TemplateContainer>,
    /// Init containers that stay (`restartPolicy: Always`).
    pub sidecars: Vec<TemplateContainer>,
    /// `serviceAccountName`.
    pub service_account: Option<Arc<str>>,
}

impl PodTemplate {
    /// The container named so, or the first one without a name.
    pub fn container(&self, name: Option<&str>) -> Option<&TemplateContainer> {
        match name.filter(|name| !name.is_empty()) {
            None => self.containers.first(),
            Some(name) => self
                .containers
                .iter()
                .chain(&self.sidecars)
                .find(|container| container.name.as_ref() == name),
        }
    }
}

/// A target that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetFacts {
    /// Its kind.
    pub resource: Arc<ScaleResource>,
    /// UID of the object.
    pub uid: Arc<str>,
    /// `spec.replicas` of its scale; an absent field counts as 1.
    pub replicas: i32,
    /// `status.replicas` of its scale.
    pub status_replicas: i32,
    /// Which pods are its own; `None` where it publishes no selector.
    pub selector: Result<Option<Selector>, SelectorError>,
    /// What a write of its scale has to carry.
    pub resource_version: Arc<str>,
    /// `metadata.generation`, 0 where it has none.
    pub generation: i64,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// `spec.template`, where it has one.
    pub template: Option<Arc<PodTemplate>>,
    /// The field manager, other than Neap's, that was last seen to set the replicas.
    pub last_writer: Option<Arc<str>>,
}

impl TargetFacts {
    /// True when both differ in nothing that a decision rests on.
    pub(super) fn same_but_version(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.replicas == other.replicas
            && self.status_replicas == other.status_replicas
            && self.generation == other.generation
            && self.deleting == other.deleting
            && self.resource == other.resource
            && self.selector == other.selector
            && self.template == other.template
    }
}

/// Why a target cannot be scaled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetProblem {
    /// The API server does not serve that group and version.
    #[error("scaleTargetRef.apiVersion: {api_version:?} is not served by this cluster")]
    UnknownApiVersion {
        /// As given.
        api_version: String,
    },
    /// The group and version are served, the kind is not among them.
    #[error(
        "scaleTargetRef.kind: {kind:?} is not a kind of {api_version}; kinds with a scale subresource there: {allowed}"
    )]
    UnknownKind {
        /// `group/version`.
        api_version: String,
        /// As given.
        kind: String,
        /// The kinds there that can be scaled, separated by commas.
        allowed: String,
    },
    /// The kind exists and cannot be scaled.
    #[error(
        "scaleTargetRef.kind: {kind} of {api_version} has no scale subresource; kinds with one there: {allowed}"
    )]
    NoScaleSubresource {
        /// `group/version`.
        api_version: String,
        /// The kind.
        kind: String,
        /// The kinds there that can be scaled, separated by commas.
        allowed: String,
    },
    /// The kind is one of the whole cluster; only namespaced objects are scaled.
    #[error("scaleTargetRef.kind: {kind} of {api_version} is not namespaced")]
    NotNamespaced {
        /// `group/version`.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// There is no such object.
    #[error("scaleTargetRef.name: there is no {kind} {name:?} in namespace {namespace:?}")]
    NotFound {
        /// Kind in its proper case.
        kind: String,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// RBAC does not allow reading it.
    #[error(
        "scaleTargetRef: not allowed to read {resource}: {reason} (see rbac.scaleKinds of the chart)"
    )]
    Forbidden {
        /// Plural and group of the resource.
        resource: String,
        /// What the server answered.
        reason: String,
    },
    /// It could not be read, and that may pass.
    #[error("cannot read {target}: {reason}")]
    Unreadable {
        /// What was to be read.
        target: String,
        /// What went wrong.
        reason: String,
    },
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetState {
    /// Nobody has looked yet.
    Pending,
    /// It is there.
    Found(Arc<TargetFacts>),
    /// It is not there, or cannot be scaled or read.
    Unavailable(Arc<TargetProblem>),
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{} {}/{}",
            self.kind, self.group, self.namespace, self.name
        )
    }
}

/// True when resource version `a` is surely older than `b`: both are numbers, as the API
/// server's are, and smaller means older.
pub fn is_older_version(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a < b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_case_do_not_tell_targets_apart() {
        let a = TargetId::from(&TargetRef::new("db", "apps/v1", "StatefulSet", "mysql"));
        let b = TargetId::from(&TargetRef::new(
            "db",
            "apps/v1beta2",
            "statefulset",
            "mysql",
        ));
        assert_eq!(a, b);
        assert_ne!(
            a,
            TargetId::from(&TargetRef::new("db", "v1", "statefulset", "mysql"))
        );
    }

    #[test]
    fn resource_versions_compare_as_numbers() {
        assert!(is_older_version("9", "10"));
        assert!(!is_older_version("10", "10"));
        assert!(
            !is_older_version("", "10"),
            "what is no number is not surely older"
        );
    }

    #[test]
    fn a_container_is_found_by_name_or_is_the_first() {
        let named = |name: &str| TemplateContainer {
            name: name.into(),
            ..TemplateContainer::default()
        };
        let template = PodTemplate {
            containers: vec![named("app"), named("log")],
            sidecars: vec![named("proxy")],
            service_account: None,
        };
        assert_eq!(
            template.container(None).map(|c| c.name.as_ref()),
            Some("app")
        );
        assert_eq!(
            template.container(Some("")).map(|c| c.name.as_ref()),
            Some("app")
        );
        assert_eq!(
            template.container(Some("proxy")).map(|c| c.name.as_ref()),
            Some("proxy")
        );
        assert_eq!(template.container(Some("none")), None);
    }
}
