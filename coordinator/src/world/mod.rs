//! The objects that deciding needs, indexed in memory.
//!
//! An [`ObjectSource`](crate::source::ObjectSource) writes here; everything else reads. Reads are
//! by key or by selector, hand out shared copies, and never wait for the network. Absent here: any
//! knowledge of where objects come from, and any decision.

mod changes;
mod freshness;
mod labels;
mod owner;
mod pod;
mod pods;
mod selector;
mod store;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod world_test;
mod write;

pub use changes::{ChangeSet, Changes};
pub use freshness::{Freshness, ObjectKind};
pub use labels::{LabelInterner, Labels, Shared};
pub use owner::{HpaFacts, KedaEvidence, KedaPresence, Owner, RemovableHpa};
pub use pod::{
    Container, ContainerRole, PodFacts, PodOwner, PodPhase, PodShape, Readiness, Requests,
    StartedContainer, parse_container_id,
};
pub use selector::{Requirement, Selector, SelectorError};
pub use store::{ScaledObjectEntry, Sizes, World};
pub use target::{
    PodTemplate, ScaleResource, TargetFacts, TargetId, TargetProblem, TargetState,
    TemplateContainer, is_older_version,
};
