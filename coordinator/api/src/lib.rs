//! The custom resources that Neap reads, under KEDA's names: types, defaults, validation and the
//! generation of their definitions.
//!
//! Types follow `keda.sh/v1alpha1` as KEDA 2.21 publishes it, so that existing manifests apply
//! unchanged and either side's definitions serve both. Watch them as
//! [`kube::core::DeserializeGuard`], so that one unreadable object does not hide the others.

pub mod condition;
pub mod crd;
pub mod keys;
pub mod schema;
pub mod trigger_authentication;
pub mod validate;

mod advanced;
mod behavior_schema;
mod job_schema;
mod open_enum;
mod scale_target;
mod scaled_job;
mod scaled_object;
mod scaled_object_defaults;
mod trigger;

pub use advanced::{
    AdvancedConfig, Fallback, FallbackBehavior, HorizontalPodAutoscalerConfig, ModifiersMetricType,
    ScalingModifiers,
};
pub use condition::Condition;
pub use scale_target::{ScaleTarget, TargetKind};
pub use scaled_job::{
    JobStrategy, MultipleScalersCalculation, PropagationPolicy, Rollout, RolloutStrategy,
    ScaledJob, ScaledJobSpec, ScaledJobStatus, ScalingStrategy,
};
pub use scaled_object::{
    GroupVersionKindResource, Health, HealthStatus, ScaledObject, ScaledObjectSpec,
    ScaledObjectStatus, TriggerActivityStatus,
};
pub use scaled_object_defaults::{
    DEFAULT_COOLDOWN_PERIOD, DEFAULT_MAX_REPLICAS, DEFAULT_POLLING_INTERVAL, HPA_NAME_PREFIX, Pause,
};
pub use trigger::{AuthenticationKind, AuthenticationRef, ScaleTrigger, types_and_authentications};
pub use trigger_authentication::{
    ClusterTriggerAuthentication, ClusterTriggerAuthenticationSpec, TriggerAuthentication,
    TriggerAuthenticationSpec,
};
