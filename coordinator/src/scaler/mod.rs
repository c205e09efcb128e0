//! What scales: the scale subresource, local processes, or nothing (`observe`).

pub mod kube;
pub mod local;
pub mod observe;

use std::time::Duration;

use futures::future::BoxFuture;

use crate::clock::Boottime;
use crate::keys::{LeaderId, TargetRef};

/// The scale of an object as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`; a scale without the field has 0, which the API server leaves out.
    pub replicas: i32,
    /// `status.replicas`.
    pub status_replicas: i32,
    /// `status.selector` in its string form; `None` where the object publishes none.
    pub selector: Option<String>,
    /// Version that a write must carry.
    pub resource_version: String,
}

/// A write that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `spec.replicas` after the write.
    pub replicas: i32,
    /// Version after the write: the next write may carry it without reading first.
    pub resource_version: String,
}

/// Reads and writes scales. One instance serves all targets.
pub trait Scaler: Send + Sync {
    /// Reads the scale of `target`.
    ///
    /// # Errors
    /// [`ScaleError`], never [`ScaleError::Conflict`].
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>>;

    /// Sets `spec.replicas` of `target`, if its version still is `resource_version`.
    ///
    /// The request is sent at most once: no retry hides in here. It is given up at `deadline`,
    /// which lies before the end of the leader's lease; a request given up may still arrive.
    ///
    /// # Errors
    /// [`ScaleError`]; after [`ScaleError::Timeout`] it is not known whether the write was done.
    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        resource_version: &'a str,
        leader: LeaderId,
        deadline: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>>;
}

/// Why a scale could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Someone changed the object since it was read.
    #[error("the object changed since it was read")]
    Conflict,
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// The kind is unknown to the server, or it has no scale subresource.
    #[error("{kind} has no scale subresource")]
    NoScaleSubresource {
        /// `group/version.Kind` as asked for.
        kind: String,
    },
    /// RBAC or an admission policy refused it; the text is the server's.
    #[error("refused: {0}")]
    Forbidden(String),
    /// The server asked to wait (429, or 503 with Retry-After).
    #[error("throttled, retry after {} s", retry_after.as_secs_f32())]
    Throttled {
        /// How long it asked to wait.
        retry_after: Duration,
    },
    /// No connection, or the connection broke before an answer.
    #[error("API server unreachable: {0}")]
    Unreachable(String),
    /// No answer before the deadline.
    #[error("no answer in time")]
    Timeout,
}
