//! From a ScaledObject to the HPA that stands in for it.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use neap_api::{Pause, ScaleTrigger, ScaledObject, keys};
use neap_triggers::{ResourceTarget, Target, TriggerConfig, TriggerContext};
use neap_units::Quantity;

/// Label of every HPA that was handed back.
pub(super) const HANDED_BACK: &str = "neap.dev/handed-back";
/// Annotation: when.
const HANDED_BACK_AT: &str = "neap.dev/handed-back-at";
/// What an HPA without metrics is given by the API server; here it is said.
const DEFAULT_CPU_PERCENT: i32 = 80;

/// What is to be done about one ScaledObject.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plan {
    /// Create this HPA; the notes say what it cannot do.
    Create {
        /// The HPA.
        hpa: Box<HorizontalPodAutoscaler>,
        /// One sentence each.
        notes: Vec<String>,
    },
    /// An HPA would do what the user has forbidden.
    Leave(String),
    /// The object cannot be expressed.
    Refuse(String),
}

/// The name of the HPA for `object`: the one that KEDA would give it and that dashboards know. A
/// coordinator would remove an HPA of a name that the object transfers to it, so that one differs.
pub(super) fn hpa_name(object: &ScaledObject) -> String {
    if object.transfers_hpa_ownership() {
        format!("neap-handback-{}", object.name_any())
    } else {
        object.hpa_name()
    }
}

/// Plans the HPA for `object`, whose target has `current` replicas. `at` is the time to note.
pub(super) fn plan(object: &ScaledObject, current: i32, at: jiff::Timestamp) -> Plan {
    match object.pause() {
        Pause::None => {}
        Pause::Here | Pause::At(_) | Pause::Invalid(_) => {
            return Plan::Leave(format!(
                "is paused and stays at {current}; no HPA is made for it"
            ));
        }
    }
    let mut notes = Vec::new();
    let mut metrics = Vec::new();
    let mut others = Vec::new();
    for (index, trigger) in object.spec.triggers.iter().enumerate() {
        if !trigger.is_cpu_or_memory() {
            others.push(trigger.type_.as_str());
            continue;
        }
        match metric(trigger, index) {
            Ok(metric) => metrics.push(metric),
            Err(fault) => return Plan::Refuse(fault),
        }
    }
    let max = object.spec.max_replicas();
    let mut min = object.spec.hpa_min_replicas();
    if !others.is_empty() {
        // An HPA cannot read them: what they asked for last is kept, and only added to.
        min = min.max(current).min(max);
        notes.push(format!(
            "no HPA can read {}: it keeps at least the {min} replicas of now",
            list(&others)
        ));
    }
    if metrics.is_empty() {
        notes.push(format!("it has no cpu or memory trigger: above that it goes by cpu at {DEFAULT_CPU_PERCENT} % of the requests"));
        metrics.push(utilization("cpu", DEFAULT_CPU_PERCENT));
    }
    if current == 0 {
        let kind = object
            .spec
            .scale_target_ref
            .group_version_kind()
            .kind
            .to_lowercase();
        notes.push(format!(
            "it is at 0, where an HPA leaves it: kubectl scale {kind}/{} --replicas={min} wakes it",
            object.spec.scale_target_ref.name
        ));
    }
    if min > max {
        return Plan::Refuse(format!(
            "minReplicaCount {min} is above maxReplicaCount {max}"
        ));
    }
    if object.pauses_scale_in() || object.pauses_scale_out() {
        notes.push("the annotations that pause one direction do not hold for an HPA".to_owned());
    }
    let hpa = HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            name: Some(hpa_name(object)),
            namespace: object.namespace(),
            labels: Some(
                [
                    ("app.kubernetes.io/managed-by", "neap"),
                    (HANDED_BACK, "true"),
                    (keys::SCALED_OBJECT_NAME, &object.name_any()),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            annotations: Some(
                [(
                    HANDED_BACK_AT.to_owned(),
                    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                )]
                .into(),
            ),
            // No owner reference: an HPA that a ScaledObject owns counts as KEDA's, and a
            // coordinator that comes back would remove it unasked.
            ..ObjectMeta::default()
        },
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: target(object),
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(metrics),
            behavior: object
                .spec
                .advanced
                .as_ref()
                .and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref())
                .and_then(|config| config.behavior.clone()),
        },
        status: None,
    };
    Plan::Create {
        hpa: Box::new(hpa),
        notes,
    }
}

/// The reference to the object's target, in full.
pub(super) fn target(object: &ScaledObject) -> CrossVersionObjectReference {
    let reference = &object.spec.scale_target_ref;
    let kind = reference.group_version_kind();
    CrossVersionObjectReference {
        api_version: Some(kind.api_version()),
        kind: kind.kind,
        name: reference.name.clone(),
    }
}

fn metric(trigger: &ScaleTrigger, index: usize) -> Result<MetricSpec, String> {
    let config = TriggerConfig {
        metadata: trigger.metadata.clone(),
        metric_type: trigger.metric_type().map(str::to_owned),
        index: u32::try_from(index).unwrap_or(u32::MAX),
        ..TriggerConfig::new(trigger.type_.clone(), TriggerContext::default())
    };
    let built = neap_triggers::build(&config)
        .map_err(|error| format!("spec.triggers[{index}]: {error}"))?;
    let Some(Target::Resource {
        resource,
        container,
        target,
    }) = built.metrics.first().map(|metric| &metric.target)
    else {
        return Err(format!(
            "spec.triggers[{index}]: {} is no metric of a resource",
            trigger.type_
        ));
    };
    let name = resource.as_str();
    let target = match target {
        ResourceTarget::Utilization(percent) => share(*percent),
        ResourceTarget::AverageValue(value) => MetricTarget {
            type_: "AverageValue".to_owned(),
            average_value: Some(KubeQuantity(Quantity::from_milli(*value).to_string())),
            ..MetricTarget::default()
        },
    };
    Ok(match container {
        None => resource_metric(name, target),
        Some(container) => MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricSource {
                container: container.clone(),
                name: name.to_owned(),
                target,
            }),
            ..MetricSpec::default()
        },
    })
}

fn share(percent: i32) -> MetricTarget {
    MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(percent),
        ..MetricTarget::default()
    }
}

fn utilization(resource: &str, percent: i32) -> MetricSpec {
    resource_metric(resource, share(percent))
}

fn resource_metric(resource: &str, target: MetricTarget) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: resource.to_owned(),
            target,
        }),
        ..MetricSpec::default()
    }
}

fn list(names: &[&str]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(name) {
            seen.push(name);
        }
    }
    seen.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value, annotations: Value) -> ScaledObject {
        let mut whole = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
            "spec": {"scaleTargetRef": {"kind": "statefulset", "name": "front"}},
        });
        for (key, value) in spec.as_object().unwrap() {
            whole["spec"][key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn at() -> jiff::Timestamp {
        "2026-11-22T02:00:00Z".parse().unwrap()
    }

    #[track_caller]
    fn created(object: &ScaledObject, current: i32) -> (Value, Vec<String>) {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        match plan(object, current, at()) {
            Plan::Create { hpa, notes } => (serde_json::to_value(hpa).unwrap(), notes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cpu_and_memory_stay_as_they_are() {
        let given = object(
            json!({
                "minReplicaCount": 2, "maxReplicaCount": 9,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}},
                "triggers": [
                    {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
                    {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "512Mi", "containerName": "app"}}
                ]
            }),
            json!({}),
        );
        let (hpa, notes) = created(&given, 5);
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(hpa["metadata"]["name"], "keda-hpa-web");
        assert!(hpa["metadata"]["ownerReferences"].is_null());
        assert_eq!(hpa["metadata"]["labels"][HANDED_BACK], "true");
        assert_eq!(
            hpa["spec"],
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "front"},
                "minReplicas": 2, "maxReplicas": 9,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                    {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "app",
                        "target": {"type": "AverageValue", "averageValue": "536870912"}}}
                ]
            })
        );
    }

    #[test]
    fn what_an_hpa_cannot_read_keeps_the_replicas_of_now() {
        let triggers = json!([
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
            {"type": "kafka", "metadata": {}},
            {"type": "node-accept-queue", "metadata": {"port": "80"}}
        ]);
        let given = object(
            json!({"minReplicaCount": 1, "maxReplicaCount": 8, "triggers": triggers}),
            json!({}),
        );
        let (hpa, notes) = created(&given, 5);
        assert_eq!(
            (hpa["spec"]["minReplicas"].as_i64(), notes.len()),
            (Some(5), 1)
        );
        assert!(
            notes[0].contains("kafka, node-accept-queue") && notes[0].contains("5 replicas"),
            "{notes:?}"
        );
        // More than allowed were there: the floor is never above the most.
        assert_eq!(created(&given, 12).0["spec"]["minReplicas"], 8);
    }

    #[test]
    fn at_zero_it_says_that_an_hpa_does_nothing() {
        let given = object(
            json!({"triggers": [{"type": "kafka", "metadata": {}}]}),
            json!({}),
        );
        let (hpa, notes) = created(&given, 0);
        assert_eq!(hpa["spec"]["minReplicas"], 1);
        assert_eq!(
            hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            DEFAULT_CPU_PERCENT
        );
        assert!(
            notes
                .iter()
                .any(|note| note.contains("kubectl scale statefulset/front --replicas=1")),
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_paused_is_left_alone() {
        let given = object(
            json!({"triggers": [{"type": "kafka", "metadata": {}}]}),
            json!({"autoscaling.keda.sh/paused": "true"}),
        );
        assert!(matches!(plan(&given, 3, at()), Plan::Leave(_)));
    }

    #[test]
    fn a_name_that_would_be_taken_away_again_is_not_used() {
        let given = object(
            json!({"triggers": [{"type": "kafka", "metadata": {}}],
                "advanced": {"horizontalPodAutoscalerConfig": {"name": "old"}}}),
            json!({"scaledobject.keda.sh/transfer-hpa-ownership": "true"}),
        );
        assert_eq!(hpa_name(&given), "neap-handback-web");
    }

    #[test]
    fn a_trigger_that_says_nothing_is_refused() {
        let given = object(
            json!({"triggers": [{"type": "cpu", "metadata": {}}]}),
            json!({}),
        );
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let Plan::Refuse(fault) = plan(&given, 3, at()) else {
            panic!("not refused")
        };
        assert!(fault.contains("spec.triggers[0]"), "{fault}");
    }
}
