//! The coordinator in a Kubernetes cluster: the ports and servers that only exist there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Bootstrap, PeerConfig, RecoverError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::decide::{DecideSettings, FORMAT};
use crate::fitness::Fitness;
use crate::identity::{Identity, IdentityConfig, IdentityError};
use crate::ingest::{self, Addresses};
use crate::kube_api::{ClientError, infer_client};
use crate::leader::LeaderSign;
use crate::metrics::CertificateCollector;
use crate::poll::PollLimits;
use crate::publish::kube::KubePublisher;
use crate::scale_down::ScaleDown;
use crate::scaler::kube::KubeScaler;
use crate::service::{Ports, Service, ServiceConfig, ServiceError};
use crate::signals::SignalLimits;
use crate::source::kube::{Discovery, KubeReader, KubeSource, Scope};
use crate::world::World;

/// A new cluster is formed without the answer of a minority after this time.
const FORM_AFTER: Duration = Duration::from_secs(60);

/// Why the coordinator did not start in a cluster, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no way to the API server.
    #[error("no access to the API server")]
    Client(#[from] ClientError),
    /// Certificates cannot be made or read.
    #[error("no certificates")]
    Identity(#[from] IdentityError),
    /// A cluster that was to be recovered was not.
    #[error("the cluster was not recovered")]
    Recover(#[from] RecoverError),
    /// A port cannot be used.
    #[error("cannot listen on {address} for agents")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The coordinator itself.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Runs the coordinator by `clock` until `shutdown` is cancelled or it cannot go on.
///
/// # Errors
/// [`ClusterError`]: the process then ends, and Kubernetes starts it again.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<(), ClusterError> {
    let client = infer_client(&config.pod_name).await?;
    let names = IdentityConfig {
        service: config.service.clone(),
        peers_service: config.peers_service.clone(),
        agent_service_accounts: config.agent_accounts(),
        ..IdentityConfig::new(&config.namespace, &config.pod_name)
    };
    let started = Identity::start(client.clone(), names, clock.clone(), &shutdown).await?;
    let Some(identity) = started else {
        return Ok(());
    };

    recover(&config)?;
    let discovery = Arc::new(Discovery::new(client.clone(), clock.clone()));
    let scope = Scope::new(&config.watched());
    let keda: Vec<String> = config.keda_in().map(str::to_owned).into_iter().collect();
    let keda = Scope::new(&keda);
    let ports = Ports {
        source: Arc::new(KubeSource::new(
            client.clone(),
            scope,
            keda,
            discovery.clone(),
            clock.clone(),
        )),
        scaler: Arc::new(KubeScaler::new(
            client.clone(),
            discovery,
            clock.clone(),
            &config.pod_name,
        )),
        publisher: Arc::new(KubePublisher::new(
            client.clone(),
            clock.clone(),
            &config.pod_name,
        )),
        secrets: Arc::new(KubeReader::new(client.clone())),
        clock: clock.clone(),
    };
    let mut service = Service::start(
        service_config(&config, &identity),
        ports,
        Arc::new(World::new()),
    )
    .await?;
    service.serve_http(config.http_listen).await?;
    let address = config.node_listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ClusterError::Listen { address, source })?;
    let leaders = addresses(&config);
    ingest::serve_agents(
        &mut service,
        listener,
        identity.clone(),
        leaders,
        clock.clone(),
    );

    let expiring = identity.clone();
    service
        .metrics
        .add_collector(Box::new(CertificateCollector {
            expiry: Box::new(move || expiring.expiry()),
        }));
    let stop = service.stop.clone();
    service.spawn("certificate renewal", async move {
        identity.keep(stop).await;
        String::new()
    });
    let sign = LeaderSign::new(
        client.clone(),
        clock.clone(),
        &config.namespace,
        &config.pod_name,
    );
    let (leading, stop) = (service.leading.clone(), service.stop.clone());
    service.spawn("leader sign", async move {
        sign.run(leading, stop).await;
        String::new()
    });
    let member = service.consensus.clone();
    let fitness = Fitness::new(client.clone(), member.clone(), clock.clone());
    let stop = service.stop.clone();
    service.spawn("watch of the API server", async move {
        fitness.run(stop).await;
        String::new()
    });
    service.before_stop(ScaleDown::new(client, clock, &config).run(member));
    Ok(service.until(shutdown).await?)
}

/// Does what `--recover` asks for, if it is asked of this pod and was not done yet.
fn recover(config: &Config) -> Result<(), ClusterError> {
    let asked = config.recover.as_ref();
    let Some(asked) = asked.filter(|asked| asked.pod == config.pod_name) else {
        return Ok(());
    };
    let address = config.own_address();
    let dir = &config.data_dir;
    match neap_consensus::recover(dir, &asked.cluster, &config.pod_name, &address) {
        Ok(made) => {
            tracing::warn!(
                cluster = made.cluster,
                before = made.before,
                last_index = made.last_index,
                "recovered: this replica is the only member of the cluster"
            );
            Ok(())
        }
        // Done before, or not to be done here: the flag may stay set.
        Err(error @ (RecoverError::NoMember(_) | RecoverError::OtherCluster { .. })) => {
            tracing::info!(%error, "nothing is recovered");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn service_config(config: &Config, identity: &Identity) -> ServiceConfig {
    let mut consensus = neap_consensus::Config::single(&config.data_dir, FORMAT);
    consensus.peer = Some(PeerConfig {
        name: config.pod_name.clone(),
        listen: config.peer_listen,
        advertise: config.own_address(),
        bootstrap: Bootstrap {
            members: config.members(),
            form_without_minority_after: FORM_AFTER,
        },
        tls: identity.peer_tls(),
    });
    ServiceConfig {
        consensus,
        decide: DecideSettings {
            engine: config.engine(),
            ..DecideSettings::default()
        },
        signals: SignalLimits::default(),
        polls: PollLimits::default(),
        namespace: config.namespace.as_str().into(),
        history: Some(config.data_dir.join("history")),
    }
}

fn addresses(config: &Config) -> Addresses {
    let suffix = format!(
        ".{}.{}.svc:{}",
        config.peers_service,
        config.namespace,
        config.node_listen.port()
    );
    Addresses {
        own: format!("{}{suffix}", config.pod_name),
        expected: config.members().into_iter().map(|(name, _)| name).collect(),
        of: Arc::new(move |name| format!("{name}{suffix}")),
    }
}
