//! Units and ids that every part of Neap shares.
//!
//! A leaf: it depends on nothing else of ours. Numbers that Kubernetes writes as quantities are
//! parsed and rounded as Kubernetes does ([`Quantity`]); what the decision engine counts in is a
//! thousandth ([`MilliValue`]); time is milliseconds on the decision clock ([`Timestamp`]).
#![forbid(unsafe_code)]

mod bytes;
mod ids;
mod milli;
mod quantity;
mod quantity_text;
mod timestamp;

pub use bytes::Bytes;
pub use ids::{
    BootId, ContainerName, IdError, Namespace, NamespacedName, NodeName, ObjectName, PodName,
    PodUid,
};
pub use milli::MilliValue;
pub use quantity::{Format, Quantity, QuantityError};
pub use timestamp::Timestamp;
