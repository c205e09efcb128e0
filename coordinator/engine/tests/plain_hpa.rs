//! Targets of a plain HPA, from its manifest to its words (`hpa.md` 1.8, 2 and 5).

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests by clippy

mod support;

use neap_engine::hpa_spec::HpaSpec;
use neap_engine::{
    ConditionStatus, ConditionType, Evaluation, Failure, MetricSpec, Reading, Settings,
    TriggerOutcome, ValueTarget, ZeroHandling, validate_spec,
};
use neap_units::MilliValue;
use serde_json::{Value, json};
use support::{Target, at, of_pods, samples, units, value};

/// Four replicas of 1 to 10 with these metrics.
fn target(metrics: Value) -> Target {
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": metrics,
    });
    let spec: HpaSpec = serde_json::from_value(spec).unwrap();
    let spec = spec.with_defaults();
    Target::new(
        spec.to_scaling_spec("ns", ZeroHandling::Disabled, Settings::default()),
        4,
    )
}

fn object(metric: &Value, target: &Value) -> Value {
    let described = json!({"apiVersion": "v1", "kind": "Service", "name": "front"});
    json!({"type": "Object", "object": {"describedObject": described, "metric": metric, "target": target}})
}

fn external(metric: &Value, target: &Value) -> Value {
    json!({"type": "External", "external": {"metric": metric, "target": target}})
}

/// A queue of which each replica takes ten.
fn queue() -> Value {
    external(
        &json!({"name": "queue"}),
        &json!({"type": "AverageValue", "averageValue": "10"}),
    )
}

fn scaling_active(evaluation: &Evaluation) -> (ConditionStatus, &str, &str) {
    let mut conditions = evaluation.conditions.iter();
    let condition = conditions.find(|condition| condition.kind == ConditionType::ScalingActive);
    let condition = condition.unwrap();
    (condition.status, &condition.reason, &condition.message)
}

fn events(evaluation: &Evaluation) -> Vec<(&str, &str)> {
    evaluation
        .events
        .iter()
        .map(|event| (event.reason.as_ref(), event.message.as_str()))
        .collect()
}

const OBJECT: &str =
    "invalid object metric source: neither a value target nor an average value target was set";
const EXTERNAL: &str =
    "invalid external metric source: neither a value target nor an average value target was set";
const RESOURCE: &str = "invalid resource metric source: neither an average utilization target \
                        nor an average value (usage) target was set";

/// A metric without a target, the reason of its failure, its message, and what stands before that in
/// the summary.
fn without_target() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    let name = json!({"name": "hits"});
    vec![
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
            "FailedGetResourceMetric",
            RESOURCE,
            "failed to get cpu resource metric value: ",
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {
                "name": "memory", "container": "app", "target": {"type": "AverageValue"},
            }}),
            "FailedGetContainerResourceMetric",
            RESOURCE,
            "failed to get app container metric value: ",
        ),
        // The type decides, whatever is given.
        (
            object(&name, &json!({"type": "Value", "averageValue": "5"})),
            "FailedGetObjectMetric",
            OBJECT,
            "failed to get object metric value: ",
        ),
        (
            object(&name, &json!({"type": "AverageValue", "value": "5"})),
            "FailedGetObjectMetric",
            OBJECT,
            "failed to get object metric value: ",
        ),
        (
            object(
                &name,
                &json!({"type": "Utilization", "value": "5", "averageValue": "5"}),
            ),
            "FailedGetObjectMetric",
            OBJECT,
            "failed to get object metric value: ",
        ),
        (
            external(&name, &json!({"type": "Value"})),
            "FailedGetExternalMetric",
            EXTERNAL,
            "failed to get hits external metric value: ",
        ),
        // The HPA does not survive this one, so that the words are Neap's.
        (
            json!({"type": "Pods", "pods": {"metric": name, "target": {"type": "AverageValue"}}}),
            "FailedGetPodsMetric",
            "invalid pods metric source: no average value target was set",
            "failed to get pods metric value: ",
        ),
    ]
}

/// `hpa.md` 2: if some fail and the others would go down nothing is done, and ScalingActive says why
/// in the words of the first.
#[test]
fn a_metric_without_a_target_fails_and_blocks_scale_down() {
    for (metric, reason, message, before) in without_target() {
        let mut hpa = target(json!([metric, queue()]));
        let low = [units(5)];
        let readings = [value(&low, at(0)), value(&low, at(0))];
        let blocked = hpa.step(&readings, at(0));
        assert_eq!(blocked.write, None, "{}", blocked.why);
        let unable = format!("the HPA was unable to compute the replica count: {message}");
        assert_eq!(
            scaling_active(&blocked),
            (ConditionStatus::False, reason, unable.as_str())
        );
        let summary =
            format!("invalid metrics (1 invalid out of 2), first error is: {before}{message}");
        assert_eq!(
            events(&blocked),
            [
                (reason, message),
                ("FailedComputeMetricsReplicas", summary.as_str())
            ]
        );
        assert_eq!(blocked.error, Some(summary));
        assert_eq!(blocked.current_metrics.len(), 2, "one entry for each");
        assert_eq!(blocked.current_metrics[0], None);
        assert!(
            matches!(&blocked.why.triggers[0].outcome, TriggerOutcome::Failed { message: found, .. } if found == message)
        );
    }
}

/// `hpa.md` 2: scaling up goes on, with an error.
#[test]
fn a_metric_without_a_target_does_not_block_scale_up() {
    for (metric, reason, message, _) in without_target() {
        let mut hpa = target(json!([queue(), metric]));
        let high = [units(60)];
        let readings = [value(&high, at(0)), value(&high, at(0))];
        let up = hpa.step(&readings, at(0));
        assert_eq!(up.write, Some(6), "{}", up.why);
        assert_eq!(scaling_active(&up).1, "ValidMetricFound");
        assert_eq!(events(&up)[0], (reason, message));
        assert!(up.error.is_some());
    }
}

/// Without a target nobody is asked, so that a failing source makes no difference.
#[test]
fn the_missing_target_comes_before_the_source() {
    for (metric, _, message, before) in without_target() {
        let mut hpa = target(json!([metric]));
        let failed = hpa.step(&[Reading::Failed(Failure::source("down", at(0)))], at(0));
        let summary =
            format!("invalid metrics (1 invalid out of 1), first error is: {before}{message}");
        assert_eq!(failed.error, Some(summary));
    }
}

#[test]
fn a_target_of_zero_is_none() {
    for (metric, ..) in without_target() {
        let spec = target(json!([metric])).spec;
        let errors = validate_spec(&spec);
        let target = errors.iter().find(|error| error.value == "0").unwrap();
        assert_eq!(target.field, "spec.triggers[0] target");
        assert_eq!(target.allowed, "must be more than 0");
    }
}

/// `hpa.md` 1.8: an average over an object's value is named as an external metric is, with the
/// metric's selector.
#[test]
fn metrics_are_named_as_the_hpa_names_them() {
    let plain = json!({"name": "hits"});
    let selecting = json!({"name": "hits", "selector": {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["x", "y"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }});
    let printed = "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},\
                   MatchExpressions:[]LabelSelectorRequirement{\
                   LabelSelectorRequirement{Key:zone,Operator:In,Values:[x y],},\
                   LabelSelectorRequirement{Key:old,Operator:DoesNotExist,Values:[],},},}";
    let of_value = json!({"type": "Value", "value": "10"});
    let average = json!({"type": "AverageValue", "averageValue": "10"});
    let cases = [
        (object(&plain, &of_value), "Service metric hits".to_owned()),
        (
            object(&selecting, &of_value),
            "Service metric hits".to_owned(),
        ),
        (
            object(&plain, &average),
            "external metric hits(nil)".to_owned(),
        ),
        (
            object(&selecting, &average),
            format!("external metric hits({printed})"),
        ),
        (
            external(&plain, &average),
            "external metric hits(nil)".to_owned(),
        ),
        (
            external(&selecting, &of_value),
            format!("external metric hits({printed})"),
        ),
    ];
    for (metric, name) in cases {
        let mut hpa = target(json!([metric]));
        let found = hpa.step(&[value(&[units(40)], at(0))], at(0));
        let message =
            format!("the HPA was able to successfully calculate a replica count from {name}");
        assert_eq!(
            scaling_active(&found),
            (ConditionStatus::True, "ValidMetricFound", message.as_str())
        );
        let mut hpa = target(json!([metric]));
        let up = hpa.step(&[value(&[units(80)], at(0))], at(0));
        let expected = format!("New size: 8; reason: {name} above target");
        assert_eq!(events(&up), [("SuccessfulRescale", expected.as_str())]);
    }
}

/// `hpa.md` 1.8: of resources and external metrics the average value wins.
#[test]
fn where_two_targets_are_given_the_average_value_wins() {
    let both = json!({"type": "Value", "value": "1", "averageValue": "10"});
    let spec = target(json!([external(&json!({"name": "queue"}), &both)])).spec;
    assert!(matches!(
        spec.triggers[0].metric,
        MetricSpec::External {
            target: ValueTarget::AverageValue(average),
            ..
        } if average == units(10)
    ));
    let both = json!({"type": "Utilization", "averageUtilization": 50, "averageValue": "2"});
    let mut hpa =
        target(json!([{"type": "Resource", "resource": {"name": "cpu", "target": both}}]));
    let found = hpa.step(&[of_pods(&samples(4, 2000, at(0)))], at(0));
    let status = found.current_metrics[0].unwrap();
    assert_eq!(status.average_value, Some(MilliValue::new(2000)));
    assert_eq!(status.average_utilization, None);
}
