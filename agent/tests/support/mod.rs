//! A coordinator that does what a test says, an agent in this process, and a cgroup tree of files.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod kernel;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use neap_agent::Config;
use neap_proto::node::agent_message::Message;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_server::{NodeService, NodeServiceServer};
use neap_proto::node::{
    self, AgentMessage, CoordinatorMessage, Directives, Hello, LeaderHint, SeriesKind,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// A CA, a server certificate and a token, in files.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
    certificate: String,
    key: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "neap-ca");
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        let pki = Self {
            dir: tempfile::tempdir().unwrap(),
            certificate,
            key: key.serialize_pem(),
        };
        pki.put_ca(&ca.pem());
        pki.put_token("first-token");
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As a kubelet does it: the new file replaces the old one at once.
    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path("next"), content).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    pub(crate) fn put_token(&self, token: &str) {
        self.put("token", token);
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.path("ca.crt")).unwrap()
    }

    pub(crate) fn put_ca(&self, ca: &str) {
        self.put("ca.crt", ca);
    }

    pub(crate) fn take_ca(&mut self) -> String {
        let ca = self.ca();
        std::fs::remove_file(self.path("ca.crt")).unwrap();
        ca
    }
}

/// One cgroup2 tree with one pod of one container.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) const POD: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";

    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let tree = Self(root);
        std::fs::create_dir_all(tree.container()).unwrap();
        tree
    }

    /// Of an agent that reads it.
    pub(crate) fn flags(&self) -> [String; 2] {
        [
            format!("--cgroup-root={}", self.0.path().display()),
            "--profile=restricted".into(),
        ]
    }

    fn container(&self) -> PathBuf {
        self.0
            .path()
            .join("kubepods")
            .join(format!("pod{}", Self::POD))
            .join("ab".repeat(32))
    }

    pub(crate) fn set_usage(&self, usage: u64) {
        std::fs::write(
            self.container().join("cpu.stat"),
            format!("usage_usec {usage}\n"),
        )
        .unwrap();
    }
}

/// Where an agent serves /metrics and the probes.
#[derive(Clone, Copy)]
pub(crate) struct Pages(SocketAddr);

impl Pages {
    /// At a port that was free a moment ago: the agent binds it by number, as it does in a pod.
    fn somewhere() -> Self {
        Self(
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap(),
        )
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut connection) = tokio::net::TcpStream::connect(self.0).await else {
            return (0, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let status = answer
            .split_whitespace()
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap();
        (status, answer)
    }

    /// Waits until a metric is as wanted.
    pub(crate) async fn metric(
        &self,
        name: &str,
        patience: Duration,
        wanted: impl Fn(f64) -> bool,
    ) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = tokio::time::timeout(patience, async {
            loop {
                tick.tick().await;
                let (_, text) = self.get("/metrics").await;
                let value = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
                if value.is_some_and(&wanted) {
                    return;
                }
            }
        });
        assert!(
            reached.await.is_ok(),
            "{name} is not as wanted within {patience:?}"
        );
    }
}

/// The agent, running in this process.
pub(crate) struct Agent {
    pages: Pages,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), neap_agent::Error>>,
}

impl std::ops::Deref for Agent {
    type Target = Pages;
    fn deref(&self) -> &Pages {
        &self.pages
    }
}

impl Agent {
    /// On a tree of files.
    pub(crate) fn start(pki: &Pki, tree: &Tree, coordinator: &str) -> Self {
        Self::with(pki, coordinator, &tree.flags())
    }

    /// On the cgroups of this machine, as far as they lie below a kubelet's cgroupRoot.
    pub(crate) fn on_this_node(pki: &Pki, kubelet_root: &str, coordinator: &str) -> Self {
        Self::with(
            pki,
            coordinator,
            &[format!("--kubelet-cgroup-root={kubelet_root}")],
        )
    }

    pub(crate) fn with(pki: &Pki, coordinator: &str, flags: &[String]) -> Self {
        let pages = Pages::somewhere();
        let config = Config::parse_from(arguments(pki, coordinator, pages, flags));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(neap_agent::run(config, shutdown.clone()));
        Self {
            pages,
            shutdown,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn arguments(pki: &Pki, coordinator: &str, pages: Pages, flags: &[String]) -> Vec<String> {
    let own = [
        "neap-agent".into(),
        format!("--coordinator={coordinator}"),
        format!("--token-file={}", pki.path("token").display()),
        format!("--ca-file={}", pki.path("ca.crt").display()),
        "--node-name=node-1".into(),
        format!("--http-listen={}", pages.0),
    ];
    own.into_iter().chain(flags.iter().cloned()).collect()
}

/// The agent as a process of its own.
pub(crate) struct AgentProcess {
    child: std::process::Child,
    pub(crate) pages: Pages,
}

impl AgentProcess {
    pub(crate) fn start(program: &str, pki: &Pki, flags: &[String], coordinator: &str) -> Self {
        let pages = Pages::somewhere();
        let arguments = arguments(pki, coordinator, pages, flags);
        let child = std::process::Command::new(program)
            .args(arguments.iter().skip(1))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, pages }
    }

    /// Ends it and gives all that it logged.
    pub(crate) fn end(mut self) -> String {
        use std::io::Read;
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }

    fn links(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        entries
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .collect()
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        self.links().len()
    }

    /// Network namespaces held by descriptors of namespace files.
    pub(crate) fn namespaces(&self) -> usize {
        self.links()
            .iter()
            .filter(|link| link.to_string_lossy().starts_with("net:["))
            .count()
    }

    pub(crate) async fn wait_for_descriptors(
        &self,
        patience: Duration,
        wanted: impl Fn(usize) -> bool,
    ) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = tokio::time::timeout(patience, async {
            while !wanted(self.descriptors()) {
                tick.tick().await;
            }
        });
        assert!(reached.await.is_ok(), "still open: {:?}", self.links());
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One replica.
pub(crate) struct Coordinator {
    pub(crate) address: String,
    listen: SocketAddr,
    streams: mpsc::UnboundedReceiver<AgentStream>,
    refuse: Arc<AtomicBool>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    address: String,
    streams: mpsc::UnboundedSender<AgentStream>,
    refuse: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Coordinator {
    pub(crate) async fn start(pki: &Pki) -> Self {
        Self::start_at(pki, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(pki: &Pki, listen: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let listen = listener.local_addr().unwrap();
        let address = format!("localhost:{}", listen.port());
        let (sender, streams) = mpsc::unbounded_channel();
        let refuse = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let service = Service {
            address: address.clone(),
            streams: sender,
            refuse: refuse.clone(),
            stop: stop.clone(),
        };
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pki.certificate, &pki.key));
        let mut builder = Server::builder().tls_config(tls).unwrap();
        let router = builder.add_service(NodeServiceServer::new(service));
        let shutdown = stop.clone();
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            router
                .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
                .await
                .unwrap();
        });
        Self {
            address,
            listen,
            streams,
            refuse,
            stop,
            server,
        }
    }

    pub(crate) async fn accept(&mut self, patience: Duration) -> AgentStream {
        tokio::time::timeout(patience, self.streams.recv())
            .await
            .expect("no stream came")
            .unwrap()
    }

    pub(crate) fn accepted_nothing(&mut self) -> bool {
        self.streams.try_recv().is_err()
    }

    pub(crate) fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Ends all streams and frees the port.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.stop.cancel();
        self.server.await.unwrap();
        self.listen
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Status::permission_denied("not for this node"));
        }
        let authorization = request
            .metadata()
            .get("authorization")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut up = request.into_inner();
        let Some(Message::Hello(hello)) = up.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (down, answers) = mpsc::unbounded_channel();
        let (received, messages) = mpsc::unbounded_channel();
        let (acks, stop) = (down.clone(), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => break,
                    message = up.message() => message,
                };
                let Ok(Some(AgentMessage {
                    message: Some(message),
                })) = message
                else {
                    break;
                };
                if let Message::Samples(samples) = &message {
                    let ack = node::Ack {
                        sequence: samples.sequence,
                    };
                    let _ = acks.send(Ok(CoordinatorMessage {
                        message: Some(Down::Ack(ack)),
                    }));
                }
                let _ = received.send(message);
            }
            let _ = acks.send(Err(Status::unavailable("the test ended the stream")));
        });
        let address = self.address.clone();
        let _ = self.streams.send(AgentStream {
            authorization,
            hello,
            address,
            down,
            messages,
            values: HashMap::new(),
            definitions: Vec::new(),
            problems: Vec::new(),
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            answers,
        ))))
    }
}

/// One stream of an agent, as the coordinator sees it.
pub(crate) struct AgentStream {
    pub(crate) authorization: String,
    pub(crate) hello: Hello,
    address: String,
    down: mpsc::UnboundedSender<Result<CoordinatorMessage, Status>>,
    messages: mpsc::UnboundedReceiver<Message>,
    values: HashMap<u32, (SeriesKind, Option<u64>)>,
    definitions: Vec<node::SeriesDefinition>,
    pub(crate) problems: Vec<node::SpoolProblem>,
}

impl AgentStream {
    pub(crate) fn hint(&self, hint: LeaderHint) {
        let _ = self.down.send(Ok(CoordinatorMessage {
            message: Some(Down::Leader(hint)),
        }));
    }

    pub(crate) fn lead(&self, term: u64, replicas: &[&str]) {
        self.hint(LeaderHint {
            is_leader: true,
            leader_address: self.address.clone(),
            term,
            replicas: replicas
                .iter()
                .map(|replica| (*replica).to_owned())
                .collect(),
            address: self.address.clone(),
        });
    }

    pub(crate) fn direct(&self, directives: Directives) {
        let _ = self.down.send(Ok(CoordinatorMessage {
            message: Some(Down::Directives(directives)),
        }));
    }

    /// The next message; what it defines is remembered.
    pub(crate) async fn next(&mut self, patience: Duration) -> Message {
        let next = tokio::time::timeout(patience, self.messages.recv());
        let message = next
            .await
            .expect("no message came")
            .expect("the stream ended");
        let defined = match &message {
            Message::Samples(samples) => &samples.defined,
            Message::Replay(replay) => &replay.defined,
            Message::Hello(_) => panic!("a second hello"),
        };
        for defined in defined {
            self.values.insert(defined.id, (defined.kind(), None));
        }
        self.definitions.extend(defined.iter().cloned());
        if let Message::Samples(samples) = &message {
            self.problems.extend(samples.spool_problems.iter().cloned());
        }
        let points: Vec<(u32, u64)> = match &message {
            Message::Samples(samples) => {
                let counters = samples
                    .counters
                    .iter()
                    .map(|point| (point.series, point.value));
                counters
                    .chain(
                        samples
                            .gauges
                            .iter()
                            .map(|point| (point.series, point.last)),
                    )
                    .collect()
            }
            Message::Replay(replay) => {
                let last =
                    |series: &node::ReplaySeries| Some((series.series, *series.values.last()?));
                replay.series.iter().filter_map(last).collect()
            }
            Message::Hello(_) => Vec::new(),
        };
        for (id, value) in points {
            self.values
                .get_mut(&id)
                .expect("a point of a series that was not defined")
                .1 = Some(value);
        }
        message
    }

    pub(crate) fn received_nothing(&mut self) -> bool {
        self.messages.try_recv().is_err()
    }

    pub(crate) async fn samples(&mut self, patience: Duration) -> node::Samples {
        loop {
            if let Message::Samples(samples) = self.next(patience).await {
                return samples;
            }
        }
    }

    /// Waits for a point of this value, in samples or in the history.
    pub(crate) async fn point(&mut self, kind: SeriesKind, value: u64, patience: Duration) {
        self.value(kind, patience, |found| found == value).await;
    }

    /// Waits until the last value of a series of this kind is as wanted.
    pub(crate) async fn value(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
        wanted: impl Fn(u64) -> bool,
    ) {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(patience, async {
            loop {
                let of_kind = self.values.values().filter(|(found, _)| *found == kind);
                seen = of_kind.filter_map(|(_, value)| *value).collect();
                if seen.iter().copied().any(&wanted) {
                    return;
                }
                self.next(patience).await;
            }
        });
        assert!(
            found.await.is_ok(),
            "no {kind:?} as wanted within {patience:?}, but {seen:?}"
        );
    }

    /// Waits for a definition that has not been returned yet.
    pub(crate) async fn defined(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
    ) -> node::SeriesDefinition {
        let found = tokio::time::timeout(patience, async {
            loop {
                if let Some(at) = self
                    .definitions
                    .iter()
                    .position(|defined| defined.kind() == kind)
                {
                    return self.definitions.remove(at);
                }
                self.next(patience).await;
            }
        });
        found.await.expect("no such series was defined")
    }

    /// Waits for a problem of a spool that was not returned yet.
    pub(crate) async fn problem(&mut self, patience: Duration, text: &str) {
        let found = tokio::time::timeout(patience, async {
            loop {
                let at = self
                    .problems
                    .iter()
                    .position(|problem| problem.problem.contains(text));
                if let Some(at) = at {
                    return self.problems.remove(at);
                }
                self.next(patience).await;
            }
        });
        found.await.expect("no such problem was told");
    }

    /// Waits for a listener to be reported.
    pub(crate) async fn listening(&mut self, patience: Duration) -> node::PortListening {
        loop {
            if let Some(listening) = self.samples(patience).await.listening.pop() {
                return listening;
            }
        }
    }

    /// Takes what has come, and gives the pods that have a series of this kind by now.
    pub(crate) async fn pods_with(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
    ) -> HashSet<String> {
        while !self.messages.is_empty() {
            self.next(patience).await;
        }
        let of_kind = self
            .definitions
            .iter()
            .filter(|defined| defined.kind() == kind);
        of_kind.map(|defined| defined.pod_uid.clone()).collect()
    }

    pub(crate) async fn ended(&mut self, patience: Duration) {
        let ended = tokio::time::timeout(patience, async {
            while self.messages.recv().await.is_some() {}
        });
        assert!(ended.await.is_ok(), "the stream goes on");
    }
}
