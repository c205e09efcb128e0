//! Which cluster, and which namespace of it.

use std::path::PathBuf;

use clap::Args;

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

    /// The namespace that Neap runs in; found by its leader's label if absent
    #[arg(long, value_name = "NAMESPACE", env = "NEAP_NAMESPACE")]
    pub(crate) neap_namespace: Option<String>,
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
