//! The status of a ScaledObject, from one verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use neap_api::condition::{self, Condition, message, reason, status as state, types};
use neap_api::{
    GroupVersionKindResource, Health, HealthStatus, ScaledObject, ScaledObjectStatus,
    TriggerActivityStatus, types_and_authentications,
};
use neap_engine::{ConditionType, Evaluation, MetricSpec};
use neap_units::Timestamp;

use crate::clock::Clock;
use crate::decide::Compiled;
use crate::keys::TargetKey;
use crate::world::{Owner, ScaleResource};

/// What was found about one target at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The target.
    pub key: TargetKey,
    /// The object as last read.
    pub object: Arc<ScaledObject>,
    /// Its compiled form, where it has one.
    pub compiled: Option<Arc<Compiled>>,
    /// The kind of its target, where that was found.
    pub resource: Option<Arc<ScaleResource>>,
    /// Who scales the target.
    pub owner: Owner,
    /// Why the HPA that stands in the way could not be removed.
    pub leftover: Option<String>,
    /// What was found.
    pub verdict: Verdict,
    /// When, on the decision clock.
    pub decided: Timestamp,
    /// `spec.replicas` and `status.replicas` of the target's scale.
    pub replicas: Option<(i32, i32)>,
}

/// What was found.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The object cannot be acted on: why.
    Invalid(String),
    /// A decision.
    Evaluated {
        /// The decision.
        evaluation: Arc<Evaluation>,
        /// The conditions that follow from it and from its write.
        conditions: Vec<neap_engine::Condition>,
        /// Who keeps resetting the replicas.
        contested: Option<String>,
        /// Pods on nodes without a live agent.
        without_agent: usize,
    },
}

/// Condition type of Neap: someone else keeps setting the replicas.
pub(super) const CONTESTED: &str = "Contested";
/// Condition type of Neap: some pods cannot be measured.
pub(super) const AGENTS_MISSING: &str = "AgentsMissing";

/// Steps of `lastActiveTime`: it need not be written more often.
const ACTIVE_STEP: Duration = Duration::from_secs(30);

/// The status that `report` calls for. `conditions` are those shown before; they stay as they are
/// where the report says nothing of them.
pub(super) fn status(
    report: &Report,
    conditions: &[Condition],
    clock: &dyn Clock,
) -> ScaledObjectStatus {
    let object = &report.object;
    let known = object.status.clone().unwrap_or_default();
    let mut conditions = if conditions.is_empty() {
        Condition::initial()
    } else {
        conditions.to_vec()
    };
    let (triggers_types, authentications_types) = types_and_authentications(&object.spec.triggers);
    let mut status = ScaledObjectStatus {
        hpa_name: Some(object.hpa_name()),
        triggers_types: Some(triggers_types),
        authentications_types: Some(authentications_types),
        original_replica_count: known.original_replica_count,
        last_active_time: known.last_active_time,
        health: known.health,
        triggers_activity: known.triggers_activity,
        ..ScaledObjectStatus::default()
    };
    if let Some(resource) = &report.resource {
        let kind = object.spec.scale_target_ref.group_version_kind();
        status.scale_target_kind =
            Some(format!("{}/{}.{}", kind.group, kind.version, resource.kind));
        status.scale_target_gvkr = Some(GroupVersionKindResource {
            group: resource.group.to_string(),
            version: resource.version.to_string(),
            kind: resource.kind.to_string(),
            resource: resource.plural.to_string(),
        });
    }
    if let Some(compiled) = &report.compiled {
        metric_names(compiled, &mut status);
        status.paused_replica_count = compiled.spec.pause.replicas;
    }
    match &report.verdict {
        Verdict::Invalid(fault) => {
            let ready = Condition::new(
                types::READY,
                state::FALSE,
                reason::SCALED_OBJECT_CHECK_FAILED,
                fault.as_str(),
            );
            condition::set(&mut conditions, ready);
            unknown_activity(&mut conditions);
        }
        Verdict::Evaluated {
            evaluation,
            conditions: set,
            contested,
            without_agent,
        } => {
            evaluated(report, evaluation, &mut status, clock);
            evaluated_conditions(report, set, &mut conditions);
            extra(&mut conditions, CONTESTED, contested.as_ref().map(|manager| {
                ("ReplicasReset", format!("spec.replicas of the target is kept being reset by {manager}; it is written at most once per 15 s"))
            }));
            extra(&mut conditions, AGENTS_MISSING, (*without_agent > 0).then(|| {
                ("NoAgentOnNode", format!("{without_agent} pods run on nodes without a live agent and count as missing"))
            }));
        }
    }
    status.conditions = conditions;
    status
}

fn unknown_activity(conditions: &mut Vec<Condition>) {
    let active = Condition::new(types::ACTIVE, state::UNKNOWN, reason::UNKNOWN_STATE, "");
    condition::set(conditions, active);
}

/// A condition of Neap's own: there while it holds, and False once it held.
fn extra(conditions: &mut Vec<Condition>, type_: &str, holds: Option<(&str, String)>) {
    match holds {
        Some((reason, message)) => {
            condition::set(
                conditions,
                Condition::new(type_, state::TRUE, reason, message),
            );
        }
        None if condition::find(conditions, type_).is_some() => {
            condition::set(conditions, Condition::new(type_, state::FALSE, "Over", ""));
        }
        None => {}
    }
}

fn metric_names(compiled: &Compiled, status: &mut ScaledObjectStatus) {
    for trigger in &compiled.spec.triggers {
        match &trigger.metric {
            MetricSpec::Resource { resource, .. } => status
                .resource_metric_names
                .push(resource.name().to_owned()),
            _ => status
                .external_metric_names
                .push(trigger.metric_name.clone()),
        }
    }
    if compiled.spec.scaling_modifiers.is_some() {
        status.composite_scaler_name = Some("composite-metric".to_owned());
    }
}

fn evaluated(
    report: &Report,
    evaluation: &Evaluation,
    status: &mut ScaledObjectStatus,
    clock: &dyn Clock,
) {
    if let Some(original) = evaluation.state.original_replicas() {
        status.original_replica_count = Some(original);
    }
    if let Some(active) = evaluation.state.last_active() {
        let ago = report.decided.since(active);
        let wall = clock.wall() - ago;
        let step = i64::try_from(ACTIVE_STEP.as_secs()).unwrap_or(30);
        let seconds = wall.as_second().div_euclid(step) * step;
        // A few seconds of jitter between decision time and the wall must not move the step back.
        let newer = status
            .last_active_time
            .as_ref()
            .is_none_or(|known| seconds > known.0.as_second());
        if newer && let Ok(at) = jiff::Timestamp::from_second(seconds) {
            status.last_active_time = Some(Time(at));
        }
    }
    let Some(compiled) = &report.compiled else {
        return;
    };
    let failures: BTreeMap<&str, u32> = evaluation
        .state
        .health()
        .map(|(name, health)| (name, health.failures))
        .collect();
    status.health = compiled
        .spec
        .triggers
        .iter()
        .filter(|trigger| matches!(trigger.metric, MetricSpec::External { .. }))
        .map(|trigger| {
            let failures = failures
                .get(trigger.metric_name.as_str())
                .copied()
                .unwrap_or(0);
            let health = HealthStatus {
                number_of_failures: Some(i32::try_from(failures).unwrap_or(i32::MAX)),
                status: Some(if failures == 0 {
                    Health::Happy
                } else {
                    Health::Failing
                }),
            };
            (trigger.metric_name.clone(), health)
        })
        .collect();
    status.triggers_activity = evaluation
        .why
        .triggers
        .iter()
        .filter_map(|trigger| {
            trigger.active.map(|is_active| {
                (
                    trigger.metric_name.clone(),
                    TriggerActivityStatus { is_active },
                )
            })
        })
        .collect();
}

fn evaluated_conditions(
    report: &Report,
    set: &[neap_engine::Condition],
    conditions: &mut Vec<Condition>,
) {
    let mut ready = Condition::new(
        types::READY,
        state::TRUE,
        reason::SCALED_OBJECT_READY,
        message::SCALED_OBJECT_READY,
    );
    for given in set {
        let type_ = match given.kind {
            ConditionType::Ready => {
                ready = Condition::new(
                    types::READY,
                    given.status.name(),
                    &given.reason,
                    given.message.as_ref(),
                );
                continue;
            }
            ConditionType::Active => types::ACTIVE,
            ConditionType::Fallback => types::FALLBACK,
            ConditionType::Paused => types::PAUSED,
            ConditionType::ScalingActive => {
                condition::set(conditions, hpa_active(given));
                continue;
            }
            // Kept for explain: KEDA's status has no place for them.
            ConditionType::AbleToScale
            | ConditionType::ScalingLimited
            | ConditionType::ScaledToZero => continue,
        };
        condition::set(
            conditions,
            Condition::new(
                type_,
                given.status.name(),
                &given.reason,
                given.message.as_ref(),
            ),
        );
    }
    if let Some(fault) = foreign_owner(report) {
        ready = Condition::new(
            types::READY,
            state::FALSE,
            reason::SCALED_OBJECT_CHECK_FAILED,
            fault,
        );
    }
    condition::set(conditions, ready);
}

/// The HPA's own condition as KEDA reports it: a target that rests at zero is not at fault.
fn hpa_active(given: &neap_engine::Condition) -> Condition {
    let disabled = given.reason == reason::SCALING_DISABLED;
    let (status, why) = match given.status.name() {
        state::TRUE => (state::TRUE, reason::HPA_ACTIVE),
        _ if disabled => (state::TRUE, reason::SCALING_DISABLED),
        other => (other, given.reason.as_ref()),
    };
    Condition::new(types::HPA_ACTIVE, status, why, given.message.as_ref())
}

/// Why the target is only observed.
pub(super) fn foreign_owner(report: &Report) -> Option<String> {
    let target = &report.object.spec.scale_target_ref;
    let managed = |by: &str, name: &str| {
        format!(
            "the workload '{}' of type '{}' is already managed by the {by} '{name}' (spec.scaleTargetRef.name = {}; allowed: a workload that no {by} manages); it is observed and not scaled",
            target.name,
            target.group_version_kind(),
            target.name
        )
    };
    match &report.owner {
        Owner::Hpa { name } => Some(managed("hpa", name)),
        Owner::ScaledObject { name } => Some(managed("ScaledObject", name)),
        Owner::NeapAfterRemoving(hpa) => report.leftover.as_ref().map(|why| {
            format!(
                "{}; that HPA is left from KEDA and could not be removed: {why} (see rbac.takeOver of the chart, or remove it)",
                managed("hpa", &hpa.name)
            )
        }),
        Owner::Neap | Owner::Keda(_) => None,
    }
}

/// The events that the step from `before` to `after` is worth.
pub(super) fn transitions(
    before: &[Condition],
    after: &[Condition],
) -> Vec<(bool, String, String)> {
    let mut events = Vec::new();
    for now in after {
        let former = condition::find(before, &now.type_);
        let same =
            former.is_some_and(|former| former.status == now.status && former.reason == now.reason);
        if same {
            continue;
        }
        let is = |status: &str| now.status == status;
        let was = |status: &str| former.is_some_and(|former| former.status == status);
        let text = now.message.clone();
        match now.type_.as_str() {
            types::READY if is(state::TRUE) => {
                events.push((true, "ScaledObjectReady".to_owned(), text))
            }
            types::READY if now.reason == reason::SCALED_OBJECT_CHECK_FAILED => {
                events.push((false, now.reason.clone(), text));
            }
            types::READY if !now.reason.is_empty() => {
                events.push((false, "KEDAScalerFailed".to_owned(), text))
            }
            types::PAUSED if is(state::TRUE) => {
                events.push((true, "ScaledObjectPaused".to_owned(), text))
            }
            types::PAUSED if was(state::TRUE) => {
                events.push((true, "ScaledObjectUnpaused".to_owned(), text))
            }
            types::FALLBACK if is(state::TRUE) => {
                events.push((true, "ScaledObjectFallbackActivated".to_owned(), text));
            }
            types::FALLBACK if was(state::TRUE) => {
                events.push((true, "ScaledObjectFallbackDeactivated".to_owned(), text));
            }
            AGENTS_MISSING if is(state::TRUE) => events.push((false, now.reason.clone(), text)),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition::new(type_, status, reason, "text")
    }

    #[test]
    fn events_are_told_once_per_change() {
        let before = Condition::initial();
        let mut after = before.clone();
        condition::set(
            &mut after,
            condition(
                types::READY,
                state::FALSE,
                reason::SCALED_OBJECT_CHECK_FAILED,
            ),
        );
        condition::set(
            &mut after,
            condition(types::PAUSED, state::TRUE, reason::SCALED_OBJECT_PAUSED),
        );
        let told: Vec<String> = transitions(&before, &after)
            .into_iter()
            .map(|(_, reason, _)| reason)
            .collect();
        assert_eq!(told, ["ScaledObjectCheckFailed", "ScaledObjectPaused"]);
        assert!(transitions(&after, &after).is_empty());
        let told: Vec<String> = transitions(&after, &before)
            .into_iter()
            .map(|(_, reason, _)| reason)
            .collect();
        assert_eq!(told, ["ScaledObjectUnpaused"]);
    }

    #[test]
    fn conditions_of_neap_appear_only_once_they_held() {
        let mut conditions = Condition::initial();
        extra(&mut conditions, CONTESTED, None);
        assert!(condition::find(&conditions, CONTESTED).is_none());
        extra(
            &mut conditions,
            CONTESTED,
            Some(("ReplicasReset", "by argocd".to_owned())),
        );
        extra(&mut conditions, CONTESTED, None);
        assert_eq!(
            condition::find(&conditions, CONTESTED).map(|c| c.status.as_str()),
            Some(state::FALSE)
        );
    }
}
