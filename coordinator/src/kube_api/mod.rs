//! What all requests to the API server share: the client, who they say they are, the form of an
//! Event, and how long a server may ask to wait.

mod client;
mod event;
mod retry_after;
mod user_agent;

pub use client::{ClientError, infer_client};
pub(crate) use event::{About, EventForm};
pub(crate) use retry_after::{DEFAULT_RETRY_AFTER, retry_after};
pub(crate) use user_agent::user_agent;

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "neap";
