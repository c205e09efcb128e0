//! The coordinator's process: flags, log lines, the runtime, signals.

use std::io;
use std::sync::Arc;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::cluster::{self, ClusterError};
use crate::config::{Config, LogFormat};

/// Why the process ends although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Something else in this process chose for it.
    #[error("a TLS provider was installed before main")]
    TlsProvider,
    /// No threads, or no signals.
    #[error("the runtime cannot start")]
    Runtime(#[from] io::Error),
    /// The coordinator itself.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// All of `main`: reads the flags, and runs in the cluster by `clock` until the process is asked to stop.
///
/// # Errors
/// [`ProcessError`].
pub fn run(clock: Arc<dyn Clock>) -> Result<(), ProcessError> {
    let config = Config::parse();
    log_to_stderr(config.log_format);
    // Two TLS libraries' defaults meet in this process: the choice is made once, before either asks.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Err(ProcessError::TlsProvider);
    }
    // Each agent's stream is a descriptor, and the soft limit is often 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    run_until_asked(config, clock)
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=warn,kube_runtime=error"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

fn run_until_asked(config: Config, clock: Arc<dyn Clock>) -> Result<(), ProcessError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let asked = shutdown.clone();
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let signals = tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to stop");
            asked.cancel();
        });
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            pod = config.pod_name,
            "the coordinator starts"
        );
        let result = cluster::run(config, clock, shutdown).await;
        signals.abort();
        Ok(result?)
    })
}
