//! Calls to other members.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use neap_proto::peer as pb;
use neap_proto::peer::peer_client::PeerClient;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use super::tls::TlsSource;
use super::transport::Transport;
use super::wire;
use crate::codec::Record;
use crate::node::Node;
use crate::types::{Peer, Snapshot, TypeConfig, Vote};

/// Connecting takes one round trip and a handshake; a member that does not answer for this long is
/// tried again rather than waited for, so that a healed network is found soon.
const CONNECT: Duration = Duration::from_millis(500);
/// A connection without life for this long is given up, so that one that the network swallowed
/// does not hold calls back until TCP gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Wait before another call to a member that cannot be reached.
const BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of a snapshot or a table in one message.
pub(super) const CHUNK: usize = 256 << 10;
/// Largest message: one entry with the largest command, or a batch of small ones.
pub(super) const MAX_MESSAGE: usize = crate::config::Config::MAX_COMMAND + (4 << 20);
/// Name of the metadata in which a member that refuses a message tells its own cluster.
pub(super) const CLUSTER_HEADER: &str = "neap-cluster";
/// Connections kept at most, for members that come and go.
const KEPT: usize = 64;

/// A call that gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The member cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The member answered with an error.
    #[error("refused: {0}")]
    Refused(String),
}

/// What a connection is for. A snapshot on its way must not hold up a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Calls,
    Bulk,
}

/// One kept connection per member and lane, made when it is first used.
#[derive(Clone)]
pub(crate) struct Channels(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    tls: Option<Arc<TlsSource>>,
    kept: Mutex<BTreeMap<(String, Lane), Channel>>,
}

impl Channels {
    /// Without `tls` (simulations only) the streams are plain.
    pub(crate) fn new(transport: Arc<dyn Transport>, tls: Option<Arc<TlsSource>>) -> Self {
        Self(Arc::new(Inner {
            transport,
            tls,
            kept: Mutex::default(),
        }))
    }

    fn client(&self, address: &str, lane: Lane) -> PeerClient<Channel> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            // Members that still matter are connected to again at their next call.
            kept.clear();
        }
        let key = (address.to_owned(), lane);
        let channel = kept
            .entry(key)
            .or_insert_with(|| self.channel(address))
            .clone();
        PeerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn channel(&self, address: &str) -> Channel {
        let inner = self.0.clone();
        let address: Arc<str> = address.into();
        let connect = tower::service_fn(move |_: Uri| {
            let inner = inner.clone();
            let address = address.clone();
            async move {
                let connected = tokio::time::timeout(CONNECT, async {
                    let io = inner.transport.connect(address.to_string()).await?;
                    match &inner.tls {
                        Some(tls) => tls.connect(&address, io).await,
                        None => Ok(io),
                    }
                });
                let io = connected
                    .await
                    .map_err(|_| std::io::ErrorKind::TimedOut)??;
                Ok::<_, std::io::Error>(TokioIo::new(io))
            }
        });
        // The connector knows where to go; the URI only has to be one.
        Endpoint::from_static("http://peer")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect)
    }

    /// Asks who is at `address`.
    pub(crate) async fn identify(
        &self,
        address: &str,
        name: String,
        within: Duration,
    ) -> Result<pb::IdentifyReply, CallError> {
        let mut client = self.client(address, Lane::Calls);
        bounded(within, client.identify(pb::IdentifyRequest { name })).await
    }

    /// Asks the member at `address` to be taken in.
    pub(crate) async fn join(
        &self,
        address: &str,
        request: pb::JoinRequest,
        within: Duration,
    ) -> Result<pb::JoinReply, CallError> {
        let mut client = self.client(address, Lane::Calls);
        bounded(within, client.join(request)).await
    }

    /// Asks the member at `address` to remove the one that asks.
    pub(crate) async fn leave(
        &self,
        address: &str,
        request: pb::LeaveRequest,
        within: Duration,
    ) -> Result<pb::LeaveReply, CallError> {
        let mut client = self.client(address, Lane::Calls);
        bounded(within, client.leave(request)).await
    }

    /// Gives the leader's table to the member at `address`.
    pub(crate) async fn share(
        &self,
        address: &str,
        head: pb::ShareHead,
        table: Bytes,
        within: Duration,
    ) -> Result<(), CallError> {
        use pb::share_chunk::Part;
        let mut client = self.client(address, Lane::Bulk);
        let head = pb::ShareChunk {
            part: Some(Part::Head(head)),
        };
        let data = chunks(table).map(|data| pb::ShareChunk {
            part: Some(Part::Data(data)),
        });
        let chunks = futures::stream::iter(std::iter::once(head).chain(data));
        bounded(within, client.share(chunks))
            .await
            .map(|pb::ShareReply {}| ())
    }
}

fn chunks(data: Bytes) -> impl Iterator<Item = Vec<u8>> + Send {
    let starts = (0..data.len()).step_by(CHUNK);
    starts.map(move |start| data.slice(start..data.len().min(start + CHUNK)).to_vec())
}

async fn bounded<T>(
    within: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status, within)),
        Err(_) => Err(CallError::Timeout(within)),
    }
}

fn from_status(status: &Status, within: Duration) -> CallError {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => CallError::Timeout(within),
        // `Unknown` is what the transport gives for a connection that broke under the call.
        Code::Unavailable | Code::Unknown => CallError::Unreachable(status.message().to_owned()),
        _ => CallError::Refused(status.message().to_owned()),
    }
}

/// Makes openraft's clients.
pub(crate) struct Factory {
    node: Arc<Node>,
    channels: Channels,
    cluster: String,
    id: u64,
}

impl Factory {
    pub(crate) fn new(node: Arc<Node>, channels: Channels, cluster: String, id: u64) -> Self {
        Self {
            node,
            channels,
            cluster,
            id,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Client {
        Client {
            node: self.node.clone(),
            channels: self.channels.clone(),
            address: peer.address.clone(),
            route: pb::Route {
                cluster: self.cluster.clone(),
                from: self.id,
                to: target,
            },
        }
    }
}

/// Openraft's calls to one member.
pub(crate) struct Client {
    node: Arc<Node>,
    channels: Channels,
    address: String,
    route: pb::Route,
}

type Rpc = RPCError<TypeConfig>;

impl Client {
    fn client(&self, lane: Lane) -> PeerClient<Channel> {
        self.channels.client(&self.address, lane)
    }

    async fn call<T>(
        &self,
        action: RPCTypes,
        within: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Rpc> {
        let error = match tokio::time::timeout(within, call).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => {
                if let Some(cluster) = status.metadata().get(CLUSTER_HEADER) {
                    self.node.see_cluster(cluster.to_str().unwrap_or_default());
                }
                from_status(&status, within)
            }
            Err(_) => CallError::Timeout(within),
        };
        Err(match error {
            CallError::Timeout(timeout) => Rpc::Timeout(Timeout {
                action,
                id: self.route.from,
                target: self.route.to,
                timeout,
            }),
            // A member that refuses goes on refusing; openraft backs off from the unreachable.
            error => Rpc::Unreachable(Unreachable::new(&error)),
        })
    }
}

fn garbled(error: &wire::WireError) -> Rpc {
    Rpc::Network(NetworkError::new(error))
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Rpc> {
        let request = wire::from_append_request(&rpc, self.route.clone());
        let request = request.map_err(|error| garbled(&error))?;
        let mut client = self.client(Lane::Calls);
        let call = client.append(request);
        let reply = self
            .call(RPCTypes::AppendEntries, option.soft_ttl(), call)
            .await?;
        wire::to_append_response(reply).map_err(|error| garbled(&error))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        let mut client = self.client(Lane::Calls);
        let call = client.vote(wire::from_vote_request(&rpc, self.route.clone()));
        let reply = self.call(RPCTypes::Vote, option.soft_ttl(), call).await?;
        wire::to_vote_response(reply).map_err(|error| garbled(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        let mut client = self.client(Lane::Calls);
        let call = client.pre_vote(wire::from_vote_request(&rpc, self.route.clone()));
        let reply = self.call(RPCTypes::Vote, option.soft_ttl(), call).await?;
        wire::to_vote_response(reply).map_err(|error| garbled(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        use pb::snapshot_chunk::Part;
        let meta = snapshot.meta.to_bytes();
        let meta = meta.map_err(|error| NetworkError::<TypeConfig>::new(&error))?;
        let head = pb::SnapshotChunk {
            part: Some(Part::Head(pb::SnapshotHead {
                route: Some(self.route.clone()),
                vote: Some(wire::from_vote(&vote)),
                meta,
                size: snapshot.snapshot.len() as u64,
                crc: crc32fast::hash(&snapshot.snapshot),
            })),
        };
        let data = chunks(snapshot.snapshot).map(|data| pb::SnapshotChunk {
            part: Some(Part::Data(data)),
        });
        let chunks = futures::stream::iter(std::iter::once(head).chain(data));
        let mut client = self.client(Lane::Bulk);
        let call = client.snapshot(chunks);
        let reply = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = self.call(RPCTypes::InstallSnapshot, option.soft_ttl(), call) => reply?,
        };
        let vote = wire::to_vote(reply.vote, "SnapshotReply.vote");
        Ok(SnapshotResponse::new(
            vote.map_err(|error| garbled(&error))?,
        ))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Rpc> {
        use pb::transfer_leader_reply::Outcome;
        let mut client = self.client(Lane::Calls);
        let call = client.transfer_leader(wire::from_transfer_request(&req, self.route.clone()));
        let reply = self
            .call(RPCTypes::TransferLeader, option.soft_ttl(), call)
            .await?;
        Ok(match reply.outcome {
            Some(Outcome::Taken(_)) => Ok(()),
            other => {
                tracing::info!(to = self.route.to, ?other, "leadership was not taken over");
                Err(TransferLeaderError::LogNotFlushed {
                    expected: req.last_log_id().copied(),
                    actual: None,
                })
            }
        })
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
