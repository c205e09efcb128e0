//! Annotations, labels, finalizers and names that KEDA's users and tools rely on.

/// Annotation: `true` (or any text that is not a boolean) holds the replicas where they are.
pub const PAUSED: &str = "autoscaling.keda.sh/paused";
/// Annotation: a count; the target goes straight there and stays.
pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
/// Annotation: no scaling down, nor to zero or idle.
pub const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
/// Annotation: no scaling up, nor from zero.
pub const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
/// Annotation: the object counts as active whatever its triggers say.
pub const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";
/// Annotation: `true` allows taking over the HPA that `advanced` names.
pub const TRANSFER_HPA_OWNERSHIP: &str = "scaledobject.keda.sh/transfer-hpa-ownership";
/// Annotation: comma-separated labels that are not copied to what is exported for the object.
pub const HPA_EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";
/// Annotation on an HPA: `false` leaves that HPA out of the check for other owners.
pub const HPA_OWNERSHIP_VALIDATION: &str = "validations.keda.sh/hpa-ownership";
/// Annotation of Neap: with the value `value`, the first step from zero is not limited by policies.
pub const FIRST_STEP: &str = "neap.dev/first-step";
/// Label: the name of the ScaledObject, on it and on what is made for it.
pub const SCALED_OBJECT_NAME: &str = "scaledobject.keda.sh/name";
/// Label: the name of the ScaledJob, on its Jobs.
pub const SCALED_JOB_NAME: &str = "scaledjob.keda.sh/name";
/// Annotation on Jobs: the generation of the ScaledJob that made them.
pub const SCALED_JOB_GENERATION: &str = "scaledjob.keda.sh/generation";
/// Annotation: comma-separated labels of a ScaledJob that are not copied to its Jobs.
pub const JOB_EXCLUDED_LABELS: &str = "scaledjob.keda.sh/job-excluded-labels";
/// Finalizer that KEDA sets on all four kinds.
pub const FINALIZER: &str = "finalizer.keda.sh";

/// Reads a boolean annotation as KEDA does: absent is `false`, and text that is no boolean is
/// `true` (a mistyped pause must not scale).
pub fn bool_annotation(
    annotations: Option<&std::collections::BTreeMap<String, String>>,
    key: &str,
) -> bool {
    match annotations.and_then(|a| a.get(key)) {
        None => false,
        Some(text) => parse_bool(text).unwrap_or(true),
    }
}

/// Parses a boolean in Go's spelling, which KEDA's annotations and trigger metadata use:
/// `1 t T TRUE true True` and `0 f F FALSE false False`. `None` for anything else.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_pause_pauses() {
        let annotations =
            std::collections::BTreeMap::from([(PAUSED.to_owned(), "yes please".to_owned())]);
        assert!(bool_annotation(Some(&annotations), PAUSED));
        assert!(!bool_annotation(Some(&annotations), PAUSED_SCALE_IN));
        assert!(!bool_annotation(None, PAUSED));
    }

    #[test]
    fn booleans_are_gos() {
        assert_eq!(parse_bool("T"), Some(true));
        assert_eq!(parse_bool("0"), Some(false));
        assert_eq!(parse_bool("yes"), None);
        assert_eq!(parse_bool(" true"), None);
    }
}
