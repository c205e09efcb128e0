//! From a HorizontalPodAutoscaler as it is read to the facts that are kept.

use neap_api::{TargetKind, keys};

use super::lean::LeanHpa;
use crate::keys::TargetRef;
use crate::world::{HpaFacts, TargetId};

/// The facts of an HPA; `None` without a name, which the API server never sends.
pub(super) fn hpa_facts(hpa: &LeanHpa) -> Option<HpaFacts> {
    let meta = &hpa.metadata;
    let namespace = meta.namespace.as_deref()?;
    let target = &hpa.spec.scale_target_ref;
    // An HPA without a group means the core group, not `apps`.
    let kind = if target.api_version.is_empty() {
        TargetKind {
            group: String::new(),
            version: "v1".to_owned(),
            kind: target.kind.clone(),
        }
    } else {
        TargetKind::parse(&target.api_version, &target.kind)
    };
    let reference = TargetRef::new(namespace, &kind.api_version(), &kind.kind, &target.name);
    let scaled_object = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "ScaledObject" && owner.api_version.starts_with("keda.sh/"))
        .map(|owner| (owner.name.as_str().into(), owner.uid.as_str().into()));
    let has_external = hpa
        .spec
        .metrics
        .iter()
        .any(|metric| metric.type_ == "External");
    let is_scaling = hpa
        .status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "ScalingActive" && condition.status == "True");
    Some(HpaFacts {
        namespace: namespace.into(),
        name: meta.name.as_deref()?.into(),
        uid: meta.uid.as_deref()?.into(),
        resource_version: meta.resource_version.as_deref()?.into(),
        target: TargetId::from(&reference),
        scaled_object,
        is_no_owner: meta
            .annotations
            .as_ref()
            .and_then(|all| all.get(keys::HPA_OWNERSHIP_VALIDATION))
            .is_some_and(|value| value == "false"),
        external_metrics_answered: has_external && is_scaling,
        deleting: meta.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_hpa_of_keda_is_told_from_others() {
        let hpa = json!({
            "metadata": {"name": "keda-hpa-web", "namespace": "shop", "uid": "u", "resourceVersion": "3",
                "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "u-web", "controller": true}]},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "External", "external": {}}]},
            "status": {"conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}]},
        });
        let facts = hpa_facts(&serde_json::from_value(hpa).unwrap()).unwrap();
        assert_eq!(facts.scaled_object, Some(("web".into(), "u-web".into())));
        assert!(facts.external_metrics_answered && !facts.is_no_owner && !facts.deleting);
        assert_eq!(
            facts.target,
            TargetId::from(&TargetRef::new("shop", "apps/v1", "deployment", "web"))
        );

        let plain = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "3",
                "annotations": {"validations.keda.sh/hpa-ownership": "false"}},
            "spec": {"scaleTargetRef": {"kind": "ReplicationController", "name": "web"}, "metrics": null},
        });
        let facts = hpa_facts(&serde_json::from_value(plain).unwrap()).unwrap();
        assert_eq!(facts.scaled_object, None);
        assert!(facts.is_no_owner && !facts.external_metrics_answered);
        assert_eq!(facts.target.group.as_ref(), "");
    }
}
