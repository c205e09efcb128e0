//! The coordinator's read-only HTTP API: through the API server's proxy, or at an address.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use super::flags::CoordinatorFlags;
use super::{Cluster, ClusterFlags, from_api};
use crate::error::CliError;

/// The coordinator's HTTP port.
const PORT: u16 = 9702;
/// The label of the pod that leads.
const LEADER: &str = "neap.dev/role=leader";
/// The labels of every coordinator.
const COORDINATORS: &str = "app.kubernetes.io/name=neap-coordinator";
/// One question may take so long.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An answer with more bytes than this is not read: about 100,000 targets.
const MAX_ANSWER: usize = 256 << 20;

/// A coordinator that can be asked.
pub(crate) enum Coordinator {
    /// At an address.
    Direct {
        /// The address.
        base: reqwest::Url,
        /// The client.
        client: reqwest::Client,
    },
    /// A pod, through the API server.
    Pod {
        /// The client.
        client: Client,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Coordinator {
    /// Finds the coordinator that leads.
    ///
    /// # Errors
    /// The cluster cannot be asked, or has none.
    pub(crate) async fn find(
        flags: &CoordinatorFlags,
        cluster: &ClusterFlags,
    ) -> Result<Self, CliError> {
        if let Some(base) = flags.address(cluster)? {
            let client = reqwest::Client::builder()
                .timeout(TIMEOUT)
                .build()
                .map_err(|error| CliError::Unreachable(error.to_string()))?;
            return Ok(Self::Direct { base, client });
        }
        let cluster = Cluster::connect(cluster).await?;
        Self::of_cluster(cluster.client, flags.neap_namespace.as_deref()).await
    }

    /// Finds the coordinator that leads in a cluster, in `namespace` or wherever it is.
    pub(crate) async fn of_cluster(
        client: Client,
        namespace: Option<&str>,
    ) -> Result<Self, CliError> {
        let pods: Api<Pod> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        // A pod keeps its label when its process dies: those that do not run are no leaders.
        let found = pods
            .list(&ListParams::default().labels(LEADER))
            .await
            .map_err(from_api)?;
        let leader = found.items.iter().find(|pod| is_running(pod));
        if let Some(leader) = leader {
            return Ok(Self::Pod {
                client,
                namespace: leader.namespace().unwrap_or_default(),
                name: leader.name_any(),
            });
        }
        let known = pods
            .list(&ListParams::default().labels(COORDINATORS))
            .await
            .map_err(from_api)?;
        let place = namespace
            .map(|namespace| format!(" in namespace {namespace}"))
            .unwrap_or_default();
        Err(CliError::client(match known.items.len() {
            0 => format!(
                "no coordinator of Neap was found{place}; is it installed? (--neap-namespace, --server)"
            ),
            count => format!(
                "none of the {count} coordinators{place} leads at the moment; replicas stay as they are until one does"
            ),
        }))
    }

    /// Asks for `path`, which begins with a slash. `None` where there is no such thing.
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        let Some(body) = self.body(path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            CliError::client(format!(
                "the coordinator's answer to {path} cannot be read: {error}; is it of another version than this command ({})?",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    async fn body(&self, path: &str) -> Result<Option<Vec<u8>>, CliError> {
        match self {
            Self::Direct { base, client } => direct(base, client, path).await,
            Self::Pod {
                client,
                namespace,
                name,
            } => {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{PORT}/proxy{path}");
                let request = http::Request::get(path)
                    .body(Vec::new())
                    .map_err(|error| CliError::Unreachable(error.to_string()))?;
                match client.request_text(request).await {
                    Ok(text) => Ok(Some(text.into_bytes())),
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                    Err(error) => Err(from_api(error)),
                }
            }
        }
    }
}

async fn direct(
    base: &reqwest::Url,
    client: &reqwest::Client,
    path: &str,
) -> Result<Option<Vec<u8>>, CliError> {
    let unreachable = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CliError::Unreachable(format!("{base}: {cause}"))
    };
    let address = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let mut response = client.get(address).send().await.map_err(unreachable)?;
    let status = response.status();
    if status == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            return Err(CliError::Unreachable(format!(
                "{base}: its answer is larger than {} MiB",
                MAX_ANSWER >> 20
            )));
        }
    }
    if status.is_success() {
        return Ok(Some(body));
    }
    Err(CliError::Server {
        reason: status.to_string(),
        message: String::from_utf8_lossy(&body).trim().to_owned(),
    })
}

fn is_running(pod: &Pod) -> bool {
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !deleting && phase == Some("Running")
}
