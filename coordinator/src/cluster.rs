//! The coordinator in a Kubernetes cluster: the ports and servers that only exist there.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
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
use crate::recovery::{self, Recovery, Words};
use crate::scale_down::ScaleDown;
use crate::scaler::kube::KubeScaler;
use crate::service::{Ports, Service, ServiceConfig, ServiceError};
use crate::signals::SignalLimits;
use crate::source::kube::{Discovery, KubeReader, KubeSource, Scope};
use crate::starting::answer_while;
use crate::stateful_set::{Beginning, OwnSet};
use crate::surplus::Surplus;
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
        tls_dir: config.tls_dir.clone(),
        ..IdentityConfig::new(&config.namespace, &config.pod_name)
    };
    let started = Box::pin(Identity::start(
        client.clone(),
        names,
        clock.clone(),
        &shutdown,
    ));
    let started = answer_while(config.http_listen, started).await?;
    let Some(identity) = started else {
        return Ok(());
    };

    let own = OwnSet::new(client.clone(), clock.clone(), &config);
    let beginning = answer_while(config.http_listen, own.wait(&shutdown)).await;
    let Some(beginning) = beginning else {
        return Ok(());
    };
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
        service_config(&config, &beginning, &identity),
        ports,
        Arc::new(World::new()),
    )
    .await?;
    service.serve_http(config.http_listen).await?;
    let address = config.node_listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ClusterError::Listen { address, source })?;
    let leaders = addresses(&config, &beginning.ordinals);
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
    let fitness = Fitness::new(client, member.clone(), clock.clone());
    let stop = service.stop.clone();
    service.spawn("watch of the API server", async move {
        fitness.run(stop).await;
        String::new()
    });
    watch_wanted(&mut service, own.clone(), beginning.ordinals);
    let surplus = Surplus::new(member.clone(), own.clone(), clock.clone());
    let stop = service.stop.clone();
    service.spawn("removal of members that are gone", async move {
        surplus.run(stop).await;
        String::new()
    });
    let recovery = Recovery::new(member.clone(), own.clone(), &config.pod_name, clock.clone());
    let asked = watch_recovery(&mut service, recovery);
    service.before_stop(ScaleDown::new(own, &config, clock).run(member));

    let ended = service.until(shutdown).await;
    if let Some(words) = asked.get() {
        // The log is closed by now. The next start, after this end of the process, opens what is made here.
        recovery::recover(&config, words)?;
        return Ok(());
    }
    Ok(ended?)
}

/// Has `service` end if other replicas are wanted before this one has joined: those that it waits for may never come,
/// and the next start asks others.
fn watch_wanted(service: &mut Service, own: OwnSet, ordinals: Range<i32>) {
    let (member, stop) = (service.consensus.clone(), service.stop.clone());
    service.spawn("watch of the wanted replicas", async move {
        tokio::select! {
            now = own.changes(&ordinals) => {
                if member.status().node.is_none() {
                    return format!(
                        "replicas {now:?} are wanted, no longer {ordinals:?}, and no cluster was joined yet: it begins anew"
                    );
                }
                stop.cancelled().await;
            }
            () = stop.cancelled() => {}
        }
        String::new()
    });
}

/// Has `service` end once this replica is asked to go on alone; the words by which it was are then there.
fn watch_recovery(service: &mut Service, recovery: Recovery) -> Arc<OnceLock<Words>> {
    let asked = Arc::new(OnceLock::new());
    let (told, stop) = (asked.clone(), service.stop.clone());
    service.spawn("watch for a recovery", async move {
        tokio::select! {
            words = recovery.asked() => {
                tracing::warn!(
                    cluster = words.cluster,
                    "no leader is known, and the StatefulSet asks this replica to go on alone: the process ends for it"
                );
                // Set once: this task ends here.
                let _ = told.set(words);
                "this replica is to go on alone".to_owned()
            }
            () = stop.cancelled() => String::new(),
        }
    });
    asked
}

fn service_config(config: &Config, beginning: &Beginning, identity: &Identity) -> ServiceConfig {
    let mut consensus = neap_consensus::Config::single(&config.data_dir, FORMAT);
    consensus.peer = Some(PeerConfig {
        name: config.pod_name.clone(),
        listen: config.peer_listen,
        advertise: config.own_address(),
        bootstrap: Bootstrap {
            members: config.members(&beginning.ordinals),
            leaving: config.leaving(&beginning.leaving),
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

fn addresses(config: &Config, wanted: &Range<i32>) -> Addresses {
    let suffix = format!(
        ".{}.{}.svc:{}",
        config.peers_service,
        config.namespace,
        config.node_listen.port()
    );
    let members = config.members(wanted).into_iter();
    Addresses {
        own: format!("{}{suffix}", config.pod_name),
        expected: members.map(|(name, _)| name).collect(),
        of: Arc::new(move |name| format!("{name}{suffix}")),
    }
}
