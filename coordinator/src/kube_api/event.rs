//! The form of an Event (events.k8s.io/v1).

use serde_json::{Value, json};

use super::FIELD_MANAGER;

/// The API server's limit of a note, in bytes.
const NOTE_LIMIT: usize = 1_024;

/// The object that an Event is about.
pub(crate) struct About<'a> {
    /// `group/version`.
    pub(crate) api_version: &'a str,
    /// Kind.
    pub(crate) kind: &'a str,
    /// Namespace; the Event stands there too.
    pub(crate) namespace: &'a str,
    /// Name.
    pub(crate) name: &'a str,
    /// UID, where it is known: an Event without one is not found from its object.
    pub(crate) uid: Option<&'a str>,
}

/// One Event.
pub(crate) struct EventForm<'a> {
    /// What it is about.
    pub(crate) about: About<'a>,
    /// Name of the pod that reports it.
    pub(crate) pod_name: &'a str,
    /// When.
    pub(crate) at: jiff::Timestamp,
    /// A word for what was done.
    pub(crate) action: &'a str,
    /// Reason in CamelCase.
    pub(crate) reason: &'a str,
    /// A sentence; what is over the server's limit is cut off.
    pub(crate) note: &'a str,
    /// A person should look.
    pub(crate) warning: bool,
}

impl EventForm<'_> {
    /// Path and query of the request that creates it.
    pub(crate) fn path(&self) -> String {
        format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events?fieldManager={FIELD_MANAGER}",
            self.about.namespace
        )
    }

    /// Its body.
    pub(crate) fn body(&self) -> Value {
        let about = &self.about;
        let mut regarding = json!({
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
        });
        if let Some(uid) = about.uid {
            regarding["uid"] = json!(uid);
        }
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": format!("{}-", about.name), "namespace": about.namespace},
            "eventTime": format!("{:.6}", self.at),
            "reportingController": "neap-coordinator",
            "reportingInstance": self.pod_name,
            "action": self.action,
            "reason": self.reason,
            "note": cut(self.note),
            "type": if self.warning { "Warning" } else { "Normal" },
            "regarding": regarding,
        })
    }
}

/// The note within the server's limit, at a character's edge.
fn cut(note: &str) -> &str {
    let mut end = note.len().min(NOTE_LIMIT);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}
