//! What the API server accepts as the spec of a HorizontalPodAutoscaler (Kubernetes 1.36,
//! `pkg/apis/autoscaling/validation`).

use std::fmt;

use crate::hpa_spec::{
    HpaBehavior, HpaMetric, HpaScalingRules, HpaSpec, HpaTarget, MetricIdentifier, NamedSource,
    ObjectReference, ObjectSource, ResourceSource,
};
use crate::names;

/// `stabilizationWindowSeconds` is at most this.
pub const MAX_WINDOW_SECONDS: i32 = 3600;
/// `periodSeconds` is at most this.
pub const MAX_PERIOD_SECONDS: i32 = 1800;

/// One thing wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, e.g. `spec.behavior.scaleUp.policies[0].value`.
    pub field: String,
    /// What kind of error it is.
    pub kind: FieldErrorKind,
    /// The value found and what is allowed, for people.
    pub message: String,
}

/// Kind of a field's error, by Kubernetes' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldErrorKind {
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueRequired`
    Required,
}

impl FieldErrorKind {
    /// Kubernetes' name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "FieldValueForbidden",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Required => "FieldValueRequired",
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Checks a completed spec. `allow_zero` is the feature gate HPAScaleToZero.
///
/// Returns every error, in the order of the fields; none means that the API server accepts it.
#[must_use]
pub fn validate_hpa(spec: &HpaSpec, allow_zero: bool) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    errors.bounds(spec, i32::from(!allow_zero));
    errors.reference(&spec.scale_target_ref, "spec.scaleTargetRef", false);
    for (index, metric) in spec.metrics.iter().enumerate() {
        errors.metric(metric, &format!("spec.metrics[{index}]"));
    }
    let from_zero = |metric: &HpaMetric| matches!(metric.kind.as_str(), "Object" | "External");
    if spec.min_replicas == Some(0) && !spec.metrics.iter().any(from_zero) {
        errors.add(
            "spec.metrics",
            FieldErrorKind::Forbidden,
            "must specify at least one Object or External metric to support scaling to zero \
             replicas",
        );
    }
    if let Some(behavior) = &spec.behavior {
        errors.behavior(behavior, "spec.behavior");
    }
    errors.0
}

/// Checks a completed `behavior` under `path`, e.g.
/// `spec.advanced.horizontalPodAutoscalerConfig.behavior`.
#[must_use]
pub fn validate_behavior(behavior: &HpaBehavior, path: &str) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    errors.behavior(behavior, path);
    errors.0
}

struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, kind: FieldErrorKind, message: impl Into<String>) {
        self.0.push(FieldError {
            field: field.into(),
            kind,
            message: message.into(),
        });
    }

    fn invalid(&mut self, field: String, value: impl fmt::Display, allowed: &str) {
        self.add(
            field,
            FieldErrorKind::Invalid,
            format!("{value}: {allowed}"),
        );
    }

    fn required(&mut self, field: String, message: &str) {
        self.add(field, FieldErrorKind::Required, message);
    }

    fn not_supported(&mut self, field: String, value: &str, allowed: &str) {
        let message = format!("{value:?}: supported values are {allowed}");
        self.add(field, FieldErrorKind::NotSupported, message);
    }

    fn bounds(&mut self, spec: &HpaSpec, lowest: i32) {
        if let Some(min) = spec.min_replicas.filter(|min| *min < lowest) {
            let allowed = format!("must be greater than or equal to {lowest}");
            self.invalid("spec.minReplicas".to_owned(), min, &allowed);
        }
        let (field, max) = ("spec.maxReplicas", spec.max_replicas);
        if max == 0 {
            self.required(field.to_owned(), "must be set and greater than 0");
        } else if max < 0 {
            self.invalid(field.to_owned(), max, "must be greater than or equal to 1");
        }
        if spec.min_replicas.is_some_and(|min| max < min) {
            self.invalid(
                field.to_owned(),
                max,
                "must be greater than or equal to `minReplicas`",
            );
        }
    }

    /// `any_group`: whether the core group, which has no name, may be referred to.
    fn reference(&mut self, reference: &ObjectReference, path: &str, any_group: bool) {
        for (name, value) in [("kind", &reference.kind), ("name", &reference.name)] {
            if value.is_empty() {
                self.required(format!("{path}.{name}"), "must be given");
            } else {
                self.path_segment(format!("{path}.{name}"), value);
            }
        }
        let version = &reference.api_version;
        let allowed = match version.matches('/').count() {
            _ if version.is_empty() || version == "/" => (!any_group).then_some(NEEDS_GROUP),
            0 => (!any_group).then_some(NEEDS_GROUP),
            1 if version.starts_with('/') && !any_group => Some(NEEDS_GROUP),
            1 => None,
            _ => Some("must be GROUP/VERSION"),
        };
        if let Some(allowed) = allowed {
            self.invalid(
                format!("{path}.apiVersion"),
                format!("{version:?}"),
                allowed,
            );
        }
    }

    fn path_segment(&mut self, field: String, value: &str) {
        if matches!(value, "." | "..") {
            self.invalid(field, value, "must not be '.' or '..'");
            return;
        }
        for illegal in ['/', '%'] {
            if value.contains(illegal) {
                let allowed = format!("must not contain '{illegal}'");
                self.invalid(field.clone(), format!("{value:?}"), &allowed);
            }
        }
    }

    fn metric(&mut self, metric: &HpaMetric, path: &str) {
        const KINDS: [&str; 5] = [
            "ContainerResource",
            "External",
            "Object",
            "Pods",
            "Resource",
        ];
        let kind_field = format!("{path}.type");
        let known = KINDS.contains(&metric.kind.as_str());
        if metric.kind.is_empty() {
            self.required(kind_field.clone(), "must specify a metric source type");
        }
        // Kubernetes reports an unknown type at the start and at the end of its checks.
        for _ in 0..if known { 0 } else { 2 } {
            self.not_supported(kind_field.clone(), &metric.kind, &KINDS.join(", "));
        }
        let present = [
            ("object", metric.object.is_some()),
            ("external", metric.external.is_some()),
            ("pods", metric.pods.is_some()),
            ("resource", metric.resource.is_some()),
            ("containerResource", metric.container_resource.is_some()),
        ];
        let present: Vec<&str> = present
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect();
        // Only the first source given is looked into.
        if let Some(first) = present.first() {
            self.source(metric, first, &format!("{path}.{first}"));
        }
        let mut expected = if known {
            metric.kind.clone()
        } else {
            String::new()
        };
        if let Some(first) = expected.get_mut(0..1) {
            first.make_ascii_lowercase();
        }
        if known && !present.contains(&expected.as_str()) {
            let message = "must populate information for the given metric source";
            self.required(format!("{path}.{expected}"), message);
        }
        if present.len() != 1 {
            for other in present.into_iter().filter(|name| *name != expected) {
                let message = "must populate the given metric source only";
                self.add(
                    format!("{path}.{other}"),
                    FieldErrorKind::Forbidden,
                    message,
                );
            }
        }
    }

    fn source(&mut self, metric: &HpaMetric, name: &str, path: &str) {
        match name {
            "object" => metric
                .object
                .iter()
                .for_each(|source| self.object(source, path)),
            "external" => metric
                .external
                .iter()
                .for_each(|source| self.external(source, path)),
            "pods" => metric
                .pods
                .iter()
                .for_each(|source| self.pods(source, path)),
            "resource" => metric
                .resource
                .iter()
                .for_each(|source| self.resource(source, path)),
            _ => {
                if let Some(source) = &metric.container_resource {
                    self.container(source, path);
                    self.resource(source, path);
                }
            }
        }
    }

    fn object(&mut self, source: &ObjectSource, path: &str) {
        self.reference(
            &source.described_object,
            &format!("{path}.describedObject"),
            true,
        );
        self.identifier(&source.metric, path);
        self.target(&source.target, path);
        if source.target.value.is_none() && source.target.average_value.is_none() {
            let message = "must set either a target value or averageValue";
            self.required(format!("{path}.target.averageValue"), message);
        }
    }

    fn external(&mut self, source: &NamedSource, path: &str) {
        self.identifier(&source.metric, path);
        self.target(&source.target, path);
        match (&source.target.value, &source.target.average_value) {
            (None, None) => self.required(
                format!("{path}.target.averageValue"),
                "must set either a target value for metric or a per-pod target",
            ),
            (Some(_), Some(_)) => self.add(
                format!("{path}.target.value"),
                FieldErrorKind::Forbidden,
                "may not set both a target value for metric and a per-pod target",
            ),
            _ => {}
        }
    }

    fn pods(&mut self, source: &NamedSource, path: &str) {
        self.identifier(&source.metric, path);
        self.target(&source.target, path);
        if source.target.average_value.is_none() {
            let message = "must specify a positive target averageValue";
            self.required(format!("{path}.target.averageValue"), message);
        }
    }

    fn container(&mut self, source: &ResourceSource, path: &str) {
        if !source.name.is_empty() {
            self.name(
                format!("{path}.name"),
                &source.name,
                names::container_resource,
            );
        }
        if source.container.is_empty() {
            let message = "must specify a container";
            self.required(format!("{path}.container"), message);
        } else {
            self.name(format!("{path}.container"), &source.container, names::label);
        }
    }

    fn name(&mut self, field: String, name: &str, broken: fn(&str) -> Vec<&'static str>) {
        for rule in broken(name) {
            self.invalid(field.clone(), format!("{name:?}"), rule);
        }
    }

    fn resource(&mut self, source: &ResourceSource, path: &str) {
        if source.name.is_empty() {
            self.required(format!("{path}.name"), "must specify a resource name");
        }
        self.target(&source.target, path);
        match (
            source.target.average_utilization,
            &source.target.average_value,
        ) {
            (None, None) => self.required(
                format!("{path}.target.averageUtilization"),
                "must set either a target raw value or a target utilization",
            ),
            (Some(_), Some(_)) => self.add(
                format!("{path}.target.averageValue"),
                FieldErrorKind::Forbidden,
                "may not set both a target raw value and a target utilization",
            ),
            _ => {}
        }
    }

    fn identifier(&mut self, metric: &MetricIdentifier, path: &str) {
        let field = format!("{path}.metric.name");
        if metric.name.is_empty() {
            self.required(field, "must specify a metric name");
        } else {
            self.path_segment(field, &metric.name);
        }
    }

    fn target(&mut self, target: &HpaTarget, path: &str) {
        let path = format!("{path}.target");
        if target.kind.is_empty() {
            self.required(format!("{path}.type"), "must specify a metric target type");
        }
        if !matches!(
            target.kind.as_str(),
            "Utilization" | "Value" | "AverageValue"
        ) {
            let allowed = "must be either Utilization, Value, or AverageValue";
            self.invalid(
                format!("{path}.type"),
                format!("{:?}", target.kind),
                allowed,
            );
        }
        for (name, value) in [
            ("value", &target.value),
            ("averageValue", &target.average_value),
        ] {
            if let Some(value) = value.as_ref().filter(|v| v.is_zero() || v.is_negative()) {
                self.invalid(format!("{path}.{name}"), value, "must be positive");
            }
        }
        if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
            self.invalid(
                format!("{path}.averageUtilization"),
                percent,
                "must be greater than 0",
            );
        }
    }

    fn behavior(&mut self, behavior: &HpaBehavior, path: &str) {
        if let Some(rules) = &behavior.scale_up {
            self.rules(rules, &format!("{path}.scaleUp"));
        }
        if let Some(rules) = &behavior.scale_down {
            self.rules(rules, &format!("{path}.scaleDown"));
        }
    }

    fn rules(&mut self, rules: &HpaScalingRules, path: &str) {
        if let Some(window) = rules.stabilization_window_seconds {
            let field = format!("{path}.stabilizationWindowSeconds");
            if window < 0 {
                self.invalid(field, window, "must be greater than or equal to zero");
            } else if window > MAX_WINDOW_SECONDS {
                let allowed = format!("must be less than or equal to {MAX_WINDOW_SECONDS}");
                self.invalid(field, window, &allowed);
            }
        }
        if let Some(select) = &rules.select_policy
            && !matches!(select.as_str(), "Max" | "Min" | "Disabled")
        {
            self.not_supported(format!("{path}.selectPolicy"), select, "Disabled, Max, Min");
        }
        let policies = rules.policies.as_deref().unwrap_or_default();
        if policies.is_empty() {
            self.required(
                format!("{path}.policies"),
                "must specify at least one Policy",
            );
        }
        for (index, policy) in policies.iter().enumerate() {
            let path = format!("{path}.policies[{index}]");
            if !matches!(policy.kind.as_str(), "Pods" | "Percent") {
                self.not_supported(format!("{path}.type"), &policy.kind, "Percent, Pods");
            }
            if policy.value <= 0 {
                self.invalid(
                    format!("{path}.value"),
                    policy.value,
                    "must be greater than zero",
                );
            }
            let (field, period) = (format!("{path}.periodSeconds"), policy.period_seconds);
            if period <= 0 {
                self.invalid(field, period, "must be greater than zero");
            } else if period > MAX_PERIOD_SECONDS {
                let allowed = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
                self.invalid(field, period, &allowed);
            }
        }
        if let Some(tolerance) = rules.tolerance.as_ref().filter(|t| t.is_negative()) {
            let field = format!("{path}.tolerance");
            self.invalid(field, tolerance, "must be greater than or equal to 0");
        }
    }
}

const NEEDS_GROUP: &str = "must specify an API group";
