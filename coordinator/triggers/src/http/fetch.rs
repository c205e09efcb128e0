//! One HTTP request with a bounded answer.

use std::time::Duration;

use crate::error::PollError;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// Longest time until the whole answer is there.
    pub(crate) timeout: Duration,
    /// Largest body, in bytes.
    pub(crate) body: usize,
}

/// Sends `request` and gives the body of a 2xx answer.
pub(crate) async fn fetch(
    source_name: &'static str,
    request: reqwest::RequestBuilder,
    limits: FetchLimits,
) -> Result<Vec<u8>, PollError> {
    tokio::time::timeout(limits.timeout, exchange(source_name, request, limits.body))
        .await
        .unwrap_or(Err(PollError::Timeout {
            source_name,
            waited: limits.timeout,
        }))
}

async fn exchange(
    source_name: &'static str,
    request: reqwest::RequestBuilder,
    limit: usize,
) -> Result<Vec<u8>, PollError> {
    let unreachable = |error: reqwest::Error| PollError::Unreachable {
        source_name,
        reason: causes(&error.without_url()),
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let too_long = || PollError::Answer {
        source_name,
        reason: format!("it is longer than {limit} bytes"),
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit as u64)
        && status.is_success()
    {
        return Err(too_long());
    }
    let limit = if status.is_success() {
        limit
    } else {
        limit.min(ERROR_BODY)
    };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > limit {
            if status.is_success() {
                return Err(too_long());
            }
            break;
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(PollError::Refused {
            source_name,
            reason: format!("status {status}{}", excerpt(&body)),
        });
    }
    Ok(body)
}

/// How much of a refusal's body is read, and how much of that is shown.
const ERROR_BODY: usize = 4096;
const EXCERPT: usize = 200;

fn excerpt(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .take(EXCERPT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// An error with its causes: reqwest's own text does not say why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
