//! Triggers: what a `ScaledObject` scales on.
//!
//! [`build`] takes one trigger of an object, with its authentication parameters and environment
//! already resolved, and gives a [`BuiltTrigger`]: the metrics it adds, their targets, when it
//! wakes a target from zero, and where its value comes from ([`Source`]). Metadata is read by the
//! rules of KEDA (see [`metadata`]), so that an object written for KEDA means the same here.
//!
//! This crate names no Kubernetes client: pods, Secrets and node signals reach it as plain values
//! or are read by the caller from the descriptions it returns.

mod built;
mod config;
mod context;
mod error;
mod http;
mod redis_link;
mod registry;
mod selector;
mod shared;

pub mod cron;
pub mod metadata;
pub mod name;

mod sql;
mod triggers;

pub use built::{
    AcceptQueue, AcceptQueueMetric, Activation, BuiltTrigger, ExternalKind, MetricSpec, NodeLocal,
    PollCall, PollFuture, PolledTrigger, Pressure, PressureKind, PressureResource, QueryKey,
    Reading, ResourceKind, ResourceSource, ResourceTarget, Source, Spool, Target, Workload,
};
pub use config::{AuthParams, PodIdentity, ScalableObject, TriggerConfig};
pub use context::{ContextLimits, TriggerContext};
pub use error::{ConfigError, FieldError, PollError, UnknownTrigger};
pub use registry::{KEDA_TYPES, build, implemented_types};
pub use selector::{LabelSelector, SelectorError};
pub use triggers::cron::{CronTrigger, TimedReading};
pub use triggers::resource::RESOURCE_WINDOW;
