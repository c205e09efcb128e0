//! One owner per target: no HPA and no other ScaledObject beside this one.

use kube::ResourceExt;

use super::{Reason, Refusal, Surroundings};
use crate::keys::TRANSFER_HPA_OWNERSHIP;
use crate::scaled_object::ScaledObject;

pub(super) fn check(so: &ScaledObject, around: &Surroundings, refusals: &mut Vec<Refusal>) {
    let name = so.name_any();
    let kind = so.spec.scale_target_ref.group_version_kind();
    let target = so.spec.scale_target_ref.name.as_str();
    let hpa_name = so.hpa_name();

    for other in around.scaled_objects.iter().filter(|o| o.name != name) {
        if other.target_name == target && other.target_kind == kind {
            refusals.push(Refusal::new(
                Reason::OtherScaledObject,
                format!(
                    "the workload '{target}' of type '{kind}' is already managed by the ScaledObject '{}'",
                    other.name
                ),
                "spec.scaleTargetRef.name",
                target,
                "a workload that no other ScaledObject names",
            ));
        }
    }
    for other in around.scaled_objects.iter().filter(|o| o.name != name) {
        if other.hpa_name == hpa_name {
            refusals.push(Refusal::new(
                Reason::OtherScaledObjectHpa,
                format!(
                    "the HPA '{hpa_name}' is already managed by the ScaledObject '{}'",
                    other.name
                ),
                "spec.advanced.horizontalPodAutoscalerConfig.name",
                &hpa_name,
                "a name that no other ScaledObject uses",
            ));
        }
    }
    for hpa in &around.hpas {
        let ours = hpa.owners.contains(&name);
        if hpa.exempt || ours || hpa.target_name != target || hpa.target_kind != kind {
            continue;
        }
        if !so.transfers_hpa_ownership() {
            refusals.push(Refusal::new(
                Reason::OtherHpa,
                format!(
                    "the workload '{target}' of type '{kind}' is already managed by the hpa '{}'",
                    hpa.name
                ),
                "spec.scaleTargetRef.name",
                target,
                format!("a workload without an HPA, or the annotation {TRANSFER_HPA_OWNERSHIP}: \"true\" with the HPA's name in spec.advanced.horizontalPodAutoscalerConfig.name"),
            ));
        } else if so.custom_hpa_name() != Some(hpa.name.as_str()) {
            refusals.push(Refusal::new(
                Reason::TransferOwnershipMissingHpaName,
                format!(
                    "the existing hpa '{}' for workload '{target}' of type '{kind}' must be specified by name in advanced settings to enable ownership transfer",
                    hpa.name
                ),
                "spec.advanced.horizontalPodAutoscalerConfig.name",
                so.custom_hpa_name().unwrap_or("absent"),
                &hpa.name,
            ));
        }
    }
}
