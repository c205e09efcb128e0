//! Where status and events go.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::keys::TargetKey;
use crate::world::RemovableHpa;

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventSeverity {
    /// Things go as they should.
    Normal,
    /// A person should look.
    Warning,
}

/// One event about a ScaledObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventNote {
    /// The ScaledObject.
    pub regarding: TargetKey,
    /// Its UID, so that the event is found from it.
    pub uid: String,
    /// Normal or warning.
    pub severity: EventSeverity,
    /// Reason in CamelCase, KEDA's where KEDA has one.
    pub reason: String,
    /// What was done or found, in a sentence.
    pub note: String,
}

/// Writes status and events, and puts ScaledObjects in order. The caller limits the rate and never sends a status that equals
/// the last one taken; an implementation sends once and does not retry.
pub trait Publisher: Send + Sync {
    /// Merges `status` into the status of the ScaledObject `key` as field manager `neap` (a JSON
    /// merge patch: a field set to null goes away).
    ///
    /// # Errors
    /// [`PublishError`]; the caller tries again with what is then current.
    fn patch_status<'a>(
        &'a self,
        key: &'a TargetKey,
        status: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Records an event.
    ///
    /// # Errors
    /// [`PublishError`]; the caller counts it and lets it go.
    fn event<'a>(&'a self, note: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Takes the finalizer `finalizer.keda.sh` off a ScaledObject that is being deleted, so that it
    /// can go. Not being there (any more) is success.
    ///
    /// # Errors
    /// [`PublishError`]; the caller tries again.
    fn remove_finalizer<'a>(
        &'a self,
        key: &'a TargetKey,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Removes the HPA that a KEDA which is gone left for a ScaledObject of this namespace, if it
    /// still is the one that was seen. Not being there (any more) is success.
    ///
    /// # Errors
    /// [`PublishError`]; the caller tries again with what is then current.
    fn remove_hpa<'a>(
        &'a self,
        namespace: &'a str,
        hpa: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>>;
}

/// Why a status or event was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The object is gone.
    #[error("not found")]
    NotFound,
    /// The server refused it; the text is the server's.
    #[error("refused: {0}")]
    Refused(String),
    /// The server asked to wait.
    #[error("throttled, retry after {} s", retry_after.as_secs_f32())]
    Throttled {
        /// How long it asked to wait.
        retry_after: std::time::Duration,
    },
    /// No answer.
    #[error("API server unreachable: {0}")]
    Unreachable(String),
}
