//! /metrics, /healthz and /readyz.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::clock::{BootClock, BootTime, SystemBootClock};
use crate::metrics::Metrics;
use crate::sampler::Mailbox;

/// The sampler steps each second; one that has not for this long hangs.
const HANGS: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    mailbox: Arc<Mailbox>,
}

/// The routes.
pub fn router(metrics: Arc<Metrics>, mailbox: Arc<Mailbox>) -> Router {
    Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, mailbox })
}

async fn serve_metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The sampler runs.
async fn healthz(State(shared): State<Shared>) -> (StatusCode, String) {
    let last = BootTime::from_nanos(shared.mailbox.last_step_nanos());
    health(last, SystemBootClock.now())
}

fn health(last: BootTime, now: BootTime) -> (StatusCode, String) {
    let pause = now.since(last);
    if last == BootTime::default() || pause > HANGS {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the sampler's last step was {pause:?} ago\n"),
        );
    }
    (StatusCode::OK, "ok\n".into())
}

/// The leader takes samples.
async fn readyz(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.metrics.connected.get() == 1 {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no stream to the leader\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_that_hangs_is_not_healthy() {
        let now = BootTime::from_nanos(100_000_000_000);
        assert_eq!(
            health(now, now.plus(Duration::from_secs(14))).0,
            StatusCode::OK
        );
        assert_eq!(
            health(now, now.plus(Duration::from_secs(16))).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(
            health(BootTime::default(), now).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
