//! What is run: a Deployment or StatefulSet of the folder, checked for what can be run here.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::report::Place;
use crate::keys::TargetKey;
use crate::world::{Labels, Selector};

/// The kinds that are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// Replicas in no order.
    Deployment,
    /// Numbered replicas.
    StatefulSet,
}

impl WorkloadKind {
    /// As a manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// Its resource name.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
        }
    }
}

/// Which workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Namespace and name.
    pub key: TargetKey,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.key)
    }
}

/// A workload as the folder has it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Which.
    pub id: WorkloadId,
    /// `spec.replicas`, where the manifest has it.
    pub declared: Option<i32>,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: Arc<PodTemplateSpec>,
    /// Tells templates apart.
    pub template_hash: u64,
    /// A StatefulSet whose replicas do not wait for each other.
    pub parallel: bool,
    /// Where it stands.
    pub place: Place,
    /// Where the line of `command` is.
    pub command_place: Place,
    /// The folder, in which commands run.
    pub folder: PathBuf,
}

/// A field that keeps a workload from being run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

fn refuse(
    field: impl Into<String>,
    message: impl Into<String>,
    advice: impl Into<String>,
) -> Refusal {
    Refusal {
        field: field.into(),
        message: message.into(),
        advice: advice.into(),
    }
}

/// What a manifest gives, whatever its kind.
pub struct Parts {
    kind: WorkloadKind,
    declared: Option<i32>,
    selector: LabelSelector,
    template: PodTemplateSpec,
    parallel: bool,
}

impl Parts {
    /// Of a Deployment.
    pub fn of_deployment(object: Deployment) -> Self {
        let spec = object.spec.unwrap_or_default();
        Self {
            kind: WorkloadKind::Deployment,
            declared: spec.replicas,
            selector: spec.selector,
            template: spec.template,
            parallel: true,
        }
    }

    /// Of a StatefulSet.
    pub fn of_stateful_set(object: StatefulSet) -> Self {
        let spec = object.spec.unwrap_or_default();
        Self {
            kind: WorkloadKind::StatefulSet,
            declared: spec.replicas,
            selector: spec.selector,
            template: spec.template,
            parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
        }
    }
}

impl Workload {
    /// Checks what can be run as processes of this machine.
    ///
    /// # Errors
    /// The first field that cannot.
    pub fn new(
        parts: Parts,
        key: TargetKey,
        place: Place,
        command_place: Place,
        folder: PathBuf,
    ) -> Result<Self, Refusal> {
        if let Some(replicas) = parts.declared.filter(|replicas| *replicas < 0) {
            return Err(refuse(
                "spec.replicas",
                format!("{replicas} is below 0"),
                "write 0 or more",
            ));
        }
        check_selector(&parts.selector, &parts.template)?;
        check_template(&parts.template)?;
        let mut hasher = DefaultHasher::new();
        // Equal templates have equal text: the types' fields are in a fixed order and maps are sorted.
        serde_json::to_string(&parts.template)
            .unwrap_or_default()
            .hash(&mut hasher);
        Ok(Self {
            id: WorkloadId {
                kind: parts.kind,
                key,
            },
            declared: parts.declared,
            selector: parts.selector,
            template: Arc::new(parts.template),
            template_hash: hasher.finish(),
            parallel: parts.parallel,
            place,
            command_place,
            folder,
        })
    }

    /// Its containers.
    pub fn containers(&self) -> &[Container] {
        self.template
            .spec
            .as_ref()
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default()
    }

    /// The labels of its pods.
    pub(super) fn template_labels(&self) -> BTreeMap<String, String> {
        let meta = self.template.metadata.as_ref();
        meta.and_then(|meta| meta.labels.clone())
            .unwrap_or_default()
    }

    /// How long a replica may take to stop.
    pub fn grace(&self) -> std::time::Duration {
        let seconds = self
            .template
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Fields that have no effect here, to be said once.
    pub fn without_effect(&self) -> Vec<String> {
        let mut fields = Vec::new();
        for (at, container) in self.containers().iter().enumerate() {
            let has = [
                ("livenessProbe", container.liveness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
                ("lifecycle", container.lifecycle.is_some()),
                ("volumeMounts", container.volume_mounts.is_some()),
                (
                    "resources.limits",
                    container
                        .resources
                        .as_ref()
                        .is_some_and(|resources| resources.limits.is_some()),
                ),
            ];
            for (name, _) in has.iter().filter(|(_, has)| *has) {
                fields.push(format!("spec.template.spec.containers[{at}].{name}"));
            }
        }
        fields
    }
}

fn check_selector(selector: &LabelSelector, template: &PodTemplateSpec) -> Result<(), Refusal> {
    let parsed = Selector::from_object(selector).map_err(|error| {
        refuse(
            "spec.selector",
            error.reason,
            "write matchLabels, or matchExpressions with In, NotIn, Exists or DoesNotExist",
        )
    })?;
    if parsed.selects_everything() {
        return Err(refuse(
            "spec.selector",
            "it is empty",
            "write matchLabels with a label of spec.template.metadata.labels",
        ));
    }
    let labels: Labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default()
        .into_iter()
        .collect();
    if parsed.matches(&labels) {
        return Ok(());
    }
    Err(refuse(
        "spec.selector",
        "it does not select the labels of spec.template.metadata.labels",
        "make both the same",
    ))
}

fn check_template(template: &PodTemplateSpec) -> Result<(), Refusal> {
    let spec = template.spec.clone().unwrap_or_default();
    if spec.containers.is_empty() {
        return Err(refuse(
            "spec.template.spec.containers",
            "it is empty",
            "write one container with a command",
        ));
    }
    if spec.init_containers.is_some_and(|list| !list.is_empty()) {
        return Err(refuse(
            "spec.template.spec.initContainers",
            "init containers are not run here",
            "do their work in the command, or remove them",
        ));
    }
    for (at, container) in spec.containers.iter().enumerate() {
        let field = |name: &str| format!("spec.template.spec.containers[{at}].{name}");
        if container.command.as_ref().is_none_or(Vec::is_empty) {
            return Err(refuse(
                field("command"),
                "it is missing, and images are not run here",
                "write the program of this machine that does the image's work, as command: [PROGRAM, ARGUMENT]",
            ));
        }
        if let Some(probe) = &container.readiness_probe {
            check_probe(probe, &field("readinessProbe"))?;
        }
    }
    Ok(())
}

fn check_probe(probe: &Probe, field: &str) -> Result<(), Refusal> {
    let known = [
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.exec.is_some(),
    ];
    match known.iter().filter(|given| **given).count() {
        1 => Ok(()),
        0 => Err(refuse(
            field,
            "it has none of httpGet, tcpSocket and exec",
            "write one of them, or remove the probe",
        )),
        _ => Err(refuse(
            field,
            "it has more than one of httpGet, tcpSocket and exec",
            "leave one of them",
        )),
    }
}
