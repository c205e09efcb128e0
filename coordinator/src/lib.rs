//! neap-coordinator: takes what the agents and the event sources say, decides replicas, and
//! scales.
//!
//! ```text
//! ingest -> signals -> decide (engine) -> consensus -> scaler
//!             poll  ->                              -> publish
//! ```
//!
//! Kubernetes has a name only in `source::kube`, `scaler::kube`, `publish::kube`, `identity` and
//! `leader`; everything else speaks of targets, specs and signals.

pub mod clock;
pub mod cluster;
pub mod config;
pub mod decide;
pub mod identity;
pub mod ingest;
pub mod keys;
pub mod leader;
pub mod local;
pub mod metrics;
pub mod poll;
pub mod publish;
pub mod scaler;
pub mod signals;
pub mod source;
pub mod world;

mod service;

pub use service::{Ports, Service, ServiceConfig, ServiceError, run};

#[cfg(test)]
mod testing;
