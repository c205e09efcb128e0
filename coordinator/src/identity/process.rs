//! [`Identity`]: certificates and tokens together, for the process that owns them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::PeerTls;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::authority_store::AuthorityStore;
use super::caller::{Caller, CallerError};
use super::credentials::Credentials;
use super::files::CertificateFiles;
use super::jwks::SigningKeys;
use super::local::{LocalAgent, LocalCredentials};
use super::renewal::{Expiry, Renewal, Renewed, Source};
use super::review::{ReviewOutcome, Reviewer};
use super::token::{self, TokenError, TokenPolicy};
use super::{authority::AuthorityError, authority_store::StoreError};
use crate::clock::Clock;

/// Names that go into certificates, and who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Neap's namespace.
    pub namespace: String,
    /// Name of this coordinator's pod.
    pub pod_name: String,
    /// Name of the Service that agents connect to.
    pub service: String,
    /// Name of the headless Service of the coordinators.
    pub peers_service: String,
    /// The cluster's DNS domain, `cluster.local`.
    pub cluster_domain: String,
    /// Name of the Secret and of the ConfigMap of the authority, `neap-ca`.
    pub authority_name: String,
    /// Audience of agents' tokens, `neap`.
    pub audience: String,
    /// Names of the ServiceAccounts in Neap's namespace that agents run as.
    pub agent_service_accounts: Vec<String>,
    /// Directory of `tls.crt`, `tls.key` and `ca.crt` that someone else makes and renews, with names
    /// and usages of all coordinators; `None`: the coordinators make their own.
    pub tls_dir: Option<PathBuf>,
}

impl IdentityConfig {
    /// The usual names for one namespace and pod.
    pub fn new(namespace: &str, pod_name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            pod_name: pod_name.to_owned(),
            service: "neap-coordinator".to_owned(),
            peers_service: "neap-coordinator-peers".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            authority_name: "neap-ca".to_owned(),
            audience: "neap".to_owned(),
            agent_service_accounts: vec!["neap-agent".to_owned()],
            tls_dir: None,
        }
    }

    /// The DNS names that agents and other coordinators ask this one's certificate for.
    pub(super) fn verified_names(&self) -> [String; 2] {
        let (namespace, peers) = (&self.namespace, &self.peers_service);
        [
            format!("{}.{namespace}.svc", self.service),
            format!("{}.{peers}.{namespace}.svc", self.pod_name),
        ]
    }

    /// The DNS names under which this coordinator is reached.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let hosts = [
            self.service.clone(),
            format!("{}.{}", self.pod_name, self.peers_service),
        ];
        let mut names = Vec::new();
        for host in hosts {
            names.push(format!("{host}.{}.svc", self.namespace));
            names.push(format!(
                "{host}.{}.svc.{}",
                self.namespace, self.cluster_domain
            ));
        }
        names.push("localhost".to_owned());
        names
    }

    pub(super) fn addresses() -> [IpAddr; 2] {
        [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]
    }

    fn token_policy(&self) -> TokenPolicy {
        TokenPolicy {
            audience: self.audience.clone(),
            service_accounts: self
                .agent_service_accounts
                .iter()
                .map(|name| format!("{}/{name}", self.namespace))
                .collect(),
        }
    }
}

/// Why identity could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The authority could not be read or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] AuthorityError),
    /// The TLS library refused a certificate or setting.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// This coordinator's certificates, kept fresh, and the check of agents' tokens.
pub struct Identity {
    credentials: Arc<Credentials>,
    callers: Callers,
    clock: Arc<dyn Clock>,
}

/// Who may call, and how it is found out.
enum Callers {
    /// Pods of a cluster.
    Cluster(Box<ClusterCallers>),
    /// The agent of this very process.
    Local(LocalAgent),
}

/// What knowing the pods of a cluster takes.
struct ClusterCallers {
    renewal: Renewal,
    keys: SigningKeys,
    reviewer: Reviewer,
    policy: TokenPolicy,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads or makes the authority and signs this coordinator's certificates, or takes them from
    /// files, and publishes the authority for agents. Tries until the API server answers and there are
    /// certificates that can be used; only `shutdown` ends the wait.
    ///
    /// # Errors
    /// [`IdentityError`] for what waiting does not mend: a Secret that holds something else.
    pub async fn start(
        client: kube::Client,
        config: IdentityConfig,
        clock: Arc<dyn Clock>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Arc<Self>>, IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let credentials = Arc::new(Credentials::new(provider.clone()));
        let source = match &config.tls_dir {
            Some(dir) => Source::Files(CertificateFiles::new(dir, &config, provider)),
            None => Source::Own(Box::new(AuthorityStore::new(
                client.clone(),
                &config.namespace,
                &config.authority_name,
            ))),
        };
        let keys = SigningKeys::new(client.clone(), clock.clone());
        let reviewer = Reviewer::new(client.clone(), &config.audience);
        let policy = config.token_policy();
        let renewal = Renewal::new(client, source, config, credentials.clone());
        let mut wait = Duration::from_millis(200);
        loop {
            match renewal.renew(clock.wall()).await {
                Ok(Renewed::InForce) => {
                    return Ok(Some(Arc::new(Self {
                        credentials,
                        callers: Callers::Cluster(Box::new(ClusterCallers {
                            renewal,
                            keys,
                            reviewer,
                            policy,
                        })),
                        clock,
                    })));
                }
                // The log has the reason.
                Ok(Renewed::Waits) => {}
                Err(error @ IdentityError::Store(StoreError::Api { .. })) => {
                    tracing::warn!(%error, retry_in = ?wait, "no certificate authority yet");
                }
                Err(error) => return Err(error),
            }
            if shutdown
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return Ok(None);
            }
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    /// Identity without a cluster: certificates of an authority that lives as long as this process, and
    /// one agent, on `node`, which proves itself by the token that comes along.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn local(
        node: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, LocalCredentials), IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let credentials = Arc::new(Credentials::new(provider));
        let (agent, shown) = LocalAgent::make(node, &credentials, clock.wall())?;
        let identity = Self {
            credentials,
            callers: Callers::Local(agent),
            clock,
        };
        Ok((Arc::new(identity), shown))
    }

    /// Renews certificates when they are due, until `shutdown`.
    pub async fn keep(&self, shutdown: CancellationToken) {
        match &self.callers {
            Callers::Cluster(cluster) => cluster.renewal.run(self.clock.as_ref(), shutdown).await,
            Callers::Local(_) => shutdown.cancelled().await,
        }
    }

    #[cfg(test)]
    fn renewal(&self) -> &Renewal {
        match &self.callers {
            Callers::Cluster(cluster) => &cluster.renewal,
            Callers::Local(_) => panic!("a local identity renews nothing"),
        }
    }

    /// When the certificates in use end; `None` before any was signed, and for those that live as long as the process.
    pub fn expiry(&self) -> Option<Expiry> {
        match &self.callers {
            Callers::Cluster(cluster) => cluster.renewal.expiry(),
            Callers::Local(_) => None,
        }
    }

    /// TLS for the port that agents use.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3.
    pub fn node_server_tls(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        Ok(self.credentials.node_server()?)
    }

    /// Certificates of the peer network, now and after each renewal.
    pub fn peer_tls(&self) -> watch::Receiver<Arc<PeerTls>> {
        self.credentials.peer()
    }

    /// Checks an agent's token on the spot, by the cluster's signing keys.
    ///
    /// # Errors
    /// [`CallerError`]: the reason, never the token.
    pub async fn verify(&self, token: &str) -> Result<Caller, CallerError> {
        let (keys, policy) = match &self.callers {
            Callers::Cluster(cluster) => (&cluster.keys, &cluster.policy),
            Callers::Local(agent) => return agent.verify(token),
        };
        let header = token::header(token)?;
        let id = header.kid.as_deref().ok_or(TokenError::UnknownKey)?;
        let (issuer, key) = keys.find(id).await?;
        let key = key.ok_or(TokenError::UnknownKey)?;
        Ok(token::verify(
            token,
            &header,
            &key,
            &issuer,
            policy,
            self.clock.wall(),
        )?)
    }

    /// Asks the API server about a token that was verified before; waits for its turn.
    pub async fn review(&self, token: &str, caller: &Caller) -> ReviewOutcome {
        match &self.callers {
            Callers::Cluster(cluster) => {
                cluster
                    .reviewer
                    .review(token, &caller.service_account)
                    .await
            }
            // Made by this process for itself: nobody else could withdraw it.
            Callers::Local(_) => ReviewOutcome::Valid,
        }
    }
}

#[cfg(test)]
#[path = "files_test.rs"]
mod files_tests;
#[cfg(test)]
#[path = "process_test.rs"]
mod tests;
