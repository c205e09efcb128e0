//! Triggers on a target's own pods: the requests that cpu and memory are measured against, and
//! something that can bring the target back from zero.

use super::{Reason, Refusal, Surroundings, Workload};
use crate::scaled_object::ScaledObject;
use crate::trigger::ScaleTrigger;

pub(super) fn check(so: &ScaledObject, around: &Surroundings, refusals: &mut Vec<Refusal>) {
    let spec = &so.spec;
    let target = &spec.scale_target_ref;
    let mut resource_triggers = spec
        .triggers
        .iter()
        .enumerate()
        .filter(|(_, t)| t.is_cpu_or_memory())
        .peekable();

    let containers = match &around.workload {
        Workload::Unchecked => return,
        Workload::Missing => {
            if resource_triggers.peek().is_some() {
                refusals.push(Refusal::new(
                    Reason::Unlabelled,
                    format!(
                        "{}s.apps {:?} not found",
                        target.group_version_kind().kind.to_ascii_lowercase(),
                        target.name
                    ),
                    "spec.scaleTargetRef.name",
                    &target.name,
                    "an existing workload, where a trigger is cpu or memory",
                ));
            }
            return;
        }
        Workload::Containers(containers) => containers,
    };
    for (index, trigger) in resource_triggers {
        let named = trigger
            .metadata
            .get("containerName")
            .map(String::as_str)
            .filter(|n| !n.is_empty());
        for container in containers
            .iter()
            .filter(|c| named.is_none_or(|n| c.name == n))
        {
            let given = match trigger.type_.as_str() {
                "cpu" => container.cpu || around.defaults.cpu,
                _ => container.memory || around.defaults.memory,
            };
            if !given {
                refusals.push(missing_request(index, trigger, &container.name));
            }
        }
    }
    refusals.extend(never_from_zero(so));
}

fn missing_request(index: usize, trigger: &ScaleTrigger, container: &str) -> Refusal {
    let resource = &trigger.type_;
    Refusal::new(
        Reason::MissingRequests,
        format!(
            "the scaledobject has a {resource} trigger but the container {container} doesn't have the {resource} request defined"
        ),
        format!("spec.triggers[{index}].type"),
        resource,
        format!(
            "a pod template whose container {container} has a {resource} request or limit above 0, or a LimitRange that gives one"
        ),
    )
}

/// The refusal of an object that nothing would ever bring back from zero. KEDA says it of workloads
/// that it found; it holds for any target.
pub fn never_from_zero(so: &ScaledObject) -> Option<Refusal> {
    let triggers = &so.spec.triggers;
    let can_wake = triggers.iter().any(|trigger| !trigger.is_pod_local());
    if triggers.is_empty() || can_wake || so.spec.min_replicas() > 0 {
        return None;
    }
    let message = if so.spec.has_only_cpu_and_memory_triggers() {
        "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in this case)"
    } else {
        "scaledobject has only triggers on its own pods (cpu, memory, node-accept-queue, node-pressure) AND minReplica is 0 (scale to zero doesn't work in this case)"
    };
    Some(Refusal::new(
        Reason::ScaleToZeroRequirementsNotMet,
        message,
        "spec.minReplicaCount",
        so.spec
            .min_replica_count
            .map_or_else(|| "absent".to_owned(), |n| n.to_string()),
        "1 or more, or a trigger on an event source beside these",
    ))
}
