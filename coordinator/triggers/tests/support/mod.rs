//! What the tests with real servers share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use neap_triggers::{
    BuiltTrigger, PollCall, PollError, PolledTrigger, Reading, Source, TriggerConfig,
    TriggerContext, build,
};

pub(crate) mod fake_http;
pub(crate) mod mariadb;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod tls;

/// A trigger of `trigger_type` from metadata and authentication parameters.
pub(crate) fn trigger(
    context: &TriggerContext,
    trigger_type: &str,
    metadata: &[(&str, &str)],
    auth: &[(&str, &str)],
) -> BuiltTrigger {
    let mut config = TriggerConfig::new(trigger_type, context.clone());
    config.metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    config.auth_params = auth.iter().copied().collect();
    build(&config).expect("valid")
}

pub(crate) fn polled(built: &BuiltTrigger) -> Arc<dyn PolledTrigger> {
    match &built.source {
        Source::Polled(polled) => Arc::clone(polled),
        other => panic!("{other:?}"),
    }
}

/// Asks once, with `timeout`, at a fixed instant.
pub(crate) async fn poll_within(
    built: &BuiltTrigger,
    timeout: Duration,
) -> Result<Reading, PollError> {
    let wall = "2026-01-02T03:04:05.678Z".parse().expect("instant");
    polled(built).poll(PollCall { wall, timeout }).await
}

pub(crate) async fn poll(built: &BuiltTrigger) -> Result<Reading, PollError> {
    poll_within(built, Duration::from_secs(20)).await
}

/// The first of `names` that is installed.
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from))
        .collect();
    names.iter().find_map(|name| {
        places
            .iter()
            .map(|place| place.join(name))
            .find(|file| file.is_file())
    })
}

/// The loopback address that the servers of this process listen on. Its id is part of it, so no two
/// processes that run at once share one; and outgoing connections come from 127.0.0.1, so none of them
/// takes a port of it.
pub(crate) fn host() -> Ipv4Addr {
    // A process id has 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

/// A port of [`host`] that was given to nobody else, below those that the system gives by itself.
pub(crate) fn free_port() -> u16 {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    PORT.fetch_add(1, Ordering::Relaxed)
}

/// A child process that ends with its owner.
pub(crate) struct Process(pub Child);

impl Process {
    pub(crate) fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
