//! From a document to an object that is used.

use std::fmt;
use std::path::Path;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use neap_api::{ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication};

use super::manifest::{Document, ManifestError};
use crate::keys::TargetKey;
use crate::local::{Fault, Parts, Place, Refusal, Workload, WorkloadId, WorkloadKind};
use crate::source::Data;

/// Kinds that are read, as messages list them.
const KINDS: &str = "ScaledObject, TriggerAuthentication, ClusterTriggerAuthentication, Deployment, StatefulSet, Service, Secret, ConfigMap";

/// The kinds, in the order in which they are applied: what others name comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Service,
    Deployment,
    StatefulSet,
    TriggerAuthentication,
    ClusterTriggerAuthentication,
    ScaledObject,
}

impl Kind {
    const ALL: [(&'static str, &'static str, Self); 8] = [
        ("", "Secret", Self::Secret),
        ("", "ConfigMap", Self::ConfigMap),
        ("", "Service", Self::Service),
        ("apps", "Deployment", Self::Deployment),
        ("apps", "StatefulSet", Self::StatefulSet),
        (
            "keda.sh",
            "TriggerAuthentication",
            Self::TriggerAuthentication,
        ),
        (
            "keda.sh",
            "ClusterTriggerAuthentication",
            Self::ClusterTriggerAuthentication,
        ),
        ("keda.sh", "ScaledObject", Self::ScaledObject),
    ];

    fn of(document: &Document) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(group, kind, _)| document.is(group, kind))
            .map(|(.., kind)| *kind)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(.., kind)| *kind == self)
            .map_or("", |(_, name, _)| name)
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ObjectId {
    pub(super) kind: Kind,
    pub(super) key: TargetKey,
}

impl ObjectId {
    /// The workload, if it is one.
    pub(super) fn workload(&self) -> Option<WorkloadId> {
        let kind = match self.kind {
            Kind::Deployment => WorkloadKind::Deployment,
            Kind::StatefulSet => WorkloadKind::StatefulSet,
            _ => return None,
        };
        Some(WorkloadId {
            kind,
            key: self.key.clone(),
        })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.namespace.is_empty() {
            write!(f, "{} {}", self.kind.name(), self.key.name)
        } else {
            write!(f, "{} {}", self.kind.name(), self.key)
        }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub(super) enum Manifest {
    Secret(Data),
    ConfigMap(Data),
    Service(Box<Service>),
    Workload(Box<Workload>),
    TriggerAuthentication(Box<TriggerAuthentication>),
    ClusterTriggerAuthentication(Box<ClusterTriggerAuthentication>),
    ScaledObject(Box<ScaledObject>),
}

/// What a document is, before it is read whole.
pub(super) enum Head {
    /// An object that is used.
    Known(ObjectId),
    /// One that is not.
    Other(Fault),
}

pub(super) fn place(document: &Document, line: usize) -> Place {
    Place {
        file: document.file.clone(),
        line: Some(line),
    }
}

/// What `document` is.
pub(super) fn head(document: &Document) -> Head {
    let (api_version, kind) = (&document.head.api_version, &document.head.kind);
    let fault = |subject: String, field: &str, message: String, advice: &str| {
        Head::Other(Fault {
            subject,
            place: place(document, document.line_of(field)),
            field: Some(field.to_owned()),
            message,
            advice: advice.to_owned(),
        })
    };
    let subject = format!("{kind} {}", document.head.name());
    let Some(found) = Kind::of(document) else {
        return fault(
            subject,
            "kind",
            format!("{kind:?} of apiVersion {api_version:?} is not used by neap up"),
            &format!("it is let pass; the kinds that are used are {KINDS}"),
        );
    };
    let name = document.head.name();
    if name.is_empty() {
        return fault(
            format!("{kind} without a name, line {}", document.line()),
            "metadata.name",
            "it is missing".to_owned(),
            "write a name",
        );
    }
    let namespace = match found {
        Kind::ClusterTriggerAuthentication => "",
        _ => document.head.namespace().unwrap_or("default"),
    };
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    if !plain(name) || !plain(namespace) || name.len() > 253 {
        return fault(
            subject,
            "metadata.name",
            format!("{name:?} in namespace {namespace:?} is no name"),
            "write at most 253 of a-z, 0-9, - and .",
        );
    }
    Head::Known(ObjectId {
        kind: found,
        key: TargetKey::new(namespace, name),
    })
}

/// Reads the whole of `document`, which is `id`.
pub(super) fn object(
    document: &Document,
    id: &ObjectId,
    folder: &Path,
) -> Result<Manifest, Box<Fault>> {
    let unreadable = |error: ManifestError| {
        Box::new(Fault {
            subject: id.to_string(),
            place: Place {
                file: error.file,
                line: error.line,
            },
            field: error.field,
            message: error.message,
            advice: "correct it; the last good version stays in force".to_owned(),
        })
    };
    let namespace = Some(id.key.namespace.to_string()).filter(|text| !text.is_empty());
    let uid = || Some(crate::local::stable_uid(id.kind.name(), &id.key));
    macro_rules! custom {
        ($type:ty, $variant:ident) => {{
            let mut object: $type = document.parse().map_err(unreadable)?;
            object.metadata.namespace = namespace;
            object.metadata.uid = uid();
            Ok(Manifest::$variant(Box::new(object)))
        }};
    }
    match id.kind {
        Kind::Secret => {
            let object: Secret = document.parse().map_err(unreadable)?;
            let mut data: Data = object
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect();
            let plain = object.string_data.unwrap_or_default().into_iter();
            data.extend(plain.map(|(key, value)| (key, value.into_bytes())));
            Ok(Manifest::Secret(data))
        }
        Kind::ConfigMap => {
            let object: ConfigMap = document.parse().map_err(unreadable)?;
            let text = object.data.unwrap_or_default().into_iter();
            let mut data: Data = text.map(|(key, value)| (key, value.into_bytes())).collect();
            let binary = object.binary_data.unwrap_or_default().into_iter();
            data.extend(binary.map(|(key, value)| (key, value.0)));
            Ok(Manifest::ConfigMap(data))
        }
        Kind::Service => {
            let mut object: Service = document.parse().map_err(unreadable)?;
            object.metadata.namespace = namespace;
            Ok(Manifest::Service(Box::new(object)))
        }
        Kind::Deployment => {
            let object: Deployment = document.parse().map_err(unreadable)?;
            workload(document, id, Parts::of_deployment(object), folder)
        }
        Kind::StatefulSet => {
            let object: StatefulSet = document.parse().map_err(unreadable)?;
            workload(document, id, Parts::of_stateful_set(object), folder)
        }
        Kind::TriggerAuthentication => custom!(TriggerAuthentication, TriggerAuthentication),
        Kind::ClusterTriggerAuthentication => {
            custom!(ClusterTriggerAuthentication, ClusterTriggerAuthentication)
        }
        Kind::ScaledObject => custom!(ScaledObject, ScaledObject),
    }
}

fn workload(
    document: &Document,
    id: &ObjectId,
    parts: Parts,
    folder: &Path,
) -> Result<Manifest, Box<Fault>> {
    let command = document.line_of("spec.template.spec.containers.command");
    Workload::new(
        parts,
        id.key.clone(),
        place(document, document.line()),
        place(document, command),
        folder.to_owned(),
    )
    .map(|workload| Manifest::Workload(Box::new(workload)))
    .map_err(|refusal| {
        let Refusal {
            field,
            message,
            advice,
        } = refusal;
        Box::new(Fault {
            subject: id.to_string(),
            place: place(document, document.line_of(&field)),
            field: Some(field),
            message,
            advice,
        })
    })
}
