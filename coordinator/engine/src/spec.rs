use std::time::Duration;

use neap_units::{MilliValue, Timestamp};
use serde::{Deserialize, Serialize};

use crate::behavior::Behavior;
use crate::formula::Formula;

/// A spec with more triggers is refused.
pub const MAX_TRIGGERS: usize = 256;

/// How one workload is to be scaled: a ScaledObject (or a plain HPA) with everything resolved that
/// the engine needs. Checked with [`crate::validate_spec`] before use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingSpec {
    /// The object's namespace, for messages.
    pub namespace: String,
    /// What is scaled, as `status.scaleTargetKind` has it (`apps/v1.Deployment`), for messages.
    pub target_kind: String,
    /// The name of what is scaled, for messages.
    pub target_name: String,
    /// Fewest replicas while active or, with `idle_replicas` unset, at all (`minReplicaCount`,
    /// KEDA's default 0). The HPA part works with at least 1.
    pub min_replicas: i32,
    /// Most replicas (`maxReplicaCount`, KEDA's default 100).
    pub max_replicas: i32,
    /// Replicas while no trigger is active (`idleReplicaCount`); below `min_replicas`.
    pub idle_replicas: Option<i32>,
    /// The triggers. The largest proposal wins.
    pub triggers: Vec<TriggerSpec>,
    /// `advanced.horizontalPodAutoscalerConfig.behavior` with defaults filled in; `None` where the
    /// object has none, which takes the HPA's older path (`hpa.md` 3.1).
    pub behavior: Option<Behavior>,
    /// Who decides about 0 and idle.
    pub zero: ZeroHandling,
    /// How long after the last activity the workload goes to zero or idle (`cooldownPeriod`, 300 s).
    pub cooldown: Duration,
    /// How long after `created_at` a workload that was never active is left alone
    /// (`initialCooldownPeriod`, 0 s).
    pub initial_cooldown: Duration,
    /// When the object was created, on the decision clock.
    pub created_at: Timestamp,
    /// What to do when a trigger keeps failing.
    pub fallback: Option<Fallback>,
    /// One formula over the external triggers, in place of their own proposals.
    pub scaling_modifiers: Option<ScalingModifiers>,
    /// The pause annotations.
    pub pause: Pause,
    /// `autoscaling.keda.sh/force-activation`: active whatever the triggers say.
    pub force_activation: bool,
    /// How far the step out of zero goes.
    pub first_step: FirstStep,
    /// `advanced.restoreToOriginalReplicaCount`: deleting the object puts back the replicas it found.
    pub restore_original: bool,
    /// The controller's flags.
    pub settings: Settings,
}

impl Default for ScalingSpec {
    /// KEDA's defaults, without triggers.
    fn default() -> Self {
        Self {
            namespace: String::new(),
            target_kind: String::new(),
            target_name: String::new(),
            min_replicas: 0,
            max_replicas: 100,
            idle_replicas: None,
            triggers: Vec::new(),
            behavior: None,
            zero: ZeroHandling::Triggers,
            cooldown: Duration::from_secs(300),
            initial_cooldown: Duration::ZERO,
            created_at: Timestamp::MIN,
            fallback: None,
            scaling_modifiers: None,
            pause: Pause::default(),
            force_activation: false,
            first_step: FirstStep::default(),
            restore_original: false,
            settings: Settings::default(),
        }
    }
}

impl ScalingSpec {
    /// The lower bound of the HPA part: `min_replicas`, but at least 1 where triggers decide about
    /// zero (KEDA builds its HPA so, `keda-core.md` 2.5).
    #[must_use]
    pub fn hpa_min(&self) -> i32 {
        match self.zero {
            ZeroHandling::Triggers => self.min_replicas.max(1),
            ZeroHandling::Disabled | ZeroHandling::HpaScaleToZero => self.min_replicas,
        }
    }
}

/// Who decides whether a workload rests at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZeroHandling {
    /// KEDA's layer: activation, cooldown, idle. What every ScaledObject has.
    #[default]
    Triggers,
    /// A plain HPA: a workload at zero is left there (`ScalingDisabled`).
    Disabled,
    /// A plain HPA under the feature gate HPAScaleToZero (`hpa.md` 4).
    HpaScaleToZero,
}

/// The flags and feature gates of the HPA controller, and what Neap adds to them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `--horizontal-pod-autoscaler-tolerance`, for both directions.
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`, where the object sets no window.
    pub downscale_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub cpu_initialization_period: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub initial_readiness_delay: Duration,
    /// Feature gate HPAConfigurableTolerance: whether `behavior.*.tolerance` counts.
    pub configurable_tolerance: bool,
    /// A change against the direction of the last one waits this long from it. Zero is the HPA's
    /// behaviour at its own pace; deciding at every signal needs about the HPA's sync period.
    pub reversal_hold: Duration,
    /// `--horizontal-pod-autoscaler-sync-period`: the pace of what the HPA limits per look and not
    /// per time (its doubling without `behavior`). Zero: each evaluation is one look.
    pub sync_period: Duration,
    /// A change for which the load lies outside the tolerance by no more than this share waits for
    /// the next look at the HPA's pace: noise could have made it. Zero where each evaluation is one
    /// look anyway.
    pub noise_margin: f64,
}

impl Default for Settings {
    /// kube-controller-manager 1.36's defaults and a reversal hold of 15 s.
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            configurable_tolerance: true,
            reversal_hold: Duration::from_secs(15),
            sync_period: Duration::from_secs(15),
            noise_margin: 0.1,
        }
    }
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerSpec {
    /// The metric's name, unique within the object (`s0-mysql`, `cpu`, `s1-node-accept-queue`). Key of
    /// its failure counter and of its capacity history.
    pub metric_name: String,
    /// `triggers[].name`: its variable in a formula.
    pub name: Option<String>,
    /// `triggers[].type`, for people.
    pub kind: String,
    /// What is measured, and the target.
    pub metric: MetricSpec,
}

/// What a trigger measures, and its target. A target of 0 or less is none: such a metric fails in
/// every decision, as one without a target does in the HPA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetricSpec {
    /// CPU or memory of the pods (`Resource`), or of one container in each (`ContainerResource`).
    Resource {
        /// Which resource.
        resource: Resource,
        /// Only this container.
        container: Option<String>,
        /// The target.
        target: ResourceTarget,
    },
    /// A number per pod, averaged over pods (`Pods` with `AverageValue`): Neap's node-local triggers.
    Pods {
        /// The target mean per pod.
        average_value: MilliValue,
        /// For metrics without a steady state by proportion alone (delay, saturation): see
        /// [`CapacityFloor`].
        capacity_floor: Option<CapacityFloor>,
    },
    /// One number that another Kubernetes object carries (`Object`).
    Object {
        /// The described object's kind, e.g. `Service`.
        described_kind: String,
        /// The described object's name.
        described_name: String,
        /// The metric's label selector as the HPA prints it in messages; `None` prints `nil`.
        selector: Option<String>,
        /// The target.
        target: ValueTarget,
    },
    /// A number from outside (`External`): every polled event source.
    External {
        /// The metric's label selector as the HPA prints it in messages; `None` prints `nil`.
        selector: Option<String>,
        /// The target.
        target: ValueTarget,
        /// Active when the value is strictly greater (`activation*`, default 0). Used where the
        /// reading does not say itself whether its source is active.
        activation: MilliValue,
    },
}

impl MetricSpec {
    /// Whether there is a target to divide by.
    pub(crate) fn has_target(&self) -> bool {
        match self {
            Self::Resource {
                target: ResourceTarget::Utilization(percent),
                ..
            } => *percent > 0,
            Self::Resource {
                target: ResourceTarget::AverageValue(value),
                ..
            }
            | Self::Pods {
                average_value: value,
                ..
            } => *value > MilliValue::ZERO,
            Self::Object { target, .. } | Self::External { target, .. } => {
                let (ValueTarget::Value(value) | ValueTarget::AverageValue(value)) = target;
                *value > MilliValue::ZERO
            }
        }
    }
}

/// A resource of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// CPU, in milli-cores. The only one for which starting pods are set aside.
    Cpu,
    /// Memory, in milli-bytes.
    Memory,
}

impl Resource {
    /// `cpu` or `memory`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// Target of a resource metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceTarget {
    /// Mean use in percent of the requests.
    Utilization(i32),
    /// Mean use per pod.
    AverageValue(MilliValue),
}

/// Target of an object or external metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueTarget {
    /// The value itself: replicas follow its ratio to the target.
    Value(MilliValue),
    /// The value divided by the replicas.
    AverageValue(MilliValue),
}

/// While the mean is at or under its target, never propose fewer replicas than
/// `ceil(arrival rate / best)`, where `best` is the highest rate per pod that was seen within
/// `window` with the mean at or under its target.
///
/// Delay and saturation are zero for any sufficient number of replicas, so that proportion alone
/// would remove the replicas that made them zero. Above the target proportion alone speaks, which
/// never proposes fewer than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityFloor {
    /// How long a rate counts; 10 minutes.
    pub window: Duration,
}

impl Default for CapacityFloor {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
        }
    }
}

/// `fallback`: what stands in for a trigger that failed more than `failure_threshold` times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Consecutive failures that are tolerated.
    pub failure_threshold: i32,
    /// The replicas to stand in.
    pub replicas: i32,
    /// How `replicas` is used.
    pub behavior: FallbackBehavior,
}

/// `fallback.behavior`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FallbackBehavior {
    /// `static`: `replicas`.
    #[default]
    Static,
    /// `currentReplicas`: as many as there are.
    CurrentReplicas,
    /// `currentReplicasIfHigher`: as many as there are, at least `replicas`.
    CurrentReplicasIfHigher,
    /// `currentReplicasIfLower`: as many as there are, at most `replicas`.
    CurrentReplicasIfLower,
    /// `scalingModifiers`: the formula sees nil for the failed triggers.
    ScalingModifiers,
}

/// `advanced.scalingModifiers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingModifiers {
    /// The expression over trigger names.
    pub formula: Formula,
    /// The target of its value; above 0.
    pub target: MilliValue,
    /// Active when its value is strictly greater.
    pub activation_target: MilliValue,
    /// Whether the value is divided by the replicas.
    pub metric_type: ModifierMetricType,
}

/// `scalingModifiers.metricType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModifierMetricType {
    /// The value divided by the replicas.
    #[default]
    AverageValue,
    /// The value itself.
    Value,
}

/// The pause annotations, `autoscaling.keda.sh/...`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `paused`: stay at the current replicas.
    pub paused: bool,
    /// `paused-replicas`: go to this many at once and stay.
    pub replicas: Option<i32>,
    /// `paused-scale-in`: never fewer.
    pub scale_in: bool,
    /// `paused-scale-out`: never more.
    pub scale_out: bool,
}

impl Pause {
    /// Whether nothing is decided at all.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.paused || self.replicas.is_some()
    }
}

/// How far the step out of zero goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstStep {
    /// To max(min, 1) and, in the same write, to what the values ask for as far as `scaleUp` allows
    /// from there.
    #[default]
    Behavior,
    /// `neap.dev/first-step: value`: to what the values ask for, up to max.
    Value,
}
