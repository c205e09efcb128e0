//! neap-coordinator: takes what the agents and the event sources say, decides replicas, and
//! scales.
//!
//! ```text
//! ingest -> signals -> decide (engine) -> consensus -> scaler
//!             poll  ->                              -> publish
//! ```
//!
//! Kubernetes has a name only in `kube_api`, `source::kube`, `scaler::kube`, `publish::kube`, `identity`,
//! `leader`, `fitness`, `stateful_set` and what asks it (`scale_down`, `surplus`, `recovery`); everything else
//! speaks of targets, specs and signals.

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
pub mod recovery;
pub mod scale_down;
pub mod scaler;
pub mod signals;
pub mod source;
pub mod stateful_set;
pub mod surplus;
pub mod world;

mod service;
mod starting;

pub use service::{Ports, Service, ServiceConfig, ServiceError, run};

#[cfg(test)]
mod testing;
