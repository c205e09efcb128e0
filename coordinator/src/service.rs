//! The coordinator as one thing that starts and stops: everything but the ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::BoxFuture;
use neap_consensus::{BootClock, Consensus, HandOverError, OpenError};
use neap_triggers::TriggerContext;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::decide::{DecideSettings, Decider, DecisionTable, Opened, Parts};
use crate::leading::{self, Leading};
use crate::metrics::{Metrics, RaftCollector, RoomCollector};
use crate::poll::{self, AuthContext, PollLimits, Poller};
use crate::publish::{
    Desk, Explain, History, HistoryDisk, HttpState, LeaderTable, Publisher, Sharing, figures,
    router,
};
use crate::scaler::Scaler;
use crate::signals::{SignalLimits, SignalStore, WantedWatch};
use crate::source::{ObjectSource, SecretReader};
use crate::world::World;

/// What the coordinator does not do itself.
#[derive(Clone)]
pub struct Ports {
    /// Where objects come from.
    pub source: Arc<dyn ObjectSource>,
    /// What scales.
    pub scaler: Arc<dyn Scaler>,
    /// Where status and events go.
    pub publisher: Arc<dyn Publisher>,
    /// Secrets and ConfigMaps.
    pub secrets: Arc<dyn SecretReader>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// How the coordinator is started.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The log and the cluster.
    pub consensus: neap_consensus::Config,
    /// Deciding.
    pub decide: DecideSettings,
    /// Signals.
    pub signals: SignalLimits,
    /// Polling.
    pub polls: PollLimits,
    /// Neap's own namespace.
    pub namespace: Arc<str>,
    /// Where the history of changes is kept; without it, in memory alone.
    pub history: Option<PathBuf>,
}

/// Why the coordinator did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The log cannot be opened.
    #[error("cannot open the log")]
    Open(#[from] OpenError),
    /// The HTTP port cannot be used.
    #[error("cannot listen on {address} for HTTP")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// One of the tasks ended although nobody asked it to.
    #[error("{task} ended: {reason}")]
    Ended {
        /// Which.
        task: &'static str,
        /// Why, as far as it says.
        reason: String,
    },
    /// The log stopped; it does not start again in this process.
    #[error("the log has stopped: {0}")]
    LogStopped(String),
}

/// Tasks get so long to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How soon targets hear that a node has gone silent, and memory of gone nodes is freed.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A running coordinator.
pub struct Service {
    /// Objects.
    pub world: Arc<World>,
    /// Signals.
    pub store: Arc<SignalStore>,
    /// What the agents have to read.
    pub wanted: WantedWatch,
    /// The last decisions.
    pub explain: Arc<Explain>,
    /// The log: leadership, lease, status.
    pub consensus: Consensus,
    /// Who leads, as others are told.
    pub leading: watch::Receiver<Leading>,
    /// Figures; other rooms add theirs.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the coordinator stops.
    pub stop: CancellationToken,
    http: Router,
    tasks: JoinSet<(&'static str, String)>,
    before_stop: Option<BoxFuture<'static, ()>>,
}

impl Service {
    /// Opens the log and starts everything. `world` is what `ports.source` fills.
    ///
    /// # Errors
    /// [`ServiceError::Open`].
    pub async fn start(
        config: ServiceConfig,
        ports: Ports,
        world: Arc<World>,
    ) -> Result<Self, ServiceError> {
        let log = neap_consensus::ports::Ports::default();
        Self::start_on(config, ports, world, log, Arc::new(BootClock)).await
    }

    /// [`start`](Self::start) with another network, disk or clock for the log than the machine's: for
    /// simulations.
    ///
    /// # Errors
    /// [`ServiceError::Open`].
    pub async fn start_on(
        config: ServiceConfig,
        ports: Ports,
        world: Arc<World>,
        log: neap_consensus::ports::Ports,
        log_clock: Arc<dyn neap_consensus::Clock>,
    ) -> Result<Self, ServiceError> {
        let clock = ports.clock.clone();
        let metrics = Arc::new(Metrics::new());
        let store = SignalStore::new(config.signals);
        let table = DecisionTable::new(clock.clone());
        let opened = Opened::before(clock.as_ref());
        let consensus =
            Consensus::open_on(config.consensus, table.machine(), log_clock, log).await?;
        let (poller, polls) = Poller::new(clock.clone(), metrics.clone(), config.polls);
        let desk = Desk::new(
            ports.publisher.clone(),
            consensus.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let history = Arc::new(History::default());
        let history_disk = HistoryDisk::open(config.history, &history).await;
        let explain = Arc::new(Explain::new(clock.clone(), history.clone()));
        let auth = AuthContext {
            world: world.clone(),
            secrets: ports.secrets.clone(),
            own_namespace: config.namespace,
        };
        let stop = CancellationToken::new();
        metrics.add_collector(Box::new(RoomCollector {
            store: store.clone(),
            world: world.clone(),
            poller: poller.clone(),
            clock: clock.clone(),
        }));
        let decider = Decider::new(
            Parts {
                world: world.clone(),
                store: store.clone(),
                poller: poller.clone(),
                polls,
                consensus: consensus.clone(),
                table,
                scaler: ports.scaler,
                desk: desk.clone(),
                explain: explain.clone(),
                metrics: metrics.clone(),
                auth: auth.clone(),
                clock: clock.clone(),
                opened,
                settings: config.decide,
            },
            TriggerContext::default(),
            stop.clone(),
        );
        let wanted = decider.wanted();
        let leading = leading::told(&consensus);
        metrics.add_collector(Box::new(RaftCollector {
            consensus: consensus.clone(),
            leading: leading.subscribe(),
        }));
        let shown = HttpState {
            metrics: metrics.clone(),
            explain: explain.clone(),
            followed: Arc::new(LeaderTable::new(
                clock.clone(),
                history.clone(),
                world.clone(),
            )),
            consensus: consensus.clone(),
            leading: leading.subscribe(),
            world: world.clone(),
            store: store.clone(),
            poller: poller.clone(),
            has_voted: Arc::default(),
            clock: clock.clone(),
        };
        let sharing = Sharing {
            consensus: consensus.clone(),
            explain: explain.clone(),
            followed: shown.followed.clone(),
            leading: leading.subscribe(),
            history: history.clone(),
            status: Box::new({
                let shown = shown.clone();
                move || figures(&shown)
            }),
            clock: clock.clone(),
        };
        let mut service = Self {
            world,
            store,
            wanted,
            explain,
            leading: leading.subscribe(),
            consensus,
            metrics,
            stop,
            http: router(shown),
            tasks: JoinSet::new(),
            before_stop: None,
        };
        let (source, filled, stop) = (ports.source, service.world.clone(), service.stop.clone());
        service.spawn("object source", async move {
            source
                .run(filled, stop)
                .await
                .err()
                .map_or_else(String::new, |error| error.to_string())
        });
        let (consensus, stop) = (service.consensus.clone(), service.stop.clone());
        service.spawn("view of leadership", async move {
            tokio::select! {
                () = leading::follow(consensus, leading) => {}
                () = stop.cancelled() => {}
            }
            String::new()
        });
        service.spawn("decider", async move {
            decider.run().await;
            String::new()
        });
        let (stop, leading) = (service.stop.clone(), service.leading.clone());
        service.spawn("poller", async move {
            let asking = poll::follow(&poller, leading);
            // It ends with what tells of leadership, which ends before the poller may.
            let asking = async {
                asking.await;
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = poller.clone().run(auth, stop) => {}
                () = asking => {}
            }
            String::new()
        });
        let stop = service.stop.clone();
        service.spawn("publisher", async move {
            desk.run(stop).await;
            String::new()
        });
        let stop = service.stop.clone();
        service.spawn("leader's table", async move {
            sharing.run(stop).await;
            String::new()
        });
        let (time, stop) = (clock.clone(), service.stop.clone());
        service.spawn("history", async move {
            history_disk.follow(history, time, stop).await;
            String::new()
        });
        let (swept, stop) = (service.store.clone(), service.stop.clone());
        service.spawn("sweeper", async move {
            loop {
                let now = clock.boottime();
                swept.sweep(now);
                tokio::select! {
                    () = stop.cancelled() => return String::new(),
                    () = clock.sleep_until(now + SWEEP_EVERY) => {}
                }
            }
        });
        Ok(service)
    }

    /// Runs one more task as long as the coordinator: it must end when [`stop`](Self::stop) is
    /// cancelled and not before. What it returns says why it ended.
    pub fn spawn(
        &mut self,
        task: &'static str,
        run: impl Future<Output = String> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (task, run.await) });
    }

    /// Has something done when the coordinator is asked to stop, before it gives up leadership. It
    /// is waited for, so it must bound itself.
    pub fn before_stop(&mut self, run: impl Future<Output = ()> + Send + 'static) {
        self.before_stop = Some(Box::pin(run));
    }

    /// The routes of the HTTP port.
    pub fn http(&self) -> Router {
        self.http.clone()
    }

    /// Serves the HTTP port at `address`; gives the address it really has.
    ///
    /// # Errors
    /// [`ServiceError::Listen`].
    pub async fn serve_http(&mut self, address: SocketAddr) -> Result<SocketAddr, ServiceError> {
        let listen = |source| ServiceError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let (http, stop) = (self.http(), self.stop.clone());
        self.spawn("HTTP server", async move {
            let served = axum::serve(listener, http)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await;
            served
                .err()
                .map_or_else(String::new, |error| error.to_string())
        });
        Ok(bound)
    }

    /// Waits until `shutdown` is cancelled or the coordinator cannot go on, then stops it in order:
    /// leadership is handed over first, so that another replica decides before this one is gone.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn until(mut self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            reason = self.consensus.stopped() => Err(ServiceError::LogStopped(reason)),
            Some(ended) = self.tasks.join_next() => Err(match ended {
                Ok((task, reason)) => ServiceError::Ended { task, reason },
                Err(error) => ServiceError::Ended { task: "a task", reason: error.to_string() },
            }),
        };
        if let (Ok(()), Some(first)) = (&result, self.before_stop.take()) {
            first.await;
        }
        self.stop().await;
        result
    }

    async fn stop(mut self) {
        match self.consensus.hand_over().await {
            Ok(to) => tracing::info!(%to, "handed leadership over"),
            Err(HandOverError::NotLeader) => {}
            Err(error) => tracing::info!(%error, "leadership was not handed over"),
        }
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            tracing::warn!("some tasks did not end in time; they are ended");
            self.tasks.abort_all();
        }
        self.consensus.shutdown().await;
    }
}

/// Runs a coordinator in this process until `shutdown` is cancelled: for `neap up` and tests. The HTTP
/// port is served where an address is given.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(
    config: ServiceConfig,
    ports: Ports,
    http: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let mut service = Service::start(config, ports, Arc::new(World::new())).await?;
    if let Some(address) = http {
        service.serve_http(address).await?;
    }
    service.until(shutdown).await
}
