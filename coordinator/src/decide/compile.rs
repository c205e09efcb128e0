//! From a ScaledObject to what the engine and the readers of signals need.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use neap_api::validate::{self, ContainerResources, Request, Surroundings, Workload};
use neap_api::{
    FallbackBehavior as ApiFallback, ModifiersMetricType, Pause as ApiPause, ScaledObject,
};
use neap_engine::{
    CapacityFloor, Fallback, FallbackBehavior, FirstStep, Formula, Measured, MetricSpec,
    ModifierMetricType, Pause, Resource, ResourceTarget, ScalingModifiers, ScalingSpec, Settings,
    TriggerSpec, ValueTarget, ZeroHandling,
};
use neap_triggers::{
    AcceptQueueMetric, Activation, BuiltTrigger, ExternalKind, NodeLocal, ScalableObject, Source,
    Target, TriggerConfig, TriggerContext,
};
use neap_units::{MilliValue, Timestamp};

use super::behavior;
use super::references::References;
use crate::poll::Resolved;
use crate::world::{ContainerRole, PodFacts, TargetFacts};

/// A ScaledObject that can be acted on.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// For the engine.
    pub spec: ScalingSpec,
    /// In the order of the object.
    pub triggers: Vec<BuiltTrigger>,
    /// For each trigger of `spec` the index in `triggers` and of the metric in that.
    pub inputs: Vec<(usize, usize)>,
    /// What each trigger of `spec` aims at.
    pub targets: Arc<Targets>,
    /// What KEDA lets pass although it will not work well.
    pub warnings: Vec<String>,
    /// How often event sources are asked.
    pub polling_interval: Duration,
}

/// The targets of a spec, for those who show them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// In the order of the engine's triggers.
    pub triggers: Box<[Measured]>,
    /// That of the formula, which then stands for all triggers.
    pub formula: Option<Measured>,
}

impl Targets {
    fn of(spec: &ScalingSpec) -> Self {
        let triggers = spec.triggers.iter().map(|trigger| match &trigger.metric {
            MetricSpec::Resource { target, .. } => match target {
                ResourceTarget::Utilization(percent) => Measured::Utilization(*percent),
                ResourceTarget::AverageValue(value) => Measured::Average(*value),
            },
            MetricSpec::Pods { average_value, .. } => Measured::Average(*average_value),
            MetricSpec::Object { target, .. } | MetricSpec::External { target, .. } => match target
            {
                ValueTarget::Value(value) => Measured::Value(*value),
                ValueTarget::AverageValue(value) => Measured::Average(*value),
            },
        });
        let formula = spec.scaling_modifiers.as_ref().map(|modifiers| {
            let target = modifiers.target;
            match modifiers.metric_type {
                ModifierMetricType::Value => Measured::Value(target),
                ModifierMetricType::AverageValue => Measured::Average(target),
            }
        });
        Self {
            triggers: triggers.collect(),
            formula,
        }
    }
}

/// Why a ScaledObject cannot be acted on: one text per fault, each with field, value and what is
/// allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The faults, the one to show first.
    pub faults: Vec<String>,
}

impl Invalid {
    /// One fault.
    pub fn one(fault: impl ToString) -> Self {
        Self {
            faults: vec![fault.to_string()],
        }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.faults.join("; "))
    }
}

/// What an object is compiled with.
pub struct CompileInput<'a> {
    /// The object.
    pub object: &'a ScaledObject,
    /// Its target, where it was found.
    pub target: Option<&'a TargetFacts>,
    /// The target's pods, for what LimitRanges filled in and for the ports they declare.
    pub pods: &'a [std::sync::Arc<PodFacts>],
    /// What it refers to.
    pub references: &'a References,
    /// Shared by all triggers.
    pub context: &'a TriggerContext,
    /// When the object was created, on the decision clock.
    pub created_at: Timestamp,
    /// The controller's flags.
    pub settings: Settings,
}

/// Compiles `input.object`.
///
/// # Errors
/// Every fault found.
pub fn compile(input: &CompileInput<'_>) -> Result<Compiled, Invalid> {
    let object = input.object;
    let around = Surroundings {
        workload: workload(input),
        defaults: input.references.defaults,
        ..Surroundings::default()
    };
    let mut refusals = validate::scaled_object(object, &around, Request::default());
    if let Some(refusal) = validate::never_from_zero(object).filter(|r| !refusals.contains(r)) {
        refusals.push(refusal);
    }
    let mut faults: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    let mut triggers = Vec::with_capacity(object.spec.triggers.len());
    for (index, resolved) in input.references.triggers.iter().enumerate() {
        match neap_triggers::build(&trigger_config(input, index, resolved)) {
            Ok(trigger) => {
                faults.extend(own_rules(input, index, &trigger));
                triggers.push(trigger);
            }
            Err(error) => faults.push(format!("spec.triggers[{index}]: {error}")),
        }
    }
    let behavior = behavior::convert(object).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let modifiers = scaling_modifiers(object).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let (specs, inputs) = trigger_specs(&triggers);
    let mut names = BTreeSet::new();
    for spec in &specs {
        if !names.insert(spec.metric_name.as_str()) {
            faults.push(format!(
                "spec.triggers: metric name {:?} is not allowed: each trigger of an object must have its own",
                spec.metric_name
            ));
        }
    }
    if !faults.is_empty() {
        return Err(Invalid { faults });
    }
    let spec = &object.spec;
    let mut warnings = validate::scaled_object_warnings(object);
    warnings.extend(
        triggers
            .iter()
            .flat_map(|trigger| &trigger.warnings)
            .map(ToString::to_string),
    );
    let (pause, pause_fault) = pause(object);
    warnings.extend(pause_fault);
    let kind = spec.scale_target_ref.group_version_kind();
    let compiled = ScalingSpec {
        namespace: object.namespace().unwrap_or_default(),
        target_kind: kind.to_string(),
        target_name: spec.scale_target_ref.name.clone(),
        min_replicas: spec.min_replicas(),
        max_replicas: spec.max_replicas(),
        // Beside an explicit minimum of 0 an idle count of 0 says the same twice, and KEDA lets it pass.
        idle_replicas: spec
            .idle_replica_count
            .filter(|idle| (*idle, spec.min_replicas()) != (0, 0)),
        triggers: specs,
        behavior,
        zero: ZeroHandling::Triggers,
        cooldown: spec.cooldown_period(),
        initial_cooldown: spec.initial_cooldown_period(),
        created_at: input.created_at,
        fallback: spec.fallback.as_ref().map(fallback),
        scaling_modifiers: modifiers,
        pause,
        force_activation: object.forces_activation(),
        first_step: if object.first_step_by_value() {
            FirstStep::Value
        } else {
            FirstStep::Behavior
        },
        restore_original: spec.restore_to_original_replica_count(),
        settings: settings(input.settings, &triggers),
    };
    let faults: Vec<String> = neap_engine::validate_spec(&compiled)
        .into_iter()
        .map(|fault| {
            format!(
                "{}: {} is not allowed: {}",
                fault.field, fault.value, fault.allowed
            )
        })
        .collect();
    if !faults.is_empty() {
        return Err(Invalid { faults });
    }
    Ok(Compiled {
        targets: Arc::new(Targets::of(&compiled)),
        spec: compiled,
        triggers,
        inputs,
        warnings,
        polling_interval: spec.polling_interval(),
    })
}

fn trigger_config(input: &CompileInput<'_>, index: usize, resolved: &Resolved) -> TriggerConfig {
    let object = input.object;
    let trigger = &object.spec.triggers[index];
    let formula = object.spec.scaling_modifiers().is_some();
    TriggerConfig {
        name: trigger.name().map(str::to_owned),
        metadata: trigger.metadata.clone(),
        auth_params: resolved.params.clone(),
        resolved_env: resolved.env.clone(),
        pod_identity: resolved.identity.clone(),
        metric_type: trigger.metric_type().map(str::to_owned),
        index: u32::try_from(index).unwrap_or(u32::MAX),
        object: ScalableObject {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            kind: "ScaledObject".to_owned(),
        },
        as_metric_source: formula && trigger.name().is_some() && !trigger.is_pod_local(),
        ..TriggerConfig::new(trigger.type_.clone(), input.context.clone())
    }
}

/// Whether the target's containers have requests: as the template says, or as the pods got them
/// from a LimitRange.
fn workload(input: &CompileInput<'_>) -> Workload {
    let kind = input.object.spec.scale_target_ref.group_version_kind();
    if kind.group != "apps" || !matches!(kind.kind.as_str(), "Deployment" | "StatefulSet") {
        return Workload::Unchecked;
    }
    let Some(template) = input.target.and_then(|target| target.template.as_ref()) else {
        return Workload::Unchecked;
    };
    let shape = input
        .pods
        .iter()
        .find(|pod| pod.is_current())
        .map(|pod| &pod.shape);
    let containers = template.containers.iter().map(|container| {
        let of_pod = shape
            .and_then(|shape| {
                shape
                    .containers
                    .iter()
                    .find(|c| c.role == ContainerRole::App && c.name == container.name)
            })
            .map(|container| container.requests)
            .unwrap_or_default();
        ContainerResources {
            name: container.name.to_string(),
            cpu: [container.requests.cpu, container.limits.cpu, of_pod.cpu]
                .iter()
                .flatten()
                .any(|cpu| *cpu > MilliValue::ZERO),
            memory: [
                container.requests.memory,
                container.limits.memory,
                of_pod.memory,
            ]
            .iter()
            .flatten()
            .any(|memory| memory.get() > 0),
        }
    });
    Workload::Containers(containers.collect())
}

/// What Neap's own triggers ask of the target's pods.
fn own_rules(input: &CompileInput<'_>, index: usize, trigger: &BuiltTrigger) -> Option<String> {
    let Source::NodeLocal(NodeLocal::AcceptQueue(queue)) = &trigger.source else {
        return None;
    };
    if queue.metric != AcceptQueueMetric::Delay {
        return None;
    }
    let pod = input.pods.iter().find(|pod| pod.is_current())?;
    let ports = pod.shape.declared_tcp_ports();
    // Arrivals are counted per network namespace: they belong to the port only where it is alone.
    if pod.shape.host_network {
        return Some(format!(
            "spec.triggers[{index}].metadata.metric: \"delay\" is not allowed: the pods use the node's network namespace (hostNetwork); use backlog"
        ));
    }
    if ports != [queue.port] {
        return Some(format!(
            "spec.triggers[{index}].metadata.metric: \"delay\" is not allowed: the pods must declare TCP port {} and no other, and declare {ports:?}; use backlog",
            queue.port
        ));
    }
    None
}

fn trigger_specs(triggers: &[BuiltTrigger]) -> (Vec<TriggerSpec>, Vec<(usize, usize)>) {
    let mut specs = Vec::new();
    let mut inputs = Vec::new();
    for (at, trigger) in triggers.iter().enumerate() {
        for (metric_at, metric) in trigger.metrics.iter().enumerate() {
            specs.push(TriggerSpec {
                metric_name: metric.name.clone(),
                name: trigger.name.clone(),
                kind: trigger.trigger_type.to_owned(),
                metric: metric_spec(trigger, &metric.target),
            });
            inputs.push((at, metric_at));
        }
    }
    (specs, inputs)
}

fn metric_spec(trigger: &BuiltTrigger, target: &Target) -> MetricSpec {
    match target {
        Target::External { kind, value } => MetricSpec::External {
            selector: None,
            target: match kind {
                ExternalKind::AverageValue => ValueTarget::AverageValue(*value),
                ExternalKind::Value => ValueTarget::Value(*value),
            },
            activation: match trigger.activation {
                Activation::Above(bound) => MilliValue::from_metric_f64(bound),
                Activation::Reported | Activation::Never => MilliValue::ZERO,
            },
        },
        Target::Resource {
            resource,
            container,
            target,
        } => MetricSpec::Resource {
            resource: match resource {
                neap_triggers::ResourceKind::Cpu => Resource::Cpu,
                neap_triggers::ResourceKind::Memory => Resource::Memory,
            },
            container: container.clone(),
            target: match target {
                neap_triggers::ResourceTarget::Utilization(percent) => {
                    ResourceTarget::Utilization(*percent)
                }
                neap_triggers::ResourceTarget::AverageValue(value) => {
                    ResourceTarget::AverageValue(*value)
                }
            },
        },
        Target::Pods { average } => MetricSpec::Pods {
            average_value: *average,
            capacity_floor: needs_floor(&trigger.source).then(CapacityFloor::default),
        },
    }
}

/// A queue is answered when its mean over the window crosses the line, and does not wait for a look
/// at the HPA's pace to tell it from noise: the window has smoothed it already.
fn settings(settings: Settings, triggers: &[BuiltTrigger]) -> Settings {
    let is_queue = |trigger: &BuiltTrigger| {
        matches!(trigger.source, Source::NodeLocal(NodeLocal::AcceptQueue(_)))
    };
    if triggers.iter().any(is_queue) {
        Settings {
            noise_margin: 0.0,
            ..settings
        }
    } else {
        settings
    }
}

fn needs_floor(source: &Source) -> bool {
    match source {
        Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => {
            matches!(
                queue.metric,
                AcceptQueueMetric::Delay | AcceptQueueMetric::Saturation
            )
        }
        _ => false,
    }
}

fn fallback(fallback: &neap_api::Fallback) -> Fallback {
    Fallback {
        failure_threshold: fallback.failure_threshold,
        replicas: fallback.replicas,
        behavior: match fallback.behavior() {
            ApiFallback::CurrentReplicas => FallbackBehavior::CurrentReplicas,
            ApiFallback::CurrentReplicasIfHigher => FallbackBehavior::CurrentReplicasIfHigher,
            ApiFallback::CurrentReplicasIfLower => FallbackBehavior::CurrentReplicasIfLower,
            ApiFallback::ScalingModifiers => FallbackBehavior::ScalingModifiers,
            // The schema refuses other texts; one that arrives all the same acts as the default.
            _ => FallbackBehavior::Static,
        },
    }
}

fn scaling_modifiers(object: &ScaledObject) -> Result<Option<ScalingModifiers>, String> {
    let Some(modifiers) = object.spec.scaling_modifiers() else {
        return Ok(None);
    };
    let Some(formula) = modifiers.formula() else {
        return Ok(None);
    };
    let number = |field: &str, text: Option<&str>| {
        match text {
        None => Ok(0.0),
        Some(text) => text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| {
            format!("spec.advanced.scalingModifiers.{field}: {text:?} is not allowed: it must be a number")
        }),
    }
    };
    Ok(Some(ScalingModifiers {
        formula: Formula::parse(formula).map_err(|error| {
            format!("spec.advanced.scalingModifiers.formula: {formula:?} is not allowed: {error}")
        })?,
        target: MilliValue::from_metric_f64(number("target", modifiers.target())?),
        activation_target: MilliValue::from_metric_f64(number(
            "activationTarget",
            modifiers.activation_target(),
        )?),
        metric_type: match modifiers.metric_type() {
            Some(ModifiersMetricType::Value) => ModifierMetricType::Value,
            _ => ModifierMetricType::AverageValue,
        },
    }))
}

fn pause(object: &ScaledObject) -> (Pause, Option<String>) {
    let mut pause = Pause {
        scale_in: object.pauses_scale_in(),
        scale_out: object.pauses_scale_out(),
        ..Pause::default()
    };
    let mut fault = None;
    match object.pause() {
        ApiPause::None => {}
        ApiPause::Here => pause.paused = true,
        ApiPause::At(replicas) => pause.replicas = Some(replicas),
        ApiPause::Invalid(text) => {
            pause.paused = true;
            fault = Some(format!(
                "metadata.annotations[{}]: {text:?} is not allowed: it must be a whole number of 0 or more; scaling is paused where it is",
                neap_api::keys::PAUSED_REPLICAS
            ));
        }
    }
    (pause, fault)
}
