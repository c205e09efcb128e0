//! `advanced.horizontalPodAutoscalerConfig.behavior`, with the defaults that the API server would
//! fill into an HPA.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HPAScalingRules;
use neap_api::ScaledObject;
use neap_engine::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use neap_units::Quantity;

/// The behaviour of `object`; `None` where it has none.
///
/// # Errors
/// A text that names field, value and what is allowed. Bounds are checked by validation.
pub(super) fn convert(object: &ScaledObject) -> Result<Option<Behavior>, String> {
    let behavior = object
        .spec
        .advanced
        .as_ref()
        .and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref())
        .and_then(|config| config.behavior.as_ref());
    let Some(behavior) = behavior else {
        return Ok(None);
    };
    Ok(Some(Behavior {
        scale_up: rules(
            "scaleUp",
            behavior.scale_up.as_ref(),
            ScalingRules::default_up(),
        )?,
        scale_down: rules(
            "scaleDown",
            behavior.scale_down.as_ref(),
            ScalingRules::default_down(),
        )?,
    }))
}

fn rules(
    direction: &str,
    given: Option<&HPAScalingRules>,
    default: ScalingRules,
) -> Result<ScalingRules, String> {
    let Some(given) = given else {
        return Ok(default);
    };
    let path = |field: &str| {
        format!("spec.advanced.horizontalPodAutoscalerConfig.behavior.{direction}.{field}")
    };
    let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let policies = match &given.policies {
        None => default.policies,
        Some(policies) => policies
            .iter()
            .enumerate()
            .map(|(at, policy)| {
                let kind = match policy.type_.as_str() {
                    "Pods" => PolicyKind::Pods,
                    "Percent" => PolicyKind::Percent,
                    other => {
                        return Err(format!(
                            "{}: {other:?} is not allowed: it must be Pods or Percent",
                            path(&format!("policies[{at}].type"))
                        ));
                    }
                };
                Ok(ScalingPolicy {
                    kind,
                    value: policy.value,
                    period: seconds(policy.period_seconds),
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let select_policy = match given.select_policy.as_deref() {
        None | Some("") => default.select_policy,
        Some("Max") => SelectPolicy::Max,
        Some("Min") => SelectPolicy::Min,
        Some("Disabled") => SelectPolicy::Disabled,
        Some(other) => {
            return Err(format!(
                "{}: {other:?} is not allowed: it must be Max, Min or Disabled",
                path("selectPolicy")
            ));
        }
    };
    let tolerance = match &given.tolerance {
        None => None,
        Some(quantity) => Some(
            quantity
                .0
                .parse::<Quantity>()
                .map(|quantity| quantity.approximate_f64())
                .map_err(|error| {
                    format!(
                        "{}: {:?} is not allowed: {error}",
                        path("tolerance"),
                        quantity.0
                    )
                })?,
        ),
    };
    Ok(ScalingRules {
        stabilization_window: given
            .stabilization_window_seconds
            .map(seconds)
            .or(default.stabilization_window),
        select_policy,
        policies,
        tolerance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(behavior: serde_json::Value) -> ScaledObject {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "a", "namespace": "ns"},
            "spec": {
                "scaleTargetRef": {"name": "web"},
                "triggers": [],
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
            }
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_given_takes_the_hpas_defaults() {
        let given = serde_json::json!({"scaleDown": {"stabilizationWindowSeconds": 30, "tolerance": "50m",
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}], "selectPolicy": "Min"}});
        let behavior = convert(&object(given)).unwrap().unwrap();
        assert_eq!(behavior.scale_up, ScalingRules::default_up());
        let down = behavior.scale_down;
        assert_eq!(down.stabilization_window, Some(Duration::from_secs(30)));
        assert_eq!(
            (down.select_policy, down.tolerance),
            (SelectPolicy::Min, Some(0.05))
        );
        let policy = ScalingPolicy {
            kind: PolicyKind::Pods,
            value: 2,
            period: Duration::from_secs(60),
        };
        assert_eq!(down.policies, [policy]);
        let empty = convert(&object(serde_json::json!({}))).unwrap().unwrap();
        assert_eq!(empty, Behavior::default());
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let given = serde_json::json!({"scaleUp": {"policies": [{"type": "Cores", "value": 1, "periodSeconds": 1}]}});
        let fault = convert(&object(given)).unwrap_err();
        assert!(
            fault.contains("behavior.scaleUp.policies[0].type: \"Cores\""),
            "{fault}"
        );
    }
}
