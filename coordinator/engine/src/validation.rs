//! Whether a spec makes sense. Every refusal names the field, its value and what is allowed.

use std::collections::BTreeSet;
use std::time::Duration;

use neap_units::MilliValue;

use crate::behavior::{Behavior, ScalingRules, SelectPolicy};
use crate::hpa_validation::{MAX_PERIOD_SECONDS, MAX_WINDOW_SECONDS};
use crate::spec::{
    FallbackBehavior, MAX_TRIGGERS, MetricSpec, ResourceTarget, ScalingSpec, TriggerSpec,
    ValueTarget, ZeroHandling,
};

/// One thing wrong with a [`ScalingSpec`], in the field names of a ScaledObject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value}: {allowed}")]
pub struct SpecError {
    /// The field's path.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// Checks a spec; an empty answer means that [`crate::evaluate`] can work with it.
#[must_use]
pub fn validate_spec(spec: &ScalingSpec) -> Vec<SpecError> {
    let mut errors = Errors(Vec::new());
    errors.bounds(spec);
    errors.triggers(spec);
    errors.fallback(spec);
    errors.modifiers(spec);
    errors.settings(spec);
    if let Some(behavior) = &spec.behavior {
        errors.behavior(behavior);
    }
    if let Some(replicas) = spec.pause.replicas {
        let field = "metadata.annotations[autoscaling.keda.sh/paused-replicas]";
        errors.check(replicas >= 0, field, replicas, "must be at least 0");
    }
    errors.0
}

struct Errors(Vec<SpecError>);

impl Errors {
    fn check(&mut self, holds: bool, field: &str, value: impl ToString, allowed: &str) {
        if !holds {
            let (field, value, allowed) = (field.to_owned(), value.to_string(), allowed.to_owned());
            self.0.push(SpecError {
                field,
                value,
                allowed,
            });
        }
    }

    fn bounds(&mut self, spec: &ScalingSpec) {
        let (min, max) = (spec.min_replicas, spec.max_replicas);
        self.check(min >= 0, "spec.minReplicaCount", min, "must be at least 0");
        self.check(max >= 1, "spec.maxReplicaCount", max, "must be at least 1");
        let allowed = format!("must be at most maxReplicaCount ({max})");
        self.check(min <= max, "spec.minReplicaCount", min, &allowed);
        if let Some(idle) = spec.idle_replicas {
            self.check(
                idle >= 0,
                "spec.idleReplicaCount",
                idle,
                "must be at least 0",
            );
            // A minimum of 0 counts as 1 here, as in KEDA.
            let min = min.max(1);
            let allowed = format!("must be less than minReplicaCount ({min})");
            self.check(idle < min, "spec.idleReplicaCount", idle, &allowed);
        }
    }

    fn triggers(&mut self, spec: &ScalingSpec) {
        let count = spec.triggers.len();
        self.check(
            count > 0,
            "spec.triggers",
            "[]",
            "must have at least one trigger",
        );
        let allowed = format!("at most {MAX_TRIGGERS} triggers are allowed");
        self.check(count <= MAX_TRIGGERS, "spec.triggers", count, &allowed);
        let (mut metrics, mut names) = (BTreeSet::new(), BTreeSet::new());
        for (index, trigger) in spec.triggers.iter().enumerate() {
            let path = format!("spec.triggers[{index}]");
            self.trigger(trigger, &path);
            // A plain HPA may name a metric twice; KEDA's counters are kept by name.
            let is_new = metrics.insert(trigger.metric_name.as_str());
            let allowed = "must not be the metric name of another trigger";
            if spec.zero == ZeroHandling::Triggers {
                self.check(is_new, &path, &trigger.metric_name, allowed);
            }
            if let Some(name) = &trigger.name {
                let is_new = names.insert(name.as_str());
                self.check(is_new, &format!("{path}.name"), name, "must be unique");
            }
        }
        let only_pods = spec.triggers.iter().all(|trigger| {
            matches!(
                trigger.metric,
                MetricSpec::Resource { .. } | MetricSpec::Pods { .. }
            )
        });
        if spec.zero == ZeroHandling::Triggers && only_pods && count > 0 {
            let allowed = "must be at least 1 where all triggers measure pods: at 0 there are none \
                           to measure";
            self.check(
                spec.min_replicas > 0,
                "spec.minReplicaCount",
                spec.min_replicas,
                allowed,
            );
        }
    }

    fn trigger(&mut self, trigger: &TriggerSpec, path: &str) {
        let value = match &trigger.metric {
            MetricSpec::Resource {
                target: ResourceTarget::Utilization(percent),
                ..
            } => percent.to_string(),
            MetricSpec::Resource {
                target: ResourceTarget::AverageValue(value),
                ..
            }
            | MetricSpec::Pods {
                average_value: value,
                ..
            } => value.to_string(),
            MetricSpec::Object { target, .. } | MetricSpec::External { target, .. } => {
                let (ValueTarget::Value(value) | ValueTarget::AverageValue(value)) = target;
                value.to_string()
            }
        };
        self.check(
            trigger.metric.has_target(),
            &format!("{path} target"),
            value,
            "must be more than 0",
        );
    }

    fn fallback(&mut self, spec: &ScalingSpec) {
        let Some(fallback) = spec.fallback else {
            return;
        };
        let (threshold, replicas) = (fallback.failure_threshold, fallback.replicas);
        let allowed = "must be at least 0";
        self.check(
            threshold >= 0,
            "spec.fallback.failureThreshold",
            threshold,
            allowed,
        );
        self.check(replicas >= 0, "spec.fallback.replicas", replicas, allowed);
        let has_formula = spec.scaling_modifiers.is_some();
        self.check(
            fallback.behavior != FallbackBehavior::ScalingModifiers || has_formula,
            "spec.fallback.behavior",
            "scalingModifiers",
            "needs spec.advanced.scalingModifiers.formula",
        );
    }

    fn modifiers(&mut self, spec: &ScalingSpec) {
        let Some(modifiers) = &spec.scaling_modifiers else {
            return;
        };
        let path = "spec.advanced.scalingModifiers";
        let positive = modifiers.target > MilliValue::ZERO;
        let field = format!("{path}.target");
        self.check(positive, &field, modifiers.target, "must be more than 0");
        let external = spec
            .triggers
            .iter()
            .filter(|t| matches!(t.metric, MetricSpec::External { .. }));
        let names: Vec<&str> = external
            .filter_map(|trigger| trigger.name.as_deref())
            .collect();
        if let Err(error) = modifiers.formula.check(&names) {
            let source = modifiers.formula.source();
            self.check(
                false,
                &format!("{path}.formula"),
                source,
                &error.to_string(),
            );
        }
    }

    fn settings(&mut self, spec: &ScalingSpec) {
        let settings = &spec.settings;
        let share = |share: f64| share.is_finite() && share >= 0.0;
        let allowed = "must be a number of at least 0";
        self.check(
            share(settings.tolerance),
            "tolerance",
            settings.tolerance,
            allowed,
        );
        self.check(
            share(settings.noise_margin),
            "noise margin",
            settings.noise_margin,
            allowed,
        );
    }

    fn behavior(&mut self, behavior: &Behavior) {
        let path = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
        self.rules(&behavior.scale_up, &format!("{path}.scaleUp"));
        self.rules(&behavior.scale_down, &format!("{path}.scaleDown"));
    }

    fn rules(&mut self, rules: &ScalingRules, path: &str) {
        let seconds = |seconds: i32| Duration::from_secs(u64::from(seconds.unsigned_abs()));
        if let Some(window) = rules.stabilization_window {
            let allowed = format!("must be at most {MAX_WINDOW_SECONDS}");
            let field = format!("{path}.stabilizationWindowSeconds");
            self.check(
                window <= seconds(MAX_WINDOW_SECONDS),
                &field,
                window.as_secs(),
                &allowed,
            );
        }
        let has_policies = !rules.policies.is_empty();
        let disabled = rules.select_policy == SelectPolicy::Disabled;
        let allowed = "must have at least one policy";
        self.check(
            has_policies || disabled,
            &format!("{path}.policies"),
            "[]",
            allowed,
        );
        for (index, policy) in rules.policies.iter().enumerate() {
            let path = format!("{path}.policies[{index}]");
            let allowed = "must be more than 0";
            self.check(
                policy.value > 0,
                &format!("{path}.value"),
                policy.value,
                allowed,
            );
            let fits = !policy.period.is_zero() && policy.period <= seconds(MAX_PERIOD_SECONDS);
            let allowed = format!("must be from 1 to {MAX_PERIOD_SECONDS}");
            let field = format!("{path}.periodSeconds");
            self.check(fits, &field, policy.period.as_secs(), &allowed);
        }
        if let Some(tolerance) = rules.tolerance {
            let fits = tolerance.is_finite() && tolerance >= 0.0;
            let field = format!("{path}.tolerance");
            self.check(fits, &field, tolerance, "must be a number of at least 0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formula::Formula;
    use crate::spec::{Fallback, ModifierMetricType, ScalingModifiers};

    fn spec() -> ScalingSpec {
        let external = |name: &str| TriggerSpec {
            metric_name: format!("s0-{name}"),
            name: Some(name.to_owned()),
            kind: "mysql".to_owned(),
            metric: MetricSpec::External {
                selector: None,
                target: ValueTarget::AverageValue(MilliValue::from_units(5)),
                activation: MilliValue::ZERO,
            },
        };
        ScalingSpec {
            triggers: vec![external("a"), external("b")],
            ..ScalingSpec::default()
        }
    }

    fn fields(spec: &ScalingSpec) -> Vec<String> {
        validate_spec(spec)
            .into_iter()
            .map(|error| error.field)
            .collect()
    }

    #[test]
    fn a_sound_spec_passes() {
        assert_eq!(validate_spec(&spec()), []);
    }

    #[test]
    fn each_error_names_its_field() {
        let with = |change: fn(&mut ScalingSpec)| {
            let mut spec = spec();
            change(&mut spec);
            fields(&spec)
        };
        assert_eq!(with(|spec| spec.max_replicas = 0), ["spec.maxReplicaCount"]);
        assert_eq!(
            with(|spec| spec.min_replicas = 101),
            ["spec.minReplicaCount"]
        );
        assert_eq!(
            with(|spec| spec.idle_replicas = Some(1)),
            ["spec.idleReplicaCount"]
        );
        assert_eq!(
            with(|spec| spec.idle_replicas = Some(0)),
            Vec::<String>::new()
        );
        assert_eq!(with(|spec| spec.triggers.clear()), ["spec.triggers"]);
        assert_eq!(
            with(|spec| spec.triggers[1] = spec.triggers[0].clone()),
            ["spec.triggers[1]", "spec.triggers[1].name"]
        );
        assert_eq!(
            with(|spec| spec.settings.tolerance = f64::NAN),
            ["tolerance"]
        );
        assert_eq!(
            with(|spec| spec.pause.replicas = Some(-1)),
            ["metadata.annotations[autoscaling.keda.sh/paused-replicas]"]
        );
        assert_eq!(
            with(|spec| {
                let behavior = FallbackBehavior::ScalingModifiers;
                spec.fallback = Some(Fallback {
                    failure_threshold: -1,
                    replicas: -1,
                    behavior,
                });
            }),
            [
                "spec.fallback.failureThreshold",
                "spec.fallback.replicas",
                "spec.fallback.behavior"
            ]
        );
        assert_eq!(
            with(|spec| {
                let mut behavior = Behavior::default();
                behavior.scale_up.stabilization_window = Some(Duration::from_secs(3601));
                behavior.scale_up.policies[1].period = Duration::ZERO;
                behavior.scale_down.policies.clear();
                spec.behavior = Some(behavior);
            }),
            [
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies[1].periodSeconds",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies",
            ]
        );
    }

    #[test]
    fn a_formula_is_checked_against_the_triggers() {
        let mut spec = spec();
        spec.scaling_modifiers = Some(ScalingModifiers {
            formula: Formula::parse("a + c").unwrap(),
            target: MilliValue::ZERO,
            activation_target: MilliValue::ZERO,
            metric_type: ModifierMetricType::AverageValue,
        });
        let errors = validate_spec(&spec);
        assert_eq!(errors[0].field, "spec.advanced.scalingModifiers.target");
        assert_eq!(
            errors[1].to_string(),
            "spec.advanced.scalingModifiers.formula: a + c: formula: \"c\" is not the name of a \
             trigger; known names are a, b"
        );
    }

    #[test]
    fn pods_alone_cannot_rest_at_zero() {
        let mut spec = spec();
        spec.triggers.truncate(1);
        spec.triggers[0].metric = MetricSpec::Pods {
            average_value: MilliValue::from_units(1),
            capacity_floor: None,
        };
        assert_eq!(fields(&spec), ["spec.minReplicaCount"]);
        spec.min_replicas = 1;
        assert_eq!(fields(&spec), Vec::<String>::new());
    }
}
