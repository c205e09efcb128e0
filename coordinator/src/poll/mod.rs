//! Polled event sources: who is asked, how often, with which credentials.
//!
//! Only the leader asks. Absent here: what an answer means.

mod auth;
mod follow;
mod poller;
#[cfg(test)]
mod poller_test;

pub use auth::{AuthContext, AuthError, Resolved, refers_to_anything, resolve};
pub(crate) use follow::follow;
pub use poller::{PollLimits, PollOutcome, PollSpec, Poller};
