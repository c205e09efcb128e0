//! A coordinator on a folder: the ports and servers that exist without a cluster.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::NODE;
use super::groups::{CGROUPS, Groups};
use super::journal::{Journal, stop_orphans};
use super::lock::Lock;
use super::objects::LocalObjects;
use super::pod::Shared;
use super::replica::RunningPod;
use super::report::{Place, Reports};
use super::spawn::Spawner;
use super::supervisor::{OnPods, Supervisor};
use crate::clock::{Clock, SystemClock};
use crate::decide::{DecideSettings, FORMAT};
use crate::identity::{Identity, IdentityError, LocalCredentials};
use crate::ingest::{self, Addresses};
use crate::keys::TargetKey;
use crate::poll::PollLimits;
use crate::publish::Explain;
use crate::publish::local::LocalPublisher;
use crate::scaler::local::LocalScaler;
use crate::service::{Ports, Service, ServiceConfig, ServiceError};
use crate::signals::SignalLimits;
use crate::source::folder::{FolderError, FolderSource};
use crate::world::World;

/// The namespace of Neap's own, which ClusterTriggerAuthentications read from.
const NAMESPACE: &str = "default";

/// How a folder is run.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The folder of manifests.
    pub folder: PathBuf,
    /// Where the log, the scales, the journal and the output of replicas are kept.
    pub state_dir: PathBuf,
    /// Where the HTTP API is served; port 0 takes any.
    pub http: SocketAddr,
    /// Settings of deciding.
    pub decide: DecideSettings,
}

/// Why a folder is not run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another one runs it.
    #[error("{state} is in use by process {holder}: end that neap up, or give --state another folder", state = state.display())]
    Taken {
        /// The state folder.
        state: PathBuf,
        /// The process.
        holder: String,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder {state}: {source} (--state names another)", state = state.display())]
    State {
        /// The state folder.
        state: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What an earlier run left behind does not end.
    #[error("an earlier run was killed: {0}")]
    Orphans(#[source] io::Error),
    /// Certificates or a token cannot be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gives no port, thread or client.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The coordinator.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// A coordinator that runs a folder.
pub struct LocalCoordinator {
    /// Objects.
    pub world: Arc<World>,
    /// The last decisions.
    pub explain: Arc<Explain>,
    /// Where the HTTP API is.
    pub http: SocketAddr,
    /// Where the agent connects to.
    pub agents: SocketAddr,
    /// What the agent shows and whom it believes.
    pub credentials: LocalCredentials,
    /// The cgroup root of the replicas, where they have groups.
    pub cgroup_root: Option<PathBuf>,
    /// Why they have none, else.
    pub without_groups: Option<String>,
    /// Replicas that an earlier run left behind and that were stopped.
    pub orphans: usize,
    source: Arc<FolderSource>,
    service: Service,
    supervisor: JoinHandle<()>,
    stop: CancellationToken,
    _lock: Lock,
}

impl std::fmt::Debug for LocalCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCoordinator")
            .field("http", &self.http)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl LocalCoordinator {
    /// Stops what an earlier run left behind, and starts everything but the agent. `on_pods` is told
    /// of all pods whenever they change.
    ///
    /// # Errors
    /// [`UpError`].
    pub async fn start(
        config: LocalConfig,
        reports: Reports,
        on_pods: Arc<dyn Fn(Vec<RunningPod>) + Send + Sync>,
    ) -> Result<Self, UpError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state_failed = |source| UpError::State {
            state: config.state_dir.clone(),
            source,
        };
        let logs = config.state_dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(state_failed)?;
        let state_dir = std::fs::canonicalize(&config.state_dir).map_err(state_failed)?;
        let lock = match Lock::take(&state_dir).map_err(state_failed)? {
            Ok(lock) => lock,
            Err(holder) => {
                return Err(UpError::Taken {
                    state: config.state_dir,
                    holder,
                });
            }
        };
        let orphans = stop_orphans(&state_dir).await.map_err(UpError::Orphans)?;
        let objects = LocalObjects::open(&state_dir).map_err(state_failed)?;
        let source = Arc::new(FolderSource::new(
            config.folder.clone(),
            objects.clone(),
            reports.clone(),
            clock.clone(),
        )?);
        let (groups, without_groups) = groups(&state_dir);
        let cgroup_root = groups.as_ref().map(|groups| groups.root().to_owned());

        let (identity, credentials) = Identity::local(NODE, clock.clone())?;
        let mut service = Service::start(
            ServiceConfig {
                consensus: neap_consensus::Config::single(state_dir.join("raft"), FORMAT),
                decide: config.decide,
                signals: SignalLimits::default(),
                polls: PollLimits::default(),
                namespace: NAMESPACE.into(),
                history: Some(state_dir.join("history")),
            },
            Ports {
                source: source.clone(),
                scaler: Arc::new(LocalScaler::new(objects.clone(), clock.clone())),
                publisher: Arc::new(LocalPublisher::new(reports.clone())),
                secrets: objects.clone(),
                clock: clock.clone(),
            },
            Arc::new(World::new()),
        )
        .await?;
        let http = service.serve_http(config.http).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(UpError::Start)?;
        let agents = listener.local_addr().map_err(UpError::Start)?;
        let addresses = Addresses {
            own: agents.to_string(),
            expected: Vec::new(),
            of: Arc::new(move |_| agents.to_string()),
        };
        ingest::serve_agents(&mut service, listener, identity, addresses, clock.clone());

        let shared = Shared {
            objects,
            clock,
            reports,
            spawner: Spawner::start().map_err(UpError::Start)?,
            journal: Journal::new(&state_dir),
            groups,
            http: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .build()
                .map_err(|error| UpError::Start(io::Error::other(error)))?,
            base_env: base_env(),
            logs,
        };
        let on_pods: OnPods = on_pods;
        let stop = CancellationToken::new();
        let supervisor =
            Supervisor::new(Arc::new(shared), service.world.clone(), state_dir, on_pods);
        Ok(Self {
            world: service.world.clone(),
            explain: service.explain.clone(),
            http,
            agents,
            credentials,
            cgroup_root,
            without_groups,
            orphans: orphans.len(),
            source,
            service,
            supervisor: tokio::spawn(supervisor.run(stop.clone())),
            stop,
            _lock: lock,
        })
    }

    /// Where ScaledObjects stand.
    pub fn places(&self) -> impl Fn(&TargetKey) -> Option<Place> + Send + Sync + use<> {
        let source = self.source.clone();
        move |key| source.place(key)
    }

    /// Runs until `shutdown` is cancelled or the coordinator cannot go on; then nothing is decided any
    /// more, and all replicas are stopped.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn until(self, shutdown: CancellationToken) -> Result<(), UpError> {
        let ended = self.service.until(shutdown).await;
        self.stop.cancel();
        // Each replica has its own grace; a panic of the supervisor has been logged.
        let _ = self.supervisor.await;
        Ok(ended?)
    }
}

/// Groups for the replicas, or why there are none.
fn groups(state_dir: &Path) -> (Option<Groups>, Option<String>) {
    let key = TargetKey::new("", state_dir.display().to_string());
    let name = super::stable_uid("neap-up", &key);
    match Groups::make(Path::new(CGROUPS), name.get(..8).unwrap_or(&name)) {
        Ok(groups) => (Some(groups), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// What every replica has of this process's environment. The folder of this program comes first on
/// PATH, so that a manifest can name programs that are built along with it.
fn base_env() -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "PATH" && name != "PORT")
        .collect();
    let own = std::env::current_exe().ok();
    let folder = own.as_deref().and_then(Path::parent);
    let path = std::env::var("PATH").unwrap_or_default();
    let path = match folder {
        Some(folder) => format!("{}:{path}", folder.display()),
        None => path,
    };
    env.push(("PATH".to_owned(), path));
    env
}
