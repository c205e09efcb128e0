//! The port that agents connect to.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use neap_proto::node::node_service_server::{NodeService, NodeServiceServer};
use neap_proto::node::{AgentMessage, CoordinatorMessage};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::figures::IngestFigures;
use super::limits::{IngestLimits, StreamSlots};
use super::stream;
use crate::clock::Clock;
use crate::identity::{
    CallerError, ConnectionLimits, Identity, IdentityError, TlsIncoming, TokenError,
};
use crate::leading::Leading;
use crate::signals::{SignalStore, WantedWatch};
use crate::world::World;

/// A connection whose peer does not answer a ping in time is closed: idle streams carry nothing else.
const KEEPALIVE_EACH: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection. An agent opens one.
const STREAMS_PER_CONNECTION: u32 = 8;
/// Messages that wait for a slow agent; then the stream waits, and soon ends.
const OUTBOX: usize = 16;

/// Where coordinators take agents' streams.
#[derive(Clone)]
pub struct Addresses {
    /// Of this coordinator: `neap-coordinator-0.neap-coordinator-peers.neap.svc:9700`.
    pub own: String,
    /// Of the coordinator with this name.
    pub of: Arc<dyn Fn(&str) -> String + Send + Sync>,
    /// The names of the coordinators there are to be: who is asked for until they have met.
    pub expected: Vec<String>,
}

impl Addresses {
    /// Of all coordinators, in the order of `members`.
    pub(super) fn all(&self, members: &[String]) -> Vec<String> {
        let names = if members.is_empty() {
            &self.expected
        } else {
            members
        };
        names.iter().map(|name| (self.of)(name)).collect()
    }
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// What streams need.
#[derive(Debug, Clone)]
pub struct IngestParts {
    /// Certificates and tokens.
    pub identity: Arc<Identity>,
    /// Where samples go.
    pub store: Arc<SignalStore>,
    /// Which pod is bound where.
    pub world: Arc<World>,
    /// What agents are to read.
    pub wanted: WantedWatch,
    /// Who leads, and who may next.
    pub leading: watch::Receiver<Leading>,
    /// Where coordinators are.
    pub addresses: Addresses,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: IngestLimits,
    /// Counts.
    pub figures: Arc<IngestFigures>,
    /// Streams of each node.
    pub slots: StreamSlots,
    /// Ends all streams.
    pub stop: CancellationToken,
}

/// The service behind the port.
#[derive(Debug, Clone)]
pub struct NodeServer {
    parts: Arc<IngestParts>,
}

impl NodeServer {
    /// Serves with these parts.
    pub fn new(parts: IngestParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }
}

/// Serves agents on `listener` until `parts.stop` is cancelled.
///
/// # Errors
/// Why the server could not start, or ended by itself.
pub async fn serve(listener: TcpListener, parts: IngestParts) -> Result<(), ServeError> {
    let tls = parts.identity.node_server_tls()?;
    let incoming = TlsIncoming::new(listener, tls, ConnectionLimits::default());
    let (stop, message_bytes) = (parts.stop.clone(), parts.limits.message_bytes);
    let service =
        NodeServiceServer::new(NodeServer::new(parts)).max_decoding_message_size(message_bytes);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EACH))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}

/// Why the port for agents is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The server ended.
    #[error("the server for agents ended: {0}")]
    Transport(#[from] tonic::transport::Error),
}

#[tonic::async_trait]
impl NodeService for NodeServer {
    type ConnectStream = BoxStream<'static, Result<CoordinatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let figures = &self.parts.figures;
        let token = bearer_token(&request)
            .ok_or(TokenError::Missing)
            .map_err(|error| {
                IngestFigures::add(&figures.unauthenticated, 1);
                Status::unauthenticated(error.to_string())
            })?;
        let caller = self.parts.identity.verify(&token).await.map_err(|error| match error {
            CallerError::Token(error) => {
                IngestFigures::add(&figures.unauthenticated, 1);
                tracing::warn!(peer = ?request.remote_addr(), %error, "an agent's stream is refused");
                Status::unauthenticated(error.to_string())
            }
            CallerError::Keys(error) => {
                tracing::warn!(%error, "an agent's token cannot be checked");
                Status::unavailable(error.to_string())
            }
        })?;
        let (send, outbox) = mpsc::channel(OUTBOX);
        let opening = stream::Opening {
            parts: self.parts.clone(),
            caller,
            token,
            outbox: send,
        };
        tokio::spawn(opening.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }
}

fn bearer_token<T>(request: &Request<T>) -> Option<Arc<str>> {
    let value = request.metadata().get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().into())
}
