//! Waiting for conditions with deadlines.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};

/// Asks `probe` every 200 ms until it gives a value, for at most `limit`.
///
/// # Errors
/// When the time is over: the error names `what` and the last thing the probe said.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Probe<T>>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let last = match probe().await {
            Ok(Probe::Is(value)) => return Ok(value),
            Ok(Probe::NotYet(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if tokio::time::Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}; last seen: {last}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What one look at a condition found.
#[derive(Debug)]
pub enum Probe<T> {
    /// The condition holds, with this value.
    Is(T),
    /// It does not hold yet; what was seen instead.
    NotYet(String),
}

/// Shorthand for a condition over a value: `Is` when `ok`, else `NotYet` with the value's text.
pub fn within<T: std::fmt::Debug>(value: T, ok: impl FnOnce(&T) -> bool) -> Result<Probe<T>> {
    Ok(if ok(&value) {
        Probe::Is(value)
    } else {
        Probe::NotYet(format!("{value:?}"))
    })
}
