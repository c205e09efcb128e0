//! What is scaled: one watch per resource that some ScaledObject names, and a GET where a watch cannot
//! tell.
//!
//! Of a watched resource only the objects that ScaledObjects name are kept. Deployments, StatefulSets
//! and ReplicaSets carry their scale in themselves; any other kind is read through its scale
//! subresource whenever its watch shows a change, or each 15 s where it cannot be watched.

mod facts;
mod follow;
mod read;
mod shared;
mod sinks;

pub(super) use facts::workload_facts;
pub(super) use follow::Targets;
