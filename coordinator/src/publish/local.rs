//! Without an API server: events become reports, and nobody reads a status.

use futures::future::BoxFuture;
use serde_json::Value;

use super::port::{EventNote, EventSeverity, PublishError, Publisher};
use crate::keys::TargetKey;
use crate::local::{Report, Reports};
use crate::world::RemovableHpa;

/// Publishes to the people at the terminal. What a status would say is in the explanation.
#[derive(Debug)]
pub struct LocalPublisher {
    reports: Reports,
}

impl LocalPublisher {
    /// Tells `reports`.
    pub fn new(reports: Reports) -> Self {
        Self { reports }
    }
}

impl Publisher for LocalPublisher {
    fn patch_status<'a>(
        &'a self,
        _: &'a TargetKey,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn event<'a>(&'a self, note: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.reports.say(Report::Event {
                scaled_object: note.regarding.to_string(),
                warning: note.severity == EventSeverity::Warning,
                reason: note.reason.clone(),
                message: note.note.clone(),
            });
            Ok(())
        })
    }

    fn remove_finalizer<'a>(&'a self, _: &'a TargetKey) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove_hpa<'a>(
        &'a self,
        _: &'a str,
        _: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }
}
