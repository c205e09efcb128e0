//! One coordinator under test, and the hands that move its world.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use neap_api::ScaledObject;
use neap_coordinator::clock::{Boottime, Clock, ManualClock};
use neap_coordinator::decide::DecideSettings;
use neap_coordinator::poll::PollLimits;
use neap_coordinator::scaler::ScaleError;
use neap_coordinator::signals::{
    BootId, ContainerId, NodeName, NodeTime, PodUid, SeriesKey, Signal, SignalLimits, SignalStore,
    Spool, StreamWriter, Subject, WantedSignals,
};
use neap_coordinator::world::{TargetFacts, World};
use neap_coordinator::{Ports, Service, ServiceConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fakes::{ByHand, FakePublisher, FakeScaler, FakeSecrets, Write};
pub(crate) use crate::objects::{NODE, NS, facts, key, pod, target_id, wall};

/// The node was booted so long before the coordinator's machine.
const NODE_AHEAD: i64 = 500_000_000;

pub(crate) struct Bench {
    pub(crate) clock: ManualClock,
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<SignalStore>,
    pub(crate) scaler: Arc<FakeScaler>,
    pub(crate) publisher: Arc<FakePublisher>,
    pub(crate) wanted: neap_coordinator::signals::WantedWatch,
    pub(crate) metrics: Arc<neap_coordinator::metrics::Metrics>,
    http: axum::Router,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    pub(crate) data: Option<tempfile::TempDir>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), 1_000, 0).await
    }

    /// Starts on the disk of an earlier one, so many seconds after boot and on the wall.
    pub(crate) async fn start_at(data: tempfile::TempDir, boot: i64, wall_seconds: i64) -> Self {
        Self::start_filled(data, boot, wall_seconds, |_, _| {}).await
    }

    /// The same, with what is listed before there is a leader.
    pub(crate) async fn start_filled(
        data: tempfile::TempDir,
        boot: i64,
        wall_seconds: i64,
        fill: impl FnOnce(&World, &FakeScaler),
    ) -> Self {
        let source = ByHand { listed: true };
        Self::start_with(source, data, boot, wall_seconds, fill).await
    }

    /// Starts before anything was listed.
    pub(crate) async fn start_unlisted() -> Self {
        let source = ByHand { listed: false };
        Self::start_with(source, tempfile::tempdir().unwrap(), 1_000, 0, |_, _| {}).await
    }

    async fn start_with(
        source: ByHand,
        data: tempfile::TempDir,
        boot: i64,
        wall_seconds: i64,
        fill: impl FnOnce(&World, &FakeScaler),
    ) -> Self {
        let clock = ManualClock::new(Boottime::from_micros(boot * 1_000_000), wall(wall_seconds));
        let scaler = FakeScaler::new(clock.clone());
        let publisher = FakePublisher::new();
        let world = Arc::new(World::new());
        fill(&world, &scaler);
        let ports = Ports {
            source: Arc::new(source),
            scaler: scaler.clone(),
            publisher: publisher.clone(),
            secrets: Arc::new(FakeSecrets),
            clock: Arc::new(clock.clone()),
        };
        let config = ServiceConfig {
            consensus: neap_consensus::Config::single(data.path(), 1),
            decide: DecideSettings::default(),
            signals: SignalLimits::default(),
            polls: PollLimits::default(),
            namespace: "neap".into(),
            history: Some(data.path().join("history")),
        };
        let service = Service::start(config, ports, world.clone()).await.unwrap();
        let (store, wanted, metrics) = (
            service.store.clone(),
            service.wanted.clone(),
            service.metrics.clone(),
        );
        let http = service.http();
        let mut leading = service.leading.clone();
        tokio::time::timeout(
            Duration::from_secs(60),
            leading.wait_for(|seen| seen.leadership.is_self),
        )
        .await
        .expect("one member leads itself")
        .unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move { service.until(shutdown).await.unwrap() });
        // The fake world echoes writes as the API server's watch would.
        let echo = world.clone();
        scaler.on_write(Box::new(move |name, replicas, version| {
            echo.apply_target_facts(&target_id(name), facts(name, replicas, version));
        }));
        Self {
            clock,
            world,
            store,
            scaler,
            publisher,
            wanted,
            metrics,
            http,
            stop,
            running,
            data: Some(data),
        }
    }

    /// Stops the coordinator in order and gives back its disk.
    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), &mut self.running)
            .await
            .unwrap()
            .unwrap();
        self.data.take().unwrap()
    }

    /// A Deployment `name` with this many replicas and as many ready pods.
    pub(crate) fn deployment(&self, name: &str, replicas: i32) {
        self.scaler.set(name, replicas, 1);
        for n in 0..replicas {
            self.pod(name, n);
        }
    }

    /// What the watch says of the Deployment as it is now.
    pub(crate) fn see(&self, name: &str) {
        let (replicas, version) = self.scaler.get(name);
        self.world
            .apply_target_facts(&target_id(name), facts(name, replicas, version));
    }

    /// Someone else sets the replicas.
    pub(crate) fn set_by_hand(&self, name: &str, replicas: i32) {
        let (_, version) = self.scaler.get(name);
        self.scaler.set(name, replicas, version + 1);
        self.see_by_hand(name);
    }

    /// The watch catches up with what someone else set.
    pub(crate) fn see_by_hand(&self, name: &str) {
        let (replicas, version) = self.scaler.get(name);
        let facts = TargetFacts {
            last_writer: Some("argocd-controller".into()),
            ..facts(name, replicas, version)
        };
        self.world.apply_target_facts(&target_id(name), facts);
    }

    /// The pod `name-n`, ready, on the node.
    pub(crate) fn pod(&self, name: &str, n: i32) {
        self.world.apply_pod(Arc::new(pod(name, n)));
    }

    /// Creates a ScaledObject for the Deployment of the same name.
    pub(crate) fn scaled_object(&self, name: &str, spec: Value) {
        self.apply(name, spec, json!({}));
    }

    /// The same with annotations and other metadata.
    pub(crate) fn apply(&self, name: &str, spec: Value, metadata: Value) {
        let object = scaled_object(name, spec, metadata);
        let target = object.spec.scale_target_ref.name.clone();
        self.world.apply_scaled_object(object);
        if self.scaler.knows(&target) {
            self.see(&target);
        }
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets time go on, ten milliseconds at a time, until `wanted` has come: for what depends on
    /// coalescing and on the pace of status writes, and not on an exact time.
    pub(crate) async fn passing<T>(&self, wanted: impl Future<Output = T>) -> T {
        let (each, step) = (Duration::from_millis(5), Duration::from_millis(10));
        self.moving(wanted, each, step).await
    }

    /// Moves the clock on by `step`, `each` time that `wanted` has not come.
    async fn moving<T>(
        &self,
        wanted: impl Future<Output = T>,
        each: Duration,
        step: Duration,
    ) -> T {
        tokio::pin!(wanted);
        loop {
            tokio::select! {
                found = &mut wanted => return found,
                () = tokio::time::sleep(each) => self.clock.advance(step),
            }
        }
    }

    /// Waits for the `n`th write. Where it keeps us waiting, time goes on slowly: what a test did
    /// just before may be taken in only after it moved the clock, and its coalescing and spacing
    /// then begin there.
    pub(crate) async fn write(&self, n: usize) -> Write {
        let (each, step) = (Duration::from_millis(250), Duration::from_millis(25));
        self.moving(self.scaler.write(n), each, step).await
    }

    /// Waits for the `n`th refused write, as [`Self::write`] does.
    pub(crate) async fn refusal(&self, n: usize) -> (i32, ScaleError) {
        let (each, step) = (Duration::from_millis(250), Duration::from_millis(25));
        self.moving(self.scaler.refusal(n), each, step).await
    }

    /// Waits until the agents are asked for something.
    pub(crate) async fn asked(&self) -> Arc<WantedSignals> {
        let mut wanted = self.wanted.clone();
        let asked = wanted.wait_for(|all| !all.by_node.is_empty());
        tokio::time::timeout(Duration::from_secs(60), asked)
            .await
            .expect("the agents are asked")
            .unwrap()
            .clone()
    }

    /// Has `name` evaluated once more, after everything that happened before.
    pub(crate) async fn evaluate(&self, name: &str) {
        // Two rounds: a write of the first round has been sent before the second ends.
        for _ in 0..2 {
            let before = self.evaluations();
            let waited = async {
                // Again where it was swallowed by a write under way, or came at the very time of
                // another evaluation.
                loop {
                    self.store.dirty().mark(&key(name));
                    self.clock.advance(Duration::from_millis(25));
                    for _ in 0..200 {
                        if self.evaluations() != before {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waited)
                .await
                .expect("an evaluation");
        }
    }

    pub(crate) fn evaluations(&self) -> u64 {
        self.figure("neap_evaluations_total")
    }

    /// A counter or gauge without labels.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')
                .map(str::to_owned)
        });
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} in\n{text}"))
    }

    /// Code and JSON of what the HTTP port answers to `path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let request = axum::http::Request::get(path);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = self.http.clone().oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (code, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    pub(crate) fn text(&self) -> String {
        self.metrics.encode().unwrap()
    }

    /// An agent on the node, connected now.
    pub(crate) fn agent(&self) -> Agent {
        self.agent_on(NODE)
    }

    /// An agent on this node, connected now.
    pub(crate) fn agent_on(&self, node: &str) -> Agent {
        let now = self.clock.boottime();
        let node = NodeName::new(node).unwrap();
        let stream = self
            .store
            .connect(node, BootId::new("boot").unwrap(), 1, now)
            .unwrap();
        Agent {
            stream,
            clock: self.clock.clone(),
            defined: 0,
            held: HashMap::new(),
        }
    }
}

/// A ScaledObject for the Deployment of the same name, with this metadata besides.
pub(crate) fn scaled_object(name: &str, spec: Value, metadata: Value) -> ScaledObject {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {
            "name": name,
            "namespace": NS,
            "uid": format!("so-{name}"),
            "creationTimestamp": wall(-3_600).to_string(),
        },
        "spec": spec,
    });
    for (field, value) in metadata.as_object().unwrap() {
        object["metadata"][field] = value.clone();
    }
    if object["spec"]["scaleTargetRef"].is_null() {
        object["spec"]["scaleTargetRef"] = json!({"name": name});
    }
    serde_json::from_value(object).unwrap()
}

/// Sends what an agent would.
pub(crate) struct Agent {
    stream: StreamWriter,
    clock: ManualClock,
    defined: u32,
    /// Of each gauge that [`Self::holds`] sets: since when, its integral then, its value.
    held: HashMap<u32, (Boottime, f64, u64)>,
}

impl Agent {
    fn now(&self) -> NodeTime {
        let micros = self.clock.boottime().as_micros() + NODE_AHEAD;
        NodeTime::from_nanos(u64::try_from(micros).unwrap() * 1_000)
    }

    pub(crate) fn define(&mut self, key: SeriesKey, interval: Duration) -> u32 {
        self.defined += 1;
        self.stream
            .batch()
            .unwrap()
            .define(self.defined, key, interval, false)
            .unwrap();
        self.defined
    }

    pub(crate) fn backlog(&mut self, pod: &str, port: u16) -> u32 {
        let key = SeriesKey::pod(&PodUid::new(pod).unwrap(), Signal::AcceptBacklog(port));
        self.define(key, Duration::from_millis(100))
    }

    pub(crate) fn passive_opens(&mut self, pod: &str) -> u32 {
        let key = SeriesKey::pod(&PodUid::new(pod).unwrap(), Signal::PassiveOpens);
        self.define(key, Duration::from_secs(1))
    }

    pub(crate) fn cpu(&mut self, pod: &str) -> u32 {
        let container = ContainerId::new(&format!("{pod}-app"));
        let key = SeriesKey::container(&PodUid::new(pod).unwrap(), &container, Signal::CpuUsage);
        self.define(key, Duration::from_secs(1))
    }

    /// Says what spools it may read.
    pub(crate) fn spool_roots(&mut self, roots: &[&str]) {
        let roots = roots.iter().map(|root| Arc::from(*root)).collect();
        self.stream.batch().unwrap().spool_roots(roots);
    }

    /// A spool of its node.
    pub(crate) fn spool(&mut self, node: &str, spool: Spool) -> u32 {
        let key = SeriesKey {
            subject: Subject::Node(NodeName::new(node).unwrap()),
            signal: Signal::SpoolFiles(spool),
        };
        self.define(key, Duration::from_secs(1))
    }

    /// Why it cannot read a spool.
    pub(crate) fn spool_problem(&mut self, spool: Spool, problem: &str) {
        let at = self.now();
        let now = self.clock.boottime();
        let mut batch = self.stream.batch().unwrap();
        batch.spool_problem(spool, Some(problem.into()));
        batch.heartbeat(at, now);
    }

    pub(crate) fn gauge(&mut self, id: u32, integral: f64, last: u64) {
        let at = self.now();
        let now = self.clock.boottime();
        let mut batch = self.stream.batch().unwrap();
        batch.gauge(id, at, integral, last, last);
        batch.heartbeat(at, now);
    }

    /// The gauge has this value from now on; its integral follows from the values before.
    pub(crate) fn holds(&mut self, id: u32, value: u64) {
        let now = self.clock.boottime();
        let (since, integral, former) = self.held.get(&id).copied().unwrap_or((now, 0.0, 0));
        let integral = integral + former as f64 * now.since(since).as_secs_f64();
        self.held.insert(id, (now, integral, value));
        self.gauge(id, integral, value);
    }

    pub(crate) fn counter(&mut self, id: u32, value: u64) {
        let at = self.now();
        let now = self.clock.boottime();
        let mut batch = self.stream.batch().unwrap();
        batch.counter(id, at, value, 0);
        batch.heartbeat(at, now);
    }

    pub(crate) fn heartbeat(&mut self) {
        let at = self.now();
        let now = self.clock.boottime();
        self.stream.batch().unwrap().heartbeat(at, now);
    }
}
