//! Reaching a cluster, and the coordinator in it, with kubectl's flags and kubectl's words.

mod api_error;
mod connect;
mod coordinator;
mod flags;
mod scope;

pub(crate) use api_error::from_api;
pub(crate) use connect::{Cluster, block_on, namespace};
pub(crate) use coordinator::{Coordinator, Whom};
pub(crate) use flags::{ClusterFlags, CoordinatorFlags};
pub(crate) use scope::{Scope, ScopeFlags, names};
