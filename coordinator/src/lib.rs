//! neap-coordinator: takes what the agents and the event sources say, decides replicas, and
//! scales.
//!
//! ```text
//! ingest -> signals -> decide (engine) -> consensus -> scaler
//!             poll  ->                              -> publish
//! ```
//!
//! Kubernetes has a name only in `kube_api`, `source::kube`, `scaler::kube`, `publish::kube`, `identity`,
//! `leader`, `fitness` and `scale_down`; everything else speaks of targets, specs and signals.

pub mod clock;
pub mod cluster;
pub mod config;
pub mod decide;
pub mod fitness;
pub mod identity;
pub mod ingest;
pub mod keys;
pub mod kube_api;
pub mod leader;
pub mod leading;
pub mod local;
pub mod metrics;
pub mod poll;
pub mod process;
pub mod publish;
pub mod scale_down;
pub mod scaler;
pub mod signals;
pub mod source;
pub mod world;

mod service;

pub use service::{Ports, Service, ServiceConfig, ServiceError, run};

#[cfg(test)]
mod testing;
