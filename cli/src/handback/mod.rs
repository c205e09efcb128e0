//! `neap handback` and `neap takeback`: plain HPAs in the place of the coordinator, and back.
//!
//! Handing back needs no coordinator: everything is read from the API server, and what is written
//! is an `autoscaling/v2` HPA per ScaledObject, which kube-controller-manager then serves. A
//! coordinator that comes back finds that an HPA owns the target, and only observes.

mod api;
mod command;
mod convert;

#[cfg(test)]
mod api_test;

pub(crate) use command::{HandbackArgs, TakebackArgs, handback, takeback};
