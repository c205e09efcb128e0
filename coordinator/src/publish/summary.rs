//! One line of the list of targets, as far as it is decided: values against targets.

use neap_engine::{Evaluation, Measured, Step, TriggerOutcome, TriggerWhy};
use neap_units::MilliValue;
use serde::{Deserialize, Serialize};

use crate::decide::Targets;
use crate::keys::TargetKey;

/// What was decided about a target, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Replicas at the last decision.
    pub current: Option<i32>,
    /// Replicas decided on.
    pub desired: Option<i32>,
    /// Whether decisions are written, or only shown.
    pub scaled: bool,
    /// Who scales the target.
    pub owner: Option<String>,
    /// Why nothing is decided.
    pub fault: Option<String>,
    /// Each trigger in the order of the spec, and after them the formula.
    pub triggers: Vec<TriggerSummary>,
}

impl Summary {
    /// A target about which nothing has been decided.
    pub fn of(key: &TargetKey) -> Self {
        Self {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            ..Self::default()
        }
    }
}

/// What a trigger reads, and what it should read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TriggerSummary {
    /// The metric's name.
    pub name: String,
    /// `triggers[].type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it counts as active, where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// The value as a decimal number, in the unit of the target; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The target as a decimal number; absent where the formula's counts instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the target is of, as an HPA names it: `Utilization`, `AverageValue` or `Value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_type: Option<String>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The replicas of the fallback that stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_replicas: Option<i32>,
}

/// The name of KEDA's metric that carries a formula's value.
const COMPOSITE: &str = "composite-metric";

/// The triggers of `evaluation`, whose targets are `targets`.
pub(super) fn triggers(evaluation: &Evaluation, targets: &Targets) -> Vec<TriggerSummary> {
    let why = &evaluation.why;
    let each = why.triggers.iter().enumerate();
    let mut summaries: Vec<TriggerSummary> = each
        .map(|(at, trigger)| one(trigger, targets.triggers.get(at).copied(), why.current))
        .collect();
    if let Some(target) = targets.formula {
        let computed = why.steps.iter().find_map(|step| match step {
            Step::Formula { value, error, .. } => Some((*value, error.clone())),
            _ => None,
        });
        let (value, error) = computed.unwrap_or_default();
        let mut summary = TriggerSummary {
            name: COMPOSITE.to_owned(),
            kind: "formula".to_owned(),
            error,
            ..TriggerSummary::default()
        };
        summary.aims_at(target);
        summary.value = value.map(|value| shared(value, target, why.current).to_string());
        summaries.push(summary);
    }
    summaries
}

fn one(trigger: &TriggerWhy, target: Option<Measured>, current: i32) -> TriggerSummary {
    let mut summary = TriggerSummary {
        name: trigger.metric_name.clone(),
        kind: trigger.kind.clone(),
        active: trigger.active,
        ..TriggerSummary::default()
    };
    let formula = matches!(trigger.outcome, TriggerOutcome::Formula { .. });
    if let Some(target) = target.filter(|_| !formula) {
        summary.aims_at(target);
    }
    match &trigger.outcome {
        TriggerOutcome::Proposed(proposal) => {
            summary.aims_at(proposal.target);
            summary.value = Some(number(proposal.value));
        }
        TriggerOutcome::Failed { message, .. } => summary.error = Some(message.clone()),
        TriggerOutcome::Fallback {
            message, replicas, ..
        } => {
            summary.error = Some(message.clone());
            summary.fallback_replicas = Some(*replicas);
        }
        TriggerOutcome::Formula { value } => summary.value = value.map(|value| value.to_string()),
        TriggerOutcome::NotComputed { value } => {
            summary.value = value.map(|value| match target {
                Some(target) => shared(value, target, current).to_string(),
                None => value.to_string(),
            });
        }
    }
    summary
}

/// A source's value in the unit of `target`: a mean is over the replicas there are, as an HPA shows it.
fn shared(value: MilliValue, target: Measured, current: i32) -> MilliValue {
    match target {
        Measured::Average(_) if current > 1 => {
            MilliValue::from_metric_f64(value.as_f64() / f64::from(current))
        }
        _ => value,
    }
}

impl TriggerSummary {
    fn aims_at(&mut self, target: Measured) {
        let kind = match target {
            Measured::Utilization(_) => "Utilization",
            Measured::Average(_) => "AverageValue",
            Measured::Value(_) => "Value",
        };
        self.target = Some(number(target));
        self.target_type = Some(kind.to_owned());
    }
}

fn number(measured: Measured) -> String {
    match measured {
        Measured::Utilization(percent) => percent.to_string(),
        Measured::Average(value) | Measured::Value(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(outcome: TriggerOutcome) -> TriggerWhy {
        TriggerWhy {
            metric_name: "s0-kafka".to_owned(),
            kind: "kafka".to_owned(),
            active: Some(true),
            outcome,
        }
    }

    fn units(value: i64) -> MilliValue {
        MilliValue::from_units(value)
    }

    #[test]
    fn a_value_that_was_not_needed_still_stands_against_its_target() {
        let target = Measured::Average(units(10));
        let not_needed = |value| trigger(TriggerOutcome::NotComputed { value });
        let shown = |current| {
            let summary = one(&not_needed(Some(units(30))), Some(target), current);
            (summary.value.unwrap(), summary.target.unwrap())
        };
        assert_eq!(shown(4), ("7.5".to_owned(), "10".to_owned()));
        assert_eq!(shown(0), ("30".to_owned(), "10".to_owned()), "all of it");
        let none = one(&not_needed(None), Some(target), 4);
        assert_eq!((none.value, none.target.as_deref()), (None, Some("10")));
        let whole = one(
            &not_needed(Some(units(30))),
            Some(Measured::Value(units(9))),
            4,
        );
        assert_eq!(whole.value.as_deref(), Some("30"));
    }

    #[test]
    fn a_source_without_an_answer_has_no_value_and_says_why() {
        let target = Some(Measured::Utilization(70));
        let failed = trigger(TriggerOutcome::Failed {
            message: "refused".to_owned(),
            failures: 2,
        });
        let summary = one(&failed, target, 3);
        assert_eq!(summary.value, None);
        assert_eq!(summary.error.as_deref(), Some("refused"));
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["target"], "70");
        assert_eq!(json["targetType"], "Utilization");
        assert!(json.get("value").is_none(), "absent is not zero: {json}");
        let fallback = trigger(TriggerOutcome::Fallback {
            message: "refused".to_owned(),
            failures: 3,
            replicas: 6,
            proposal: 6,
        });
        assert_eq!(one(&fallback, target, 3).fallback_replicas, Some(6));
    }

    #[test]
    fn an_input_of_a_formula_has_no_target_of_its_own() {
        let input = trigger(TriggerOutcome::Formula {
            value: Some(units(5)),
        });
        let summary = one(&input, Some(Measured::Average(units(10))), 2);
        assert_eq!(
            (summary.value.as_deref(), summary.target),
            (Some("5"), None)
        );
    }

    #[test]
    fn a_line_of_another_version_is_read_as_far_as_it_goes() {
        let line = r#"{"namespace": "ns", "name": "a", "current": 2, "scaled": true, "newer": 1}"#;
        let summary: Summary = serde_json::from_str(line).unwrap();
        assert_eq!((summary.current, summary.desired), (Some(2), None));
        assert!(summary.triggers.is_empty());
    }
}
