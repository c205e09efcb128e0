//! The coordinators under test, and the hands that move the one world they see.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use neap_api::ScaledObject;
use neap_consensus::Consensus;
use neap_coordinator::clock::{Boottime, ManualClock};
use neap_coordinator::decide::DecideSettings;
use neap_coordinator::leading::Leading;
use neap_coordinator::metrics::Metrics;
use neap_coordinator::poll::PollLimits;
use neap_coordinator::signals::{SignalLimits, SignalStore};
use neap_coordinator::world::World;
use neap_coordinator::{Ports, Service, ServiceConfig};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fakes::{ByHand, FakePublisher, FakeScaler, FakeSecrets};
use crate::objects::{NS, facts, key, pod, target_id, wall};
use crate::peers;

/// Anything may take so long in real time; nothing is asserted about speed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Replica {
    world: Arc<World>,
    store: Arc<SignalStore>,
    metrics: Arc<Metrics>,
    consensus: Consensus,
    leading: watch::Receiver<Leading>,
    publisher: Arc<FakePublisher>,
    http: Router,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

pub(crate) struct Bench {
    clock: ManualClock,
    pub(crate) scaler: Arc<FakeScaler>,
    replicas: Vec<Option<Replica>>,
    configs: Vec<neap_consensus::Config>,
    _data: tempfile::TempDir,
}

impl Bench {
    /// Three coordinators, one of which leads.
    pub(crate) async fn start() -> Self {
        let mut bench = Self::empty();
        for seat in 0..3 {
            bench.open(seat).await;
        }
        let worlds: Vec<Arc<World>> = bench
            .living()
            .map(|(_, replica)| replica.world.clone())
            .collect();
        // The fake cluster echoes writes to every replica, as the API server's watch would.
        bench
            .scaler
            .on_write(Box::new(move |name, replicas, version| {
                for world in &worlds {
                    world.apply_target_facts(&target_id(name), facts(name, replicas, version));
                }
            }));
        bench.voters().await;
        bench.leader().await;
        bench
    }

    /// Seats for three, and nobody there.
    pub(crate) fn empty() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = ManualClock::new(Boottime::from_micros(1_000_000_000), wall(0));
        let scaler = FakeScaler::new(clock.clone());
        let data = tempfile::tempdir().unwrap();
        Self {
            clock,
            scaler,
            replicas: (0..3).map(|_| None).collect(),
            configs: peers::configs(data.path(), 3),
            _data: data,
        }
    }

    /// Starts a replica with the disk it has.
    pub(crate) async fn open(&mut self, seat: usize) {
        let config = self.configs[seat].clone();
        let replica = Replica::start(config, &self.clock, &self.scaler).await;
        self.replicas[seat] = Some(replica);
    }

    /// Waits until all that live know three voters.
    pub(crate) async fn voters(&self) {
        self.until("three voters", async |bench| {
            let all = bench.living().all(|(_, replica)| {
                let status = replica.consensus.status();
                status.settled && status.members.iter().filter(|m| m.voter).count() == 3
            });
            all.then_some(())
        })
        .await
    }

    fn living(&self) -> impl Iterator<Item = (usize, &Replica)> {
        let all = self.replicas.iter().enumerate();
        all.filter_map(|(seat, replica)| Some((seat, replica.as_ref()?)))
    }

    fn replica(&self, seat: usize) -> &Replica {
        self.replicas[seat].as_ref().expect("it lives")
    }

    /// Waits for a leader that decides.
    pub(crate) async fn leader(&self) -> usize {
        self.until("a leader", async |bench| {
            let mut living = bench.living();
            let leads = |replica: &Replica| {
                replica.leading.borrow().leadership.is_self && replica.consensus.lease().is_some()
            };
            living
                .find(|(_, replica)| leads(replica))
                .map(|(seat, _)| seat)
        })
        .await
    }

    /// Waits until a replica says no more that it leads.
    pub(crate) async fn leads_no_more(&self, seat: usize) {
        let mut leading = self.replica(seat).leading.clone();
        let over = leading.wait_for(|now| !now.leadership.is_self);
        let over = tokio::time::timeout(PATIENCE, over).await;
        over.expect("its lease ends").unwrap();
    }

    /// What a replica has evaluated, and what it has shown: status and events.
    pub(crate) fn evaluated_and_shown(&self, seat: usize) -> (u64, usize, usize) {
        let replica = self.replica(seat);
        let publisher = &replica.publisher;
        let evaluations = replica.figure("neap_evaluations_total");
        (evaluations, publisher.patches(), publisher.all_events())
    }

    /// A gauge or counter without labels.
    pub(crate) fn figure(&self, seat: usize, name: &str) -> u64 {
        self.replica(seat).figure(name)
    }

    /// Waits until `look` gives something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn(&Self) -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look(self).await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }

    /// Ends a replica without a word to the others.
    pub(crate) async fn kill(&mut self, seat: usize) {
        let replica = self.replicas[seat].take().expect("it lives");
        replica.running.abort();
        replica.consensus.shutdown().await;
    }

    /// Stops a replica in order; it hands leadership over.
    pub(crate) async fn hand_over(&self, seat: usize) {
        self.replica(seat).consensus.hand_over().await.unwrap();
    }

    /// Stops all that live.
    pub(crate) async fn stop(mut self) {
        for replica in self.replicas.iter_mut().filter_map(Option::take) {
            replica.stop.cancel();
            tokio::time::timeout(PATIENCE, replica.running)
                .await
                .expect("it stops")
                .unwrap();
        }
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets a second pass, and what goes over the network in it arrive: that takes real time.
    pub(crate) async fn second(&self) {
        self.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// The Deployment `name` with this many ready pods.
    pub(crate) fn deployment(&self, name: &str, replicas: i32) {
        self.scaler.set(name, replicas, 1);
        (0..replicas).for_each(|n| self.pod(name, n));
    }

    pub(crate) fn pod(&self, name: &str, n: i32) {
        for (_, replica) in self.living() {
            replica.world.apply_pod(Arc::new(pod(name, n)));
        }
    }

    pub(crate) fn remove_pod(&self, name: &str, n: i32) {
        for (_, replica) in self.living() {
            replica.world.remove_pod(NS, &format!("{name}-{n}"));
        }
    }

    pub(crate) fn scaled_object(&self, name: &str, mut spec: Value) {
        spec["scaleTargetRef"] = json!({"name": name});
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": name, "namespace": NS, "uid": format!("so-{name}"),
                         "creationTimestamp": wall(-3_600).to_string()},
            "spec": spec,
        });
        let object: ScaledObject = serde_json::from_value(object).unwrap();
        let (replicas, version) = self.scaler.get(name);
        for (_, replica) in self.living() {
            replica.world.apply_scaled_object(object.clone());
            replica
                .world
                .apply_target_facts(&target_id(name), facts(name, replicas, version));
        }
    }

    /// Has the leader decide about `name` once more, and commit what it decided.
    pub(crate) async fn decided(&self, name: &str) {
        let leader = self.leader().await;
        let replica = self.replica(leader);
        let commits = replica.consensus.status().committed_index;
        let before = replica.figure("neap_evaluations_total");
        self.until("a decision that is committed", async |bench| {
            replica.store.dirty().mark(&key(name));
            bench.advance(Duration::from_millis(25));
            let decided = replica.figure("neap_evaluations_total") > before + 1;
            let committed = replica.consensus.status().committed_index > commits;
            (decided && committed).then_some(())
        })
        .await;
    }

    /// The JSON that a replica answers to `path`; `None` where it answers with an error.
    pub(crate) async fn get(&self, seat: usize, path: &str) -> Option<Value> {
        let (code, answer) = self.answer(seat, path).await;
        (code == 200).then_some(answer)
    }

    /// Code and JSON of what a replica answers to `path`.
    pub(crate) async fn answer(&self, seat: usize, path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.replica(seat).http.clone().oneshot(request).await;
        let answer = answer.unwrap();
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (code, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    pub(crate) async fn status_code(&self, seat: usize, path: &str) -> u16 {
        self.text(seat, path).await.0
    }

    /// Code and text of what a replica answers to `path`.
    pub(crate) async fn text(&self, seat: usize, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.replica(seat).http.clone().oneshot(request).await;
        let answer = answer.unwrap();
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (code, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }
}

impl Replica {
    async fn start(
        consensus: neap_consensus::Config,
        clock: &ManualClock,
        scaler: &Arc<FakeScaler>,
    ) -> Self {
        let world = Arc::new(World::new());
        let publisher = FakePublisher::new();
        let ports = Ports {
            source: Arc::new(ByHand { listed: true }),
            scaler: scaler.clone(),
            publisher: publisher.clone(),
            secrets: Arc::new(FakeSecrets),
            clock: Arc::new(clock.clone()),
        };
        let config = ServiceConfig {
            history: Some(consensus.data_dir.join("history")),
            consensus,
            decide: DecideSettings::default(),
            signals: SignalLimits::default(),
            polls: PollLimits::default(),
            namespace: "neap".into(),
        };
        let service = Service::start(config, ports, world.clone()).await.unwrap();
        let (store, metrics, consensus) = (
            service.store.clone(),
            service.metrics.clone(),
            service.consensus.clone(),
        );
        let leading = service.leading.clone();
        let (http, stop) = (service.http(), CancellationToken::new());
        let shutdown = stop.clone();
        let running = tokio::spawn(async move { service.until(shutdown).await.unwrap() });
        Self {
            world,
            store,
            metrics,
            consensus,
            leading,
            publisher,
            http,
            stop,
            running,
        }
    }

    /// A counter or gauge without labels.
    fn figure(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let value = text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix(' ')?.parse().ok()
        });
        value.unwrap_or_else(|| panic!("{name} in\n{text}"))
    }
}
