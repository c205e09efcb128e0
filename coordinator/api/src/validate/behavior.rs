//! The limits of `behavior`. KEDA copies it into an HPA and lets the API server refuse that;
//! Neap makes no HPA, so the rules of autoscaling/v2 are applied here.

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules};

use super::{Reason, Refusal};
use crate::scaled_object::ScaledObjectSpec;

const FIELD: &str = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
/// Longest stabilization window, in seconds.
const MAX_WINDOW: i32 = 3600;
/// Longest period of a policy, in seconds.
const MAX_PERIOD: i32 = 1800;

pub(super) fn check(spec: &ScaledObjectSpec, refusals: &mut Vec<Refusal>) {
    let Some(behavior) = spec
        .advanced
        .as_ref()
        .and_then(|a| a.horizontal_pod_autoscaler_config.as_ref())
        .and_then(|h| h.behavior.as_ref())
    else {
        return;
    };
    if let Some(rules) = &behavior.scale_up {
        check_rules("scaleUp", rules, refusals);
    }
    if let Some(rules) = &behavior.scale_down {
        check_rules("scaleDown", rules, refusals);
    }
}

fn check_rules(direction: &str, rules: &HPAScalingRules, refusals: &mut Vec<Refusal>) {
    let mut refuse = |field: String, value: String, allowed: &str| {
        let field = format!("{FIELD}.{direction}.{field}");
        refusals.push(Refusal::new(
            Reason::IncorrectBehavior,
            format!("{field}: Invalid value: {value}: must be {allowed}"),
            field,
            value,
            allowed,
        ));
    };
    if let Some(window) = rules.stabilization_window_seconds
        && !(0..=MAX_WINDOW).contains(&window)
    {
        refuse(
            "stabilizationWindowSeconds".into(),
            window.to_string(),
            "0 to 3600",
        );
    }
    if let Some(word) = &rules.select_policy
        && !matches!(word.as_str(), "Max" | "Min" | "Disabled")
    {
        refuse(
            "selectPolicy".into(),
            format!("{word:?}"),
            "Max, Min or Disabled",
        );
    }
    if let Some(tolerance) = &rules.tolerance
        && !tolerance
            .0
            .parse::<neap_units::Quantity>()
            .is_ok_and(|q| q.approximate_f64() >= 0.0)
    {
        refuse(
            "tolerance".into(),
            format!("{:?}", tolerance.0),
            "a quantity of 0 or more",
        );
    }
    let Some(policies) = &rules.policies else {
        return;
    };
    if policies.is_empty() {
        refuse(
            "policies".into(),
            "[]".into(),
            "absent, or one policy or more",
        );
    }
    for (index, policy) in policies.iter().enumerate() {
        for (name, value, allowed) in policy_faults(policy) {
            refuse(format!("policies[{index}].{name}"), value, allowed);
        }
    }
}

fn policy_faults(policy: &HPAScalingPolicy) -> Vec<(&'static str, String, &'static str)> {
    let mut faults = Vec::new();
    if !matches!(policy.type_.as_str(), "Pods" | "Percent") {
        faults.push(("type", format!("{:?}", policy.type_), "Pods or Percent"));
    }
    if policy.value <= 0 {
        faults.push(("value", policy.value.to_string(), "above 0"));
    }
    if !(1..=MAX_PERIOD).contains(&policy.period_seconds) {
        faults.push((
            "periodSeconds",
            policy.period_seconds.to_string(),
            "1 to 1800",
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(scale_up: serde_json::Value) -> Vec<String> {
        let spec: ScaledObjectSpec = serde_json::from_value(json!({
            "scaleTargetRef": {"name": "a"},
            "triggers": [],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": scale_up}}},
        }))
        .unwrap();
        let mut refusals = Vec::new();
        check(&spec, &mut refusals);
        refusals
            .iter()
            .map(|r| r.field.trim_start_matches(FIELD).to_owned())
            .collect()
    }

    #[test]
    fn each_limit_is_named() {
        assert!(
            fields(json!({
                "stabilizationWindowSeconds": 3600,
                "selectPolicy": "Min",
                "tolerance": "50m",
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1800}],
            }))
            .is_empty()
        );
        // A tolerance of 0 is stored as a number.
        assert!(fields(json!({"tolerance": 0})).is_empty());
        assert_eq!(
            fields(json!({
                "stabilizationWindowSeconds": 3601,
                "selectPolicy": "max",
                "tolerance": "-1",
                "policies": [{"type": "pods", "value": 0, "periodSeconds": 1801}],
            })),
            [
                ".scaleUp.stabilizationWindowSeconds",
                ".scaleUp.selectPolicy",
                ".scaleUp.tolerance",
                ".scaleUp.policies[0].type",
                ".scaleUp.policies[0].value",
                ".scaleUp.policies[0].periodSeconds",
            ]
        );
        assert_eq!(fields(json!({"policies": []})), [".scaleUp.policies"]);
    }
}
