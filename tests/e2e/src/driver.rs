//! An open-loop load: connections at a fixed rate, whatever the server does with them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A load to drive.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Where to connect.
    pub to: SocketAddr,
    /// Connections per second.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
}

/// What a load saw.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// When the first connection was made.
    pub began: Timestamp,
    /// Requests answered.
    pub answered: u64,
    /// Requests refused, reset or not answered within 60 s.
    pub failed: u64,
    /// What became of the first of those.
    pub first_failure: Option<String>,
    /// Requests sent and not yet answered, sampled every 50 ms.
    pub outstanding: Vec<(Timestamp, u64)>,
}

impl LoadReport {
    /// The first instant at which the mean of the outstanding requests over `window`, less the
    /// `in_service` that a server holds, exceeds `limit`.
    #[must_use]
    pub fn crossing(&self, window: Duration, in_service: f64, limit: f64) -> Option<Timestamp> {
        self.outstanding
            .iter()
            .enumerate()
            .find_map(|(end, (now, _))| {
                let from = *now - window;
                // Before the load began nothing was outstanding: those samples count as zero.
                let samples = window.as_millis() as f64 / 50.0;
                let sum: f64 = self.outstanding[..=end]
                    .iter()
                    .filter(|(at, _)| *at > from)
                    .map(|(_, n)| (*n as f64 - in_service).max(0.0))
                    .sum();
                (sum / samples > limit).then_some(*now)
            })
    }
}

/// Drives `load` to its end and waits for the answers still due.
pub async fn drive(load: Load) -> LoadReport {
    let open = Arc::new(AtomicU64::new(0));
    let answered = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let first_failure = Arc::new(OnceLock::new());
    let mut outstanding = Vec::new();
    let mut requests = JoinSet::new();
    let began = Timestamp::now();
    let start = tokio::time::Instant::now();
    let mut sample = tokio::time::interval(Duration::from_millis(50));
    let mut next = start;
    let step = Duration::from_secs_f64(1.0 / load.rate);
    while start.elapsed() < load.time {
        tokio::select! {
            _ = sample.tick() => outstanding.push((Timestamp::now(), open.load(Ordering::Relaxed))),
            () = tokio::time::sleep_until(next) => {
                next += step;
                open.fetch_add(1, Ordering::Relaxed);
                let (open, answered, failed) = (open.clone(), answered.clone(), failed.clone());
                let first_failure = first_failure.clone();
                requests.spawn(async move {
                    let failure = match tokio::time::timeout(Duration::from_secs(60), ask(load.to)).await {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error.to_string()),
                        Err(_) => Some("not answered within 60 s".to_owned()),
                    };
                    match failure {
                        None => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            let after = start.elapsed().as_secs_f64();
                            // Set once: the first counts.
                            let _ = first_failure.set(format!("{failure} ({after:.1} s after the load began)"));
                        }
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = requests.join_next() => {}
        }
    }
    while requests.join_next().await.is_some() {}
    LoadReport {
        began,
        answered: answered.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
        first_failure: first_failure.get().cloned(),
        outstanding,
    }
}

async fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: &[u64]) -> LoadReport {
        let began = Timestamp::UNIX_EPOCH;
        let outstanding = counts
            .iter()
            .enumerate()
            .map(|(i, n)| (began + Duration::from_millis(50 * (i as u64 + 1)), *n))
            .collect();
        LoadReport {
            began,
            answered: 0,
            failed: 0,
            first_failure: None,
            outstanding,
        }
    }

    #[test]
    fn crossing_is_where_the_windowed_mean_exceeds_the_limit() {
        // Two samples make a 100 ms window; one request is in service.
        let seen = report(&[1, 3, 3, 5]);
        let at = seen
            .crossing(Duration::from_millis(100), 1.0, 1.5)
            .map(|t| t.as_millisecond());
        assert_eq!(at, Some(150));
        assert_eq!(seen.crossing(Duration::from_millis(100), 1.0, 3.5), None);
    }
}
