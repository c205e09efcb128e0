//! A client for the cluster that the flags mean.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::flags::{ClusterFlags, CoordinatorFlags};
use crate::error::CliError;

/// One request may take so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The client.
    pub(crate) client: Client,
    /// The namespace of the flag or of the context.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig that kubectl would read; inside a pod without one, the pod's own
    /// ServiceAccount. Nothing is sent yet.
    ///
    /// # Errors
    /// The kubeconfig cannot be read or has no such context.
    pub(crate) async fn connect(flags: &ClusterFlags) -> Result<Self, CliError> {
        let options = KubeConfigOptions {
            context: flags.context.clone(),
            ..KubeConfigOptions::default()
        };
        let wrong = |error: &dyn std::error::Error| CliError::client(crate::error::chain(error));
        let config = match &flags.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => match Kubeconfig::read() {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => match Config::incluster() {
                    Ok(config) if flags.context.is_none() => Ok(config),
                    _ => return Err(wrong(&error)),
                },
            },
        };
        let mut config = config.map_err(|error| wrong(&error))?;
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        let namespace = flags
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(super::from_api)?;
        Ok(Self { client, namespace })
    }
}

/// The namespace of the flag or of the context; a coordinator at an address has no context.
///
/// # Errors
/// There is no such context, or no such `neap up`.
pub(crate) async fn namespace(
    cluster: &ClusterFlags,
    coordinator: &CoordinatorFlags,
) -> Result<String, CliError> {
    match (&cluster.namespace, coordinator.address(cluster)?) {
        (Some(namespace), _) => Ok(namespace.clone()),
        (None, Some(_)) => Ok("default".to_owned()),
        (None, None) => Ok(Cluster::connect(cluster).await?.namespace),
    }
}

/// Runs `future` to its end.
///
/// # Errors
/// Those of `future`, or the system gives no runtime.
pub(crate) fn block_on<T>(
    future: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::client(format!("no runtime for network requests: {error}")))?;
    runtime.block_on(future)
}
