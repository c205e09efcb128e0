//! The two clients of the API server: one that reads and watches, one that writes scales.

use std::time::Duration;

use kube::{Client, Config};

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's ServiceAccount was found, or one of them is broken.
    #[error("no access to a Kubernetes API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The TLS or HTTP stack refused the configuration.
    #[error("cannot connect to the API server: {0}")]
    Client(#[from] kube::Error),
}

/// Connections to one API server. They are separate, so that a scale never waits behind a list.
#[derive(Clone)]
pub struct Clients {
    /// For watches, reads, status and events.
    pub read: Client,
    /// For scales: it sends each request once. kube's default client repeats 429, 503 and 504 for
    /// minutes, and a write must not outlive the lease it was decided under.
    pub write: Client,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

/// A connection attempt that takes longer is given up; a dead address must not hold up a failover.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Clients {
    /// From the usual places: `KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn infer() -> Result<Self, ClientError> {
        Self::from_config(Config::infer().await?)
    }

    /// From a configuration.
    ///
    /// # Errors
    /// [`ClientError::Client`].
    pub fn from_config(mut config: Config) -> Result<Self, ClientError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        // One setting for both: watches, status and events have their own backoff, and a repeat
        // hidden below them would only multiply it.
        let write = Client::try_from(config.clone())?;
        Ok(Self {
            read: Client::try_from(config)?,
            write,
        })
    }
}
