//! The coordinator's read-only HTTP API: through the API server's proxy, or at an address.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::flags::CoordinatorFlags;
use super::{Cluster, ClusterFlags, from_api};
use crate::error::{CliError, innermost};

/// The coordinator's HTTP port.
const PORT: u16 = 9702;
/// The label of the pod that leads.
const LEADER: &str = "neap.dev/role=leader";
/// The labels of every coordinator.
const COORDINATORS: &str = "app.kubernetes.io/name=neap-coordinator";
/// One question may take so long.
const TIMEOUT: Duration = Duration::from_secs(15);
/// And so long where another replica can be asked instead.
const TRY: Duration = Duration::from_secs(5);
/// An answer with more bytes than this is not read: about 100,000 targets.
const MAX_ANSWER: usize = 256 << 20;

/// Which replica is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The one that leads: it alone knows what agents see and may decide.
    Leader,
    /// The leader, or where none answers any other: it says what the leader told it, and how old that is.
    Any,
}

/// A coordinator that can be asked.
pub(crate) enum Coordinator {
    /// At an address.
    Direct {
        /// The address.
        base: reqwest::Url,
        /// The client.
        client: reqwest::Client,
    },
    /// Pods, through the API server: the first that answers.
    Pods {
        /// The client.
        client: Client,
        /// Namespace and name of each. Never empty.
        pods: Vec<(String, String)>,
    },
}

impl Coordinator {
    /// Finds the coordinator to ask.
    ///
    /// # Errors
    /// The cluster cannot be asked, or has none.
    pub(crate) async fn find(
        whom: Whom,
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
        Self::of_cluster(whom, cluster.client, flags.neap_namespace.as_deref()).await
    }

    /// Finds the coordinator to ask in a cluster, in `namespace` or wherever it is.
    async fn of_cluster(
        whom: Whom,
        client: Client,
        namespace: Option<&str>,
    ) -> Result<Self, CliError> {
        let pods: Api<Pod> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let list = async |labels: &str| {
            let found = pods.list(&ListParams::default().labels(labels)).await;
            found.map(|found| found.items).map_err(from_api)
        };
        let place = |pod: &Pod| (pod.namespace().unwrap_or_default(), pod.name_any());
        // A pod keeps its label when its process dies: those that do not run are no leaders.
        let leaders = list(LEADER).await?;
        let mut found: Vec<(String, String)> = leaders
            .iter()
            .filter(|pod| is_running(pod))
            .map(place)
            .collect();
        found.truncate(1);
        if whom == Whom::Leader && !found.is_empty() {
            return Ok(Self::Pods {
                client,
                pods: found,
            });
        }
        let known = list(COORDINATORS).await?;
        if whom == Whom::Any {
            for other in known.iter().filter(|pod| is_running(pod)).map(place) {
                if !found.contains(&other) {
                    found.push(other);
                }
            }
        }
        if !found.is_empty() {
            return Ok(Self::Pods {
                client,
                pods: found,
            });
        }
        let place = namespace
            .map(|namespace| format!(" in namespace {namespace}"))
            .unwrap_or_default();
        Err(CliError::client(match (known.len(), whom) {
            (0, _) => format!(
                "no coordinator of Neap was found{place}; is it installed? (--neap-namespace, --server)"
            ),
            (count, Whom::Leader) => format!(
                "none of the {count} coordinators{place} leads at the moment; replicas stay as they are until one does"
            ),
            (count, Whom::Any) => format!(
                "none of the {count} coordinators{place} runs at the moment; replicas stay as they are until one does"
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
        let (client, pods) = match self {
            Self::Direct { base, client } => return direct(base, client, path).await,
            Self::Pods { client, pods } => (client, pods),
        };
        let mut failed = None;
        for (at, (namespace, name)) in pods.iter().enumerate() {
            let asked = proxied(client, namespace, name, path);
            // A machine that died does not answer at all: with others to ask it is not waited for long.
            let patience = if at + 1 < pods.len() { TRY } else { TIMEOUT };
            let answer = tokio::time::timeout(patience, asked).await;
            let answer = answer.unwrap_or_else(|_| {
                let waited = patience.as_secs();
                let fault = format!("pod {namespace}/{name} did not answer within {waited} s");
                Err(CliError::Unreachable(fault))
            });
            match answer {
                Ok(body) => return Ok(body),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| CliError::Unreachable("there is nobody to ask".to_owned())))
    }
}

/// Asks a pod through the API server.
async fn proxied(
    client: &Client,
    namespace: &str,
    name: &str,
    path: &str,
) -> Result<Option<Vec<u8>>, CliError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{PORT}/proxy{path}");
    let request = http::Request::get(path)
        .body(Body::empty())
        .map_err(|error| CliError::Unreachable(error.to_string()))?;
    // Not as the API server's own objects: the coordinator refuses in words of its own.
    let response = client.send(request).await.map_err(from_api)?;
    let status = response.status();
    let body = response.into_body().collect_bytes().await;
    let body = body.map_err(|error| CliError::Unreachable(crate::error::chain(&error)))?;
    understood(status, body.into())
}

async fn direct(
    base: &reqwest::Url,
    client: &reqwest::Client,
    path: &str,
) -> Result<Option<Vec<u8>>, CliError> {
    let unreachable =
        |error: reqwest::Error| CliError::Unreachable(format!("{base}: {}", innermost(&error)));
    let address = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let mut response = client.get(address).send().await.map_err(unreachable)?;
    let status = response.status();
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
    understood(status, body)
}

/// A refusal: the coordinator's has `error`, the API server's is a `Status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Option<String>,
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

/// The body of an answer, `None` where the coordinator knows no such thing, or the refusal.
fn understood(status: http::StatusCode, body: Vec<u8>) -> Result<Option<Vec<u8>>, CliError> {
    if status.is_success() {
        return Ok(Some(body));
    }
    let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
    let of_the_api_server = refusal.kind.as_deref() == Some("Status");
    if status == http::StatusCode::NOT_FOUND && !of_the_api_server {
        return Ok(None);
    }
    let canonical = status.canonical_reason().unwrap_or_default();
    let said = refusal.reason.filter(|reason| !reason.is_empty());
    let message = refusal.error.or(refusal.message);
    Err(CliError::Server {
        reason: said.unwrap_or_else(|| canonical.replace(' ', "")),
        message: message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned()),
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

#[cfg(test)]
#[path = "coordinator_test.rs"]
mod tests;
