//! Status and events on an API server.
//!
//! The status is a merge patch of the status subresource, as KEDA writes it; events are
//! events.k8s.io/v1. Each is sent once. When the server says 429, nothing more is sent until the time it
//! named: the calls until then fail at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, Request, StatusCode};
use futures::future::BoxFuture;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::port::{EventNote, EventSeverity, PublishError, Publisher};
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;
use crate::kube_api::{About, DEFAULT_RETRY_AFTER, EventForm, FIELD_MANAGER, retry_after};
use crate::world::RemovableHpa;

/// What KEDA, and Neap after it, puts on ScaledObjects.
const FINALIZER: &str = "finalizer.keda.sh";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes through an API server.
pub struct KubePublisher {
    client: Client,
    clock: Arc<dyn Clock>,
    pod_name: String,
    blocked_until: Mutex<Option<Boottime>>,
}

impl std::fmt::Debug for KubePublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubePublisher")
            .field("pod_name", &self.pod_name)
            .finish_non_exhaustive()
    }
}

impl KubePublisher {
    /// Publishes as the pod `pod_name`.
    pub fn new(client: Client, clock: Arc<dyn Clock>, pod_name: &str) -> Self {
        Self {
            client,
            clock,
            pod_name: pod_name.to_owned(),
            blocked_until: Mutex::default(),
        }
    }

    fn blocked_until(&self) -> std::sync::MutexGuard<'_, Option<Boottime>> {
        self.blocked_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        kind: &str,
        body: Value,
    ) -> Result<Value, PublishError> {
        let now = self.clock.boottime();
        let blocked = *self.blocked_until();
        if let Some(until) = blocked.filter(|until| *until > now) {
            return Err(PublishError::Throttled {
                retry_after: until.since(now),
            });
        }
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(Body::from(body.to_string().into_bytes()))
            .map_err(|error| PublishError::Unreachable(error.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.send(request));
        let response = match answer.await {
            Ok(sent) => sent.map_err(|error| PublishError::Unreachable(error.to_string()))?,
            Err(_) => {
                return Err(PublishError::Unreachable(format!(
                    "no answer within {} s",
                    TIMEOUT.as_secs()
                )));
            }
        };
        let status = response.status();
        let retry_after = retry_after(response.headers()).unwrap_or(DEFAULT_RETRY_AFTER);
        let bytes = response.into_body().collect_bytes().await;
        let bytes = bytes.map_err(|error| PublishError::Unreachable(error.to_string()))?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let message = answer["message"]
            .as_str()
            .map_or_else(|| status.to_string(), str::to_owned);
        Err(match status {
            StatusCode::NOT_FOUND => PublishError::NotFound,
            StatusCode::TOO_MANY_REQUESTS => {
                *self.blocked_until() = Some(self.clock.boottime() + retry_after);
                PublishError::Throttled { retry_after }
            }
            status if status.is_server_error() => PublishError::Unreachable(message),
            _ => PublishError::Refused(message),
        })
    }

    async fn create_event(&self, note: &EventNote) -> Result<(), PublishError> {
        let form = EventForm {
            about: About {
                api_version: "keda.sh/v1alpha1",
                kind: "ScaledObject",
                namespace: &note.regarding.namespace,
                name: &note.regarding.name,
                uid: Some(&note.uid),
            },
            pod_name: &self.pod_name,
            at: self.clock.wall(),
            action: "Scaling",
            reason: &note.reason,
            note: &note.note,
            warning: note.severity == EventSeverity::Warning,
        };
        self.send(Method::POST, form.path(), "application/json", form.body())
            .await?;
        Ok(())
    }

    async fn take_finalizer(&self, key: &TargetKey) -> Result<(), PublishError> {
        let path = object_path(key);
        let object = match self
            .send(Method::GET, path.clone(), "application/json", Value::Null)
            .await
        {
            Ok(object) => object,
            Err(PublishError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let all = object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let others: Vec<&Value> = all
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        if others.len() == all.len() {
            return Ok(());
        }
        // With the version that was read: a finalizer that someone adds meanwhile is not lost.
        let patch = json!({"metadata": {
            "resourceVersion": object["metadata"]["resourceVersion"],
            "finalizers": others,
        }});
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        gone_is_well(self.send(Method::PATCH, path, MERGE_PATCH, patch).await)
    }

    async fn delete_hpa(&self, namespace: &str, hpa: &RemovableHpa) -> Result<(), PublishError> {
        let path = format!(
            "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{}",
            hpa.name
        );
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": hpa.uid, "resourceVersion": hpa.resource_version},
        });
        gone_is_well(
            self.send(Method::DELETE, path, "application/json", options)
                .await,
        )
    }
}

const MERGE_PATCH: &str = "application/merge-patch+json";

impl Publisher for KubePublisher {
    fn patch_status<'a>(
        &'a self,
        key: &'a TargetKey,
        status: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let path = format!("{}/status?fieldManager={FIELD_MANAGER}", object_path(key));
            self.send(Method::PATCH, path, MERGE_PATCH, json!({"status": status}))
                .await?;
            Ok(())
        })
    }

    fn event<'a>(&'a self, note: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.create_event(note))
    }

    fn remove_finalizer<'a>(
        &'a self,
        key: &'a TargetKey,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.take_finalizer(key))
    }

    fn remove_hpa<'a>(
        &'a self,
        namespace: &'a str,
        hpa: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.delete_hpa(namespace, hpa))
    }
}

fn object_path(key: &TargetKey) -> String {
    format!(
        "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects/{}",
        key.namespace, key.name
    )
}

fn gone_is_well(result: Result<Value, PublishError>) -> Result<(), PublishError> {
    match result {
        Ok(_) | Err(PublishError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "kube_test.rs"]
mod tests;
