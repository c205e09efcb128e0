//! A coordinator that does what a test says, an agent in this process, and a cgroup tree of files.

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
use neap_proto::node::{self, AgentMessage, CoordinatorMessage, Directives, Hello, LeaderHint, SeriesKind};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// A CA, a server certificate and a token, in files.
pub struct Pki {
    dir: tempfile::TempDir,
    certificate: String,
    key: String,
}

impl Pki {
    pub fn new() -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "neap-ca");
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        let pki = Self { dir: tempfile::tempdir().unwrap(), certificate, key: key.serialize_pem() };
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

    pub fn put_token(&self, token: &str) {
        self.put("token", token);
    }

    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.path("ca.crt")).unwrap()
    }

    pub fn put_ca(&self, ca: &str) {
        self.put("ca.crt", ca);
    }

    pub fn take_ca(&mut self) -> String {
        let ca = self.ca();
        std::fs::remove_file(self.path("ca.crt")).unwrap();
        ca
    }
}

/// One cgroup2 tree with one pod of one container.
pub struct Tree(tempfile::TempDir);

impl Tree {
    pub const POD: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";

    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let tree = Self(root);
        std::fs::create_dir_all(tree.container()).unwrap();
        tree
    }

    fn container(&self) -> PathBuf {
        self.0.path().join("kubepods").join(format!("pod{}", Self::POD)).join("ab".repeat(32))
    }

    pub fn set_usage(&self, usage: u64) {
        std::fs::write(self.container().join("cpu.stat"), format!("usage_usec {usage}\n")).unwrap();
    }
}

/// The agent, running in this process.
pub struct Agent {
    http: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), neap_agent::Error>>,
}

impl Agent {
    pub fn start(pki: &Pki, tree: &Tree, coordinator: &str) -> Self {
        // A port that was free a moment ago: the agent binds it by number, as it does in a pod.
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let config = Config::parse_from([
            "neap-agent".into(),
            format!("--coordinator={coordinator}"),
            format!("--token-file={}", path(pki.path("token"))),
            format!("--ca-file={}", path(pki.path("ca.crt"))),
            "--node-name=node-1".into(),
            format!("--cgroup-root={}", path(tree.0.path().to_owned())),
            format!("--http-listen={http}"),
            "--profile=restricted".into(),
        ]);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(neap_agent::run(config, shutdown.clone()));
        Self { http, shutdown, task }
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut connection) = tokio::net::TcpStream::connect(self.http).await else { return (0, String::new()) };
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer)
    }

    /// Waits until a metric is as wanted.
    pub async fn metric(&self, name: &str, patience: Duration, wanted: impl Fn(f64) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = tokio::time::timeout(patience, async {
            loop {
                tick.tick().await;
                let (_, text) = self.get("/metrics").await;
                let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
                if value.is_some_and(&wanted) {
                    return;
                }
            }
        });
        assert!(reached.await.is_ok(), "{name} is not as wanted within {patience:?}");
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// One replica.
pub struct Coordinator {
    pub address: String,
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
    pub async fn start(pki: &Pki) -> Self {
        Self::start_at(pki, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(pki: &Pki, listen: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let listen = listener.local_addr().unwrap();
        let address = format!("localhost:{}", listen.port());
        let (sender, streams) = mpsc::unbounded_channel();
        let refuse = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let service =
            Service { address: address.clone(), streams: sender, refuse: refuse.clone(), stop: stop.clone() };
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pki.certificate, &pki.key));
        let mut builder = Server::builder().tls_config(tls).unwrap();
        let router = builder.add_service(NodeServiceServer::new(service));
        let shutdown = stop.clone();
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await.unwrap();
        });
        Self { address, listen, streams, refuse, stop, server }
    }

    pub async fn accept(&mut self, patience: Duration) -> AgentStream {
        tokio::time::timeout(patience, self.streams.recv()).await.expect("no stream came").unwrap()
    }

    pub fn accepted_nothing(&mut self) -> bool {
        self.streams.try_recv().is_err()
    }

    pub fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Ends all streams and frees the port.
    pub async fn stop(self) -> SocketAddr {
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
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let mut up = request.into_inner();
        let Some(Message::Hello(hello)) = up.message().await?.and_then(|first| first.message) else {
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
                let Ok(Some(AgentMessage { message: Some(message) })) = message else { break };
                if let Message::Samples(samples) = &message {
                    let ack = node::Ack { sequence: samples.sequence };
                    let _ = acks.send(Ok(CoordinatorMessage { message: Some(Down::Ack(ack)) }));
                }
                let _ = received.send(message);
            }
            let _ = acks.send(Err(Status::unavailable("the test ended the stream")));
        });
        let address = self.address.clone();
        let _ = self.streams.send(AgentStream { authorization, hello, address, down, messages, ids: Vec::new() });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }
}

/// One stream of an agent, as the coordinator sees it.
pub struct AgentStream {
    pub authorization: String,
    pub hello: Hello,
    address: String,
    down: mpsc::UnboundedSender<Result<CoordinatorMessage, Status>>,
    messages: mpsc::UnboundedReceiver<Message>,
    ids: Vec<(u32, SeriesKind)>,
}

impl AgentStream {
    pub fn hint(&self, hint: LeaderHint) {
        let _ = self.down.send(Ok(CoordinatorMessage { message: Some(Down::Leader(hint)) }));
    }

    pub fn lead(&self, term: u64, replicas: &[&str]) {
        self.hint(LeaderHint {
            is_leader: true,
            leader_address: self.address.clone(),
            term,
            replicas: replicas.iter().map(|replica| (*replica).to_owned()).collect(),
            address: self.address.clone(),
        });
    }

    pub fn direct(&self, directives: Directives) {
        let _ = self.down.send(Ok(CoordinatorMessage { message: Some(Down::Directives(directives)) }));
    }

    pub async fn next(&mut self, patience: Duration) -> Message {
        tokio::time::timeout(patience, self.messages.recv()).await.expect("no message came").expect("the stream ended")
    }

    pub fn received_nothing(&mut self) -> bool {
        self.messages.try_recv().is_err()
    }

    pub async fn samples(&mut self, patience: Duration) -> node::Samples {
        loop {
            match self.next(patience).await {
                Message::Samples(samples) => {
                    self.learn(&samples.defined);
                    return samples;
                }
                Message::Replay(replay) => self.learn(&replay.defined),
                Message::Hello(_) => panic!("a second hello"),
            }
        }
    }

    fn learn(&mut self, defined: &[node::SeriesDefinition]) {
        self.ids.extend(defined.iter().map(|defined| (defined.id, defined.kind())));
    }

    /// Waits for a point of a counter, in samples or in the history.
    pub async fn point(&mut self, kind: SeriesKind, value: u64, patience: Duration) {
        let found = tokio::time::timeout(patience, async {
            loop {
                let points: Vec<(u32, u64)> = match self.next(patience).await {
                    Message::Samples(samples) => {
                        self.learn(&samples.defined);
                        samples.counters.iter().map(|point| (point.series, point.value)).collect()
                    }
                    Message::Replay(replay) => {
                        self.learn(&replay.defined);
                        let last = |series: &node::ReplaySeries| Some((series.series, *series.values.last()?));
                        replay.series.iter().filter_map(last).collect()
                    }
                    Message::Hello(_) => panic!("a second hello"),
                };
                if points.iter().any(|(id, found)| *found == value && self.ids.contains(&(*id, kind))) {
                    return;
                }
            }
        });
        assert!(found.await.is_ok(), "no point {kind:?} = {value} came within {patience:?}");
    }

    pub async fn ended(&mut self, patience: Duration) {
        let ended = tokio::time::timeout(patience, async { while self.messages.recv().await.is_some() {} });
        assert!(ended.await.is_ok(), "the stream goes on");
    }
}
