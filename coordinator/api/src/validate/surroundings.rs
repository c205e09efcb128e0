//! What stands beside a ScaledObject, in the little form that the rules need. The coordinator
//! fills it from its watches, a webhook from its caches, a test from manifests.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::keys;
use crate::scale_target::TargetKind;
use crate::scaled_object::ScaledObject;

/// What stands beside a ScaledObject in its namespace. The object itself may be among
/// `scaled_objects`; it is left out by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The HPAs of the namespace (those of the target are enough).
    pub hpas: Vec<HpaSummary>,
    /// The ScaledObjects of the namespace (those with the target or the HPA name are enough).
    pub scaled_objects: Vec<ScaledObjectSummary>,
    /// The object's target.
    pub workload: Workload,
    /// What the namespace's LimitRanges give to containers without requests.
    pub defaults: NamespaceDefaults,
}

/// An HPA, as far as ownership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpaSummary {
    /// Name of the HPA.
    pub name: String,
    /// Kind of its target.
    pub target_kind: TargetKind,
    /// Name of its target.
    pub target_name: String,
    /// Names of the ScaledObjects in its owner references.
    pub owners: Vec<String>,
    /// Whether its owner wants it left out of this check.
    pub exempt: bool,
}

impl From<&HorizontalPodAutoscaler> for HpaSummary {
    fn from(hpa: &HorizontalPodAutoscaler) -> Self {
        let target = &hpa.spec.scale_target_ref;
        Self {
            name: hpa.name_any(),
            target_kind: TargetKind::parse(
                target.api_version.as_deref().unwrap_or_default(),
                &target.kind,
            ),
            target_name: target.name.clone(),
            owners: hpa
                .owner_references()
                .iter()
                .filter(|o| o.kind == "ScaledObject")
                .map(|o| o.name.clone())
                .collect(),
            exempt: hpa
                .annotations()
                .get(keys::HPA_OWNERSHIP_VALIDATION)
                .is_some_and(|v| v == "false"),
        }
    }
}

/// A ScaledObject, as far as ownership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaledObjectSummary {
    /// Name of the object.
    pub name: String,
    /// Kind of its target.
    pub target_kind: TargetKind,
    /// Name of its target.
    pub target_name: String,
    /// Name of its HPA, given or by default.
    pub hpa_name: String,
}

impl From<&ScaledObject> for ScaledObjectSummary {
    fn from(so: &ScaledObject) -> Self {
        Self {
            name: so.name_any(),
            target_kind: so.spec.scale_target_ref.group_version_kind(),
            target_name: so.spec.scale_target_ref.name.clone(),
            hpa_name: so.hpa_name(),
        }
    }
}

/// The target, as far as the checks on its containers go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// Not a Deployment or StatefulSet, or not known: its containers are not checked.
    #[default]
    Unchecked,
    /// A Deployment or StatefulSet that does not exist.
    Missing,
    /// The containers of its pod template.
    Containers(Vec<ContainerResources>),
}

impl From<&PodSpec> for Workload {
    fn from(pod: &PodSpec) -> Self {
        Self::Containers(
            pod.containers
                .iter()
                .map(|c| {
                    let given = |resource: &str| {
                        let set = |map: &Option<BTreeMap<String, Quantity>>| {
                            map.as_ref()
                                .and_then(|m| m.get(resource))
                                .is_some_and(is_positive)
                        };
                        c.resources
                            .as_ref()
                            .is_some_and(|r| set(&r.requests) || set(&r.limits))
                    };
                    ContainerResources {
                        name: c.name.clone(),
                        cpu: given("cpu"),
                        memory: given("memory"),
                    }
                })
                .collect(),
        )
    }
}

/// Whether a container has a request or a limit above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerResources {
    /// Name of the container.
    pub name: String,
    /// For cpu.
    pub cpu: bool,
    /// For memory.
    pub memory: bool,
}

/// Whether the namespace gives containers a default request or limit above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceDefaults {
    /// For cpu.
    pub cpu: bool,
    /// For memory.
    pub memory: bool,
}

impl<'a> FromIterator<&'a LimitRange> for NamespaceDefaults {
    fn from_iter<I: IntoIterator<Item = &'a LimitRange>>(ranges: I) -> Self {
        let mut defaults = Self::default();
        for item in ranges
            .into_iter()
            .filter_map(|r| r.spec.as_ref())
            .flat_map(|s| &s.limits)
            .filter(|item| item.type_ == "Container")
        {
            let set = |resource: &str| {
                [&item.default_request, &item.default]
                    .into_iter()
                    .filter_map(|map| map.as_ref()?.get(resource))
                    .any(is_positive)
            };
            defaults.cpu |= set("cpu");
            defaults.memory |= set("memory");
        }
        defaults
    }
}

fn is_positive(quantity: &Quantity) -> bool {
    quantity
        .0
        .parse::<neap_units::Quantity>()
        .is_ok_and(|q| q.approximate_f64() > 0.0)
}
