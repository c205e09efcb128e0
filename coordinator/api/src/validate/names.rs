//! The lengths of the names that become label values.

use kube::ResourceExt;

use super::{Reason, Refusal};
use crate::keys::SCALED_OBJECT_NAME;
use crate::scaled_object::ScaledObject;

/// Kubernetes' limit for the value of a label, in bytes.
pub const MAX_LABEL_VALUE_LENGTH: usize = 63;

pub(super) fn check(so: &ScaledObject, refusals: &mut Vec<Refusal>) {
    let name = so.name_any();
    if name.len() > MAX_LABEL_VALUE_LENGTH {
        refusals.push(Refusal::new(
            Reason::NameTooLong,
            format!(
                "scaledobject name {name:?} is {} characters long; must be no more than {MAX_LABEL_VALUE_LENGTH} characters because it is used as the {SCALED_OBJECT_NAME:?} label value",
                name.len()
            ),
            "metadata.name",
            &name,
            format!("at most {MAX_LABEL_VALUE_LENGTH} characters"),
        ));
    }
    let hpa_name = so.hpa_name();
    if hpa_name.len() > MAX_LABEL_VALUE_LENGTH {
        refusals.push(Refusal::new(
            Reason::HpaNameTooLong,
            format!(
                "HPA name {hpa_name:?} derived from scaledobject is {} characters long; must be no more than {MAX_LABEL_VALUE_LENGTH} characters; set spec.advanced.horizontalPodAutoscalerConfig.name to a shorter name or shorten the scaledobject name",
                hpa_name.len()
            ),
            "spec.advanced.horizontalPodAutoscalerConfig.name",
            &hpa_name,
            format!("at most {MAX_LABEL_VALUE_LENGTH} characters"),
        ));
    }
}
