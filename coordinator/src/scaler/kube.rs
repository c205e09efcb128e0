//! The scale subresource of an API server.
//!
//! Each write is one PATCH: it carries the resourceVersion it was decided on, the field manager
//! `neap`, and a User-Agent that names the pod and its leader id, which audit logs keep. It is sent
//! once, and the client repeats nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{Request, Response, StatusCode};
use futures::future::BoxFuture;
use k8s_openapi::api::autoscaling::v1::Scale as KubeScale;
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::{Scale, ScaleError, Scaler, Written};
use crate::clock::{Boottime, Clock};
use crate::keys::{LeaderId, TargetRef};
use crate::kube_api::{DEFAULT_RETRY_AFTER, FIELD_MANAGER, retry_after, user_agent};
use crate::source::kube::Discovery;
use crate::world::{ScaleResource, TargetProblem};

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Scales through an API server.
pub struct KubeScaler {
    client: Client,
    discovery: Arc<Discovery>,
    clock: Arc<dyn Clock>,
    pod_name: String,
}

impl std::fmt::Debug for KubeScaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeScaler")
            .field("pod_name", &self.pod_name)
            .finish_non_exhaustive()
    }
}

impl KubeScaler {
    /// Scales as the pod `pod_name`, looking kinds up in `discovery`. `client` must repeat nothing by
    /// itself.
    pub fn new(
        client: Client,
        discovery: Arc<Discovery>,
        clock: Arc<dyn Clock>,
        pod_name: &str,
    ) -> Self {
        Self {
            client,
            discovery,
            clock,
            pod_name: pod_name.to_owned(),
        }
    }

    async fn resolve(&self, target: &TargetRef) -> Result<Arc<ScaleResource>, ScaleError> {
        self.discovery
            .resolve(target)
            .await
            .map_err(|problem| match problem {
                TargetProblem::Unreadable { reason, .. } => ScaleError::Unreachable(reason),
                _ => ScaleError::NoScaleSubresource {
                    kind: format!("{}/{}.{}", target.group, target.version, target.kind),
                },
            })
    }

    async fn patch(
        &self,
        target: &TargetRef,
        replicas: i32,
        resource_version: &str,
        leader: LeaderId,
    ) -> Result<Written, ScaleError> {
        let resource = self.resolve(target).await?;
        let body = json!({
            "metadata": {"resourceVersion": resource_version},
            "spec": {"replicas": replicas},
        });
        let request = Request::patch(format!(
            "{}?fieldManager={FIELD_MANAGER}",
            scale_path(&resource, target)
        ))
        .header("content-type", "application/merge-patch+json")
        .header(USER_AGENT, user_agent(&self.pod_name, Some(leader)))
        .body(Body::from(body.to_string().into_bytes()))
        .map_err(|error| ScaleError::Unreachable(error.to_string()))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let scale = scale_of(response).await?;
        Ok(Written {
            replicas: scale.replicas,
            resource_version: scale.resource_version,
        })
    }

    async fn get(&self, target: &TargetRef) -> Result<Scale, ScaleError> {
        let resource = self.resolve(target).await?;
        let request = Request::get(scale_path(&resource, target))
            .body(Body::empty())
            .map_err(|error| ScaleError::Unreachable(error.to_string()))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| unreachable(&error))?;
        match scale_of(response).await {
            // A read cannot conflict; the server means something else by it.
            Err(ScaleError::Conflict) => {
                Err(ScaleError::Unreachable("409 in answer to a GET".to_owned()))
            }
            other => other,
        }
    }
}

impl Scaler for KubeScaler {
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async move {
            tokio::time::timeout(READ_TIMEOUT, self.get(target))
                .await
                .unwrap_or(Err(ScaleError::Timeout))
        })
    }

    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        resource_version: &'a str,
        leader: LeaderId,
        deadline: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        Box::pin(async move {
            let left = deadline.since(self.clock.boottime());
            if left.is_zero() {
                // Nothing was sent: what was decided under a lease that is over is not written.
                return Err(ScaleError::Timeout);
            }
            let patch = self.patch(target, replicas, resource_version, leader);
            tokio::time::timeout(left, patch)
                .await
                .unwrap_or(Err(ScaleError::Timeout))
        })
    }
}

fn scale_path(resource: &ScaleResource, target: &TargetRef) -> String {
    let prefix = if resource.group.is_empty() {
        "/api"
    } else {
        "/apis"
    };
    let (version, plural) = (resource.api_version(), &resource.plural);
    format!(
        "{prefix}/{version}/namespaces/{}/{plural}/{}/scale",
        target.namespace, target.name
    )
}

async fn scale_of(response: Response<Body>) -> Result<Scale, ScaleError> {
    let (parts, body) = response.into_parts();
    let bytes = body
        .collect_bytes()
        .await
        .map_err(|error| ScaleError::Unreachable(error.to_string()))?;
    if parts.status.is_success() {
        let scale: KubeScale = serde_json::from_slice(&bytes)
            .map_err(|error| ScaleError::Unreachable(format!("the answer is no Scale: {error}")))?;
        return Ok(read_scale(scale));
    }
    let wait = retry_after(&parts.headers);
    Err(error_of(parts.status, wait, &message_of(&bytes)))
}

fn read_scale(scale: KubeScale) -> Scale {
    let status = scale.status.unwrap_or_default();
    Scale {
        // The server leaves a zero out.
        replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
        status_replicas: status.replicas,
        selector: status.selector.filter(|selector| !selector.is_empty()),
        resource_version: scale.metadata.resource_version.unwrap_or_default(),
    }
}

/// The `message` of a Status, or the beginning of whatever came instead.
fn message_of(bytes: &[u8]) -> String {
    let status: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    match status
        .as_ref()
        .and_then(|status| status.get("message"))
        .and_then(|message| message.as_str())
    {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(bytes).chars().take(200).collect(),
    }
}

fn error_of(status: StatusCode, retry_after: Option<Duration>, message: &str) -> ScaleError {
    match status {
        StatusCode::CONFLICT => ScaleError::Conflict,
        StatusCode::NOT_FOUND => ScaleError::NotFound,
        StatusCode::TOO_MANY_REQUESTS => ScaleError::Throttled {
            retry_after: retry_after.unwrap_or(DEFAULT_RETRY_AFTER),
        },
        StatusCode::GATEWAY_TIMEOUT => ScaleError::Timeout,
        status if status.is_server_error() => match retry_after {
            Some(retry_after) => ScaleError::Throttled { retry_after },
            None => ScaleError::Unreachable(format!("{status}: {message}")),
        },
        _ => ScaleError::Forbidden(message.to_owned()),
    }
}

fn unreachable(error: &kube::Error) -> ScaleError {
    // The outer error of kube says "service error" only.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    ScaleError::Unreachable(text)
}

#[cfg(test)]
#[path = "kube_test.rs"]
mod tests;
