//! Which cluster, and which namespace of it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::CliError;
use crate::local;

/// The flags that every command on a cluster takes, named as kubectl's.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// The namespace; that of the context if absent
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,

    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// How the coordinator is reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Coordinator")]
pub(crate) struct CoordinatorFlags {
    /// Ask the coordinator at this address, not the one in the cluster
    #[arg(long, value_name = "http://HOST:PORT", value_parser = address, env = "NEAP_SERVER")]
    pub(crate) server: Option<reqwest::Url>,

    /// Ask the neap up of this machine: the only one, or the one of this folder
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with_all = ["server", "neap_namespace"])]
    pub(crate) local: Option<String>,

    /// The namespace that Neap runs in; found by its leader's label if absent
    #[arg(long, value_name = "NAMESPACE", env = "NEAP_NAMESPACE")]
    pub(crate) neap_namespace: Option<String>,
}

impl CoordinatorFlags {
    /// The address of the coordinator, where it is not to be looked for in a cluster: `--server`,
    /// `--local`, or a `neap up` where no cluster is configured.
    ///
    /// # Errors
    /// There is no such `neap up`, or more than one.
    pub(crate) fn address(&self, cluster: &ClusterFlags) -> Result<Option<reqwest::Url>, CliError> {
        let running = match (&self.server, self.local.as_deref()) {
            (Some(server), _) => return Ok(Some(server.clone())),
            (None, Some("")) => local::find(None)?,
            (None, Some(folder)) => local::find(Some(Path::new(folder)))?,
            (None, None) if cluster.is_configured() => return Ok(None),
            (None, None) => match local::find(None) {
                Ok(running) => running,
                Err(_) => return Ok(None),
            },
        };
        address(&running.http).map(Some).map_err(CliError::client)
    }
}

impl ClusterFlags {
    /// Whether the flags, the environment or the user's files speak of a cluster.
    fn is_configured(&self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.context.is_some()
            || self.kubeconfig.is_some()
            || set("KUBECONFIG")
            || set("KUBERNETES_SERVICE_HOST")
            || std::env::home_dir().is_some_and(|home| home.join(".kube/config").exists())
    }
}

fn address(text: &str) -> Result<reqwest::Url, String> {
    let wrong = || "it must be an address like http://localhost:9702".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(wrong())
    }
}
