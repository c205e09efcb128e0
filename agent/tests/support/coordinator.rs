//! A coordinator that does what a test says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use neap_proto::node::agent_message::Message;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_server::{NodeService, NodeServiceServer};
use neap_proto::node::{self, AgentMessage, CoordinatorMessage};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::address::free_address;
use super::pki::Pki;
use super::stream::AgentStream;

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
        Self::start_at(pki, free_address()).await
    }

    pub(crate) async fn start_at(pki: &Pki, listen: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listen.to_string();
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
