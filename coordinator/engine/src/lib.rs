//! The decision engine: observations in, replicas and reasons out.
//!
//! Pure. No I/O, no clock, no async, no global state; the same spec, state, observation and time
//! give the same [`Evaluation`]. It follows the HorizontalPodAutoscaler controller of Kubernetes 1.36
//! for 1..N and KEDA for 0 and idle, fallback, cooldown, pause and formulas; `docs/engine.md` says
//! where and why it differs.
#![forbid(unsafe_code)]

mod activation;
mod behavior;
mod capacity;
mod draft;
mod error;
mod evaluate;
mod evaluation;
mod fallback;
mod formula;
mod history;
mod hpa;
pub mod hpa_spec;
pub mod hpa_validation;
pub mod jobs;
mod messages;
mod metrics;
mod names;
mod noise;
mod normalize;
mod observation;
mod pause;
mod pods;
mod rate_limits;
mod reversal;
mod scaling_modifiers;
mod spec;
mod stabilization;
mod state;
mod validation;
mod why;
mod why_text;

pub mod replica_calculator;

pub use behavior::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
pub use error::StateError;
pub use evaluate::evaluate;
pub use evaluation::{
    Condition, ConditionStatus, ConditionType, Evaluation, Event, EventKind, MetricStatus, Refused,
};
pub use formula::{Formula, FormulaError, MAX_FORMULA_BYTES, SUPPORTED_FUNCTIONS};
pub use history::Recommendation;
pub use observation::{
    Container, ContainerKind, Failure, FailureCause, Observation, Pod, PodPhase, PodReadings,
    Reading, Ready, ReadyStatus, Requests, Sample, SelectorProblem, ValueReading,
};
pub use pods::{PodGroup, StartPeriods, group_of, sum_containers};
pub use spec::{
    CapacityFloor, Fallback, FallbackBehavior, FirstStep, MAX_TRIGGERS, MetricSpec,
    ModifierMetricType, Pause, Resource, ResourceTarget, ScalingModifiers, ScalingSpec, Settings,
    TriggerSpec, ValueTarget, ZeroHandling,
};
pub use state::{DecisionState, LastChange, Rate, STATE_VERSION, ScaleEvent, TriggerHealth};
pub use validation::{SpecError, validate_spec};
pub use why::{
    Bound, Direction, Measured, NextCause, NextChange, PodCounts, Proposal, Step, TriggerOutcome,
    TriggerWhy, Why,
};
