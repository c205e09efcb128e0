//! The header Retry-After of an answer.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::RETRY_AFTER;

/// For a server that asks to wait without saying how long.
pub(crate) const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A longer wait is not believed: replicas would stand still for hours on a typing error.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How long the answer asks to wait; `None` where it does not say, or says it as a date, which the
/// API server never does.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
