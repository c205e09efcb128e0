//! A coordinator that asks for everything, believes everything, and counts.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use neap_load::install_tls_provider;
use neap_proto::node::agent_message::Message;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_server::{NodeService, NodeServiceServer};
use neap_proto::node::{
    AcceptQueue, Ack, AgentMessage, CoordinatorMessage, Directives, LeaderHint, PodDirective,
    SeriesDefinition, SeriesKind,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Runs until it is dropped.
pub(crate) struct Coordinator {
    /// host:port
    pub address: String,
    /// A token, of no meaning here.
    pub token_file: PathBuf,
    /// The CA of its certificate.
    pub ca_file: PathBuf,
    received: watch::Receiver<Received>,
    server: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// What came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pods: HashSet<String>,
    backlogs: HashSet<u32>,
    messages: u64,
    points: u64,
    bytes: u64,
    /// Points of backlogs.
    pub moved: u64,
}

impl Received {
    /// In words, per second.
    pub(crate) fn since(&self, before: &Self, phase: Duration) -> impl fmt::Display {
        let seconds = phase.as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        format!(
            "{:.1} messages/s, {:.0} points/s, {:.1} KiB/s",
            rate(self.messages, before.messages),
            rate(self.points, before.points),
            rate(self.bytes, before.bytes) / 1024.0
        )
    }

    fn take(&mut self, message: &Message) {
        self.messages += 1;
        match message {
            Message::Replay(replay) => self.learn(&replay.defined),
            Message::Samples(samples) => {
                self.learn(&samples.defined);
                self.pods.extend(samples.pods_appeared.iter().cloned());
                self.points += (samples.counters.len() + samples.gauges.len()) as u64;
                self.moved += samples
                    .gauges
                    .iter()
                    .filter(|point| self.backlogs.contains(&point.series))
                    .count() as u64;
            }
            Message::Hello(_) => {}
        }
    }

    fn learn(&mut self, defined: &[SeriesDefinition]) {
        let backlogs = defined
            .iter()
            .filter(|defined| defined.kind() == SeriesKind::AcceptBacklog);
        self.backlogs.extend(backlogs.map(|defined| defined.id));
    }
}

impl Coordinator {
    /// Starts one that wants `all` pods read at 1 s and `port` of `queues` at 10 Hz.
    pub(crate) async fn start(all: &[String], queues: &[String], port: u16) -> Result<Self> {
        install_tls_provider()?;
        let ca_key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key)?;
        let key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(vec!["localhost".into()])?;
        let certificate = leaf.signed_by(&key, &rcgen::Issuer::new(params, ca_key))?;
        let dir = tempfile::tempdir()?;
        let (token_file, ca_file) = (dir.path().join("token"), dir.path().join("ca.crt"));
        std::fs::write(&token_file, "load")?;
        std::fs::write(&ca_file, ca.pem())?;

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("localhost:{}", listener.local_addr()?.port());
        let (sender, received) = watch::channel(Received::default());
        let service = Service {
            directives: directives(all, queues, port),
            address: address.clone(),
            received: Arc::new(sender),
        };
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        let router = Server::builder()
            .tls_config(tls)?
            .add_service(NodeServiceServer::new(service));
        let server = tokio::spawn(async move {
            if let Err(error) = router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
            {
                eprintln!("the test's coordinator ended: {error}");
            }
        });
        Ok(Self {
            address,
            token_file,
            ca_file,
            received,
            server,
            _dir: dir,
        })
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Received {
        self.received.borrow().clone()
    }

    /// Waits until the agent has found all pods.
    pub(crate) async fn wait_for_pods(&mut self, count: usize, patience: Duration) -> Result<()> {
        self.wait("pods", patience, |received| received.pods.len() >= count)
            .await
    }

    /// Waits until the agent reads all queues.
    pub(crate) async fn wait_for_backlogs(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> Result<()> {
        self.wait("accept queues", patience, |received| {
            received.backlogs.len() >= count
        })
        .await
    }

    async fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        enough: impl Fn(&Received) -> bool,
    ) -> Result<()> {
        let waited = tokio::time::timeout(
            patience,
            self.received.wait_for(|received| enough(received)),
        )
        .await;
        let seen =
            waited.with_context(|| format!("not all {what} were seen within {patience:?}"))?;
        seen.context("the stream ended")?;
        Ok(())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn directives(all: &[String], queues: &[String], port: u16) -> Directives {
    let pod = |uid: &String| PodDirective {
        pod_uid: uid.clone(),
        interval_ms: 1_000,
        accept_queues: if queues.contains(uid) {
            vec![AcceptQueue {
                port: port.into(),
                interval_ms: 0,
            }]
        } else {
            Vec::new()
        },
        ..Default::default()
    };
    Directives {
        generation: 1,
        node: None,
        pods: all.iter().map(pod).collect(),
        spools: Vec::new(),
    }
}

#[derive(Clone)]
struct Service {
    directives: Directives,
    address: String,
    received: Arc<watch::Sender<Received>>,
}

#[tonic::async_trait]
impl NodeService for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut up = request.into_inner();
        let (down, answers) = tokio::sync::mpsc::channel(64);
        let hint = LeaderHint {
            is_leader: true,
            leader_address: self.address.clone(),
            term: 1,
            replicas: vec![self.address.clone()],
            address: self.address.clone(),
        };
        let (received, directives) = (self.received.clone(), self.directives.clone());
        tokio::spawn(async move {
            for message in [Down::Leader(hint), Down::Directives(directives)] {
                if down
                    .send(Ok(CoordinatorMessage {
                        message: Some(message),
                    }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            while let Ok(Some(AgentMessage {
                message: Some(message),
            })) = up.message().await
            {
                let size = prost::Message::encoded_len(&AgentMessage {
                    message: Some(message.clone()),
                });
                received.send_modify(|received| {
                    received.take(&message);
                    received.bytes += size as u64;
                });
                if let Message::Samples(samples) = message
                    && samples.sequence % 10 == 0
                {
                    let ack = Down::Ack(Ack {
                        sequence: samples.sequence,
                    });
                    if down
                        .send(Ok(CoordinatorMessage { message: Some(ack) }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
