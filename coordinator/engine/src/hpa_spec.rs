//! The spec of a HorizontalPodAutoscaler (`autoscaling/v2`) as written in a manifest: reading,
//! defaults, and what the engine makes of it.
//!
//! ScaledObjects carry its `behavior`; targets that a plain HPA owns are decided from the whole.

mod metrics;

use std::collections::BTreeMap;
use std::time::Duration;

use neap_units::Quantity;
use serde::{Deserialize, Serialize};

use crate::behavior::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::spec::{ScalingSpec, Settings, ZeroHandling};

/// `spec` of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaSpec {
    /// What is scaled.
    pub scale_target_ref: ObjectReference,
    /// Fewest replicas; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Most replicas.
    pub max_replicas: i32,
    /// What is measured; CPU at 80 % if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<HpaMetric>,
    /// How fast it may move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HpaBehavior>,
}

/// A reference to an object by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its API version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
}

/// One entry of `metrics`. `kind` says which of the sources is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaMetric {
    /// Object, Pods, Resource, ContainerResource or External.
    #[serde(rename = "type")]
    pub kind: String,
    /// For Object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectSource>,
    /// For Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamedSource>,
    /// For Resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceSource>,
    /// For ContainerResource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_resource: Option<ResourceSource>,
    /// For External.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<NamedSource>,
}

/// A number that another object carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectSource {
    /// The object.
    pub described_object: ObjectReference,
    /// The target.
    pub target: HpaTarget,
    /// The metric.
    pub metric: MetricIdentifier,
}

/// A metric with a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedSource {
    /// The metric.
    pub metric: MetricIdentifier,
    /// The target.
    pub target: HpaTarget,
}

/// A resource of pods or of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSource {
    /// The resource.
    pub name: String,
    /// The target.
    pub target: HpaTarget,
    /// The container, for ContainerResource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
}

/// Name and selector of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricIdentifier {
    /// The name.
    pub name: String,
    /// The selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be equal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectorRequirement {
    /// The label.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    /// The values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaTarget {
    /// Utilization, Value or AverageValue.
    #[serde(rename = "type")]
    pub kind: String,
    /// For Value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
    /// For AverageValue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_value: Option<Quantity>,
    /// For Utilization, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_utilization: Option<i32>,
}

/// `behavior` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaBehavior {
    /// Rules for more replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<HpaScalingRules>,
    /// Rules for fewer replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<HpaScalingRules>,
}

/// Rules for one direction as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaScalingRules {
    /// The window in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilization_window_seconds: Option<i32>,
    /// Max, Min or Disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<String>,
    /// The policies; `None` takes the defaults, an empty list is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<HpaScalingPolicy>>,
    /// The tolerance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Quantity>,
}

/// One policy as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaScalingPolicy {
    /// Pods or Percent.
    #[serde(rename = "type")]
    pub kind: String,
    /// How much.
    pub value: i32,
    /// In how many seconds.
    pub period_seconds: i32,
}

impl HpaSpec {
    /// The spec as the API server completes it. Only whole fields are filled in: given policies
    /// replace the default list.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        self.min_replicas.get_or_insert(1);
        if self.metrics.is_empty() {
            self.metrics.push(HpaMetric {
                kind: "Resource".to_owned(),
                resource: Some(ResourceSource {
                    name: "cpu".to_owned(),
                    target: HpaTarget {
                        kind: "Utilization".to_owned(),
                        average_utilization: Some(80),
                        ..HpaTarget::default()
                    },
                    container: String::new(),
                }),
                ..HpaMetric::default()
            });
        }
        self.behavior = self.behavior.map(HpaBehavior::with_defaults);
        self
    }

    /// What the engine decides from: a plain HPA, with `metrics` as triggers. Call it on a completed
    /// and valid spec; what is missing counts as its default, which for a target is 0 and fails in
    /// every decision. Left out are metrics of no known kind and of resources other than cpu and
    /// memory.
    #[must_use]
    pub fn to_scaling_spec(
        &self,
        namespace: &str,
        zero: ZeroHandling,
        settings: Settings,
    ) -> ScalingSpec {
        ScalingSpec {
            namespace: namespace.to_owned(),
            target_kind: format!(
                "{}.{}",
                self.scale_target_ref.api_version, self.scale_target_ref.kind
            ),
            target_name: self.scale_target_ref.name.clone(),
            min_replicas: self.min_replicas.unwrap_or(1),
            max_replicas: self.max_replicas,
            triggers: self
                .metrics
                .iter()
                .filter_map(HpaMetric::to_trigger)
                .collect(),
            behavior: self.behavior.as_ref().map(HpaBehavior::to_behavior),
            zero,
            settings,
            ..ScalingSpec::default()
        }
    }
}

impl HpaBehavior {
    /// The behaviour as the API server completes it.
    #[must_use]
    pub fn with_defaults(self) -> Self {
        let defaults = Behavior::default();
        let up = HpaScalingRules::of(&defaults.scale_up);
        let down = HpaScalingRules::of(&defaults.scale_down);
        Self {
            scale_up: Some(self.scale_up.unwrap_or_default().or(up)),
            scale_down: Some(self.scale_down.unwrap_or_default().or(down)),
        }
    }

    /// What the engine works with. What is missing counts as its default; call it on a valid one.
    #[must_use]
    pub fn to_behavior(&self) -> Behavior {
        let completed = self.clone().with_defaults();
        Behavior {
            scale_up: completed.scale_up.unwrap_or_default().to_rules(),
            scale_down: completed.scale_down.unwrap_or_default().to_rules(),
        }
    }
}

impl HpaScalingRules {
    fn of(rules: &ScalingRules) -> Self {
        let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let select_policy = match rules.select_policy {
            SelectPolicy::Max => "Max",
            SelectPolicy::Min => "Min",
            SelectPolicy::Disabled => "Disabled",
        };
        let policies = rules.policies.iter().map(|policy| HpaScalingPolicy {
            kind: match policy.kind {
                PolicyKind::Pods => "Pods".to_owned(),
                PolicyKind::Percent => "Percent".to_owned(),
            },
            value: policy.value,
            period_seconds: seconds(policy.period),
        });
        Self {
            stabilization_window_seconds: rules.stabilization_window.map(seconds),
            select_policy: Some(select_policy.to_owned()),
            policies: Some(policies.collect()),
            tolerance: None,
        }
    }

    fn or(self, defaults: Self) -> Self {
        Self {
            stabilization_window_seconds: self
                .stabilization_window_seconds
                .or(defaults.stabilization_window_seconds),
            select_policy: self.select_policy.or(defaults.select_policy),
            policies: self.policies.or(defaults.policies),
            tolerance: self.tolerance.or(defaults.tolerance),
        }
    }

    fn to_rules(&self) -> ScalingRules {
        let seconds = |seconds: i32| Duration::from_secs(u64::from(seconds.max(0).unsigned_abs()));
        let policies = self.policies.iter().flatten().map(|policy| ScalingPolicy {
            kind: match policy.kind.as_str() {
                "Percent" => PolicyKind::Percent,
                _ => PolicyKind::Pods,
            },
            value: policy.value,
            period: seconds(policy.period_seconds),
        });
        ScalingRules {
            stabilization_window: self.stabilization_window_seconds.map(seconds),
            select_policy: match self.select_policy.as_deref() {
                Some("Min") => SelectPolicy::Min,
                Some("Disabled") => SelectPolicy::Disabled,
                _ => SelectPolicy::Max,
            },
            policies: policies.collect(),
            tolerance: self.tolerance.as_ref().map(Quantity::approximate_f64),
        }
    }
}

impl LabelSelector {
    /// As Go prints it; the HPA puts it into messages.
    #[must_use]
    pub fn printed(&self) -> String {
        let labels: String = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}: {value},"))
            .collect();
        let requirements: String = self
            .match_expressions
            .iter()
            .map(|requirement| {
                format!(
                    "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                    requirement.key,
                    requirement.operator,
                    requirement.values.join(" ")
                )
            })
            .collect();
        format!(
            "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
             MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
        )
    }
}
