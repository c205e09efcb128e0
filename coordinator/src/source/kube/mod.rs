//! Objects from an API server: one watch per kind (and namespace, where they are restricted), read
//! as streams, trimmed before anything is kept.

mod discovery;
mod follow;
mod given;
mod hpa;
mod keda_lease;
mod lean;
mod objects;
mod pod_facts;
mod reader;
mod run;
mod scope;
mod targets;
mod template;
mod writers;

pub use discovery::Discovery;
pub(crate) use given::Given;
pub use reader::KubeReader;
pub use run::KubeSource;
pub use scope::Scope;
