//! Answers to other members.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use neap_proto::peer as pb;
use neap_proto::peer::peer_server::{Peer, PeerServer};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::client::{CLUSTER_HEADER, MAX_MESSAGE};
use super::connection::{Connection, Origin};
use super::tls::TlsSource;
use super::transport::Listener;
use super::wire;
use crate::codec::Record;
use crate::membership;
use crate::node::{Heard, Member, Node, Shared};
use crate::position::{LeaderId, NodeId};
use crate::types::{Snapshot, SnapshotMeta};

/// A handshake that takes longer is dropped.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Handshakes that may run at once; further connections wait in the listener's queue.
const HANDSHAKES: usize = 32;
/// A connection without life for this long is closed; see the client's side.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Largest snapshot and largest table taken, in bytes.
const MAX_TRANSFER: u64 = 512 << 20;
/// A refused handshake is told of so often at most.
const TELL_EACH: Duration = Duration::from_secs(10);
/// At shutdown, calls may take this long to end.
const DRAIN: Duration = Duration::from_millis(500);

/// Serves until the member is cancelled.
pub(crate) async fn serve(
    node: Arc<Node>,
    mut listener: Box<dyn Listener>,
    tls: Option<Arc<TlsSource>>,
) {
    // One ready connection may wait for the server while others shake hands.
    let (ready, incoming) = mpsc::channel::<Result<Connection, std::io::Error>>(1);
    let refusals = Arc::new(Refusals::default());
    let accepting = {
        let node = node.clone();
        async move {
            let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
            loop {
                let Ok(permit) = handshakes.clone().acquire_owned().await else {
                    return;
                };
                let io = tokio::select! {
                    io = listener.accept() => io,
                    () = node.cancel.cancelled() => return,
                };
                let io = match io {
                    Ok(io) => io,
                    Err(error) => {
                        // Out of descriptors, mostly: trying again at once would spin.
                        tracing::warn!(%error, "cannot take in a peer connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (tls, ready, lost) = (tls.clone(), ready.clone(), node.lost.clone());
                let refusals = refusals.clone();
                node.tasks.spawn(async move {
                    let _permit = permit;
                    let io = match tls {
                        None => io,
                        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(io)).await {
                            Ok(Ok(io)) => io,
                            Ok(Err(error)) => {
                                refusals.tell(&error);
                                return;
                            }
                            Err(_) => return,
                        },
                    };
                    drop(ready.send(Ok(Connection::new(io, lost))).await);
                });
            }
        }
    };
    node.tasks.spawn(accepting);

    let service = PeerServer::new(Service { node: node.clone() })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            node.cancel.clone().cancelled_owned(),
        );
    let drained = async {
        node.cancel.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                node.stop(format!("the peer network ended: {error}"));
            }
        }
        () = drained => {}
    }
}

/// Tells the log of handshakes that failed: a peer with a certificate that is not trusted comes again ten
/// times a second.
#[derive(Default)]
struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    fn tell(&self, error: &dyn std::fmt::Display) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() > TELL_EACH) {
            *told = Some(Instant::now());
            tracing::warn!(%error, "peer connection refused; further ones are not told of for {TELL_EACH:?}");
        }
    }
}

struct Service {
    node: Arc<Node>,
}

impl Service {
    /// The member, where the message is of its cluster and for it.
    fn route<T>(
        &self,
        request: &Request<T>,
        route: Option<&pb::Route>,
    ) -> Result<&Member, Box<Status>> {
        let route = route.ok_or_else(|| Status::invalid_argument("field route: is missing"))?;
        let member = self.member()?;
        if route.cluster != member.identity.cluster {
            self.node.see_cluster(&route.cluster);
            let ours = &member.identity.cluster;
            let reason = format!("this member is of cluster {ours}, not {}", route.cluster);
            let mut status = Status::failed_precondition(reason);
            if let Ok(value) = ours.parse() {
                status.metadata_mut().insert(CLUSTER_HEADER, value);
            }
            return Err(Box::new(status));
        }
        if route.to != 0 && route.to != member.identity.node {
            let reason = format!("this is member {}, not {}", member.identity.node, route.to);
            return Err(Box::new(Status::failed_precondition(reason)));
        }
        if let Some(origin) = request.extensions().get::<Origin>() {
            origin.set(route.from);
        }
        Ok(member)
    }

    fn member(&self) -> Result<&Member, Box<Status>> {
        if let Some(reason) = self.node.stop_reason() {
            return Err(Box::new(Status::unavailable(format!(
                "this member has stopped: {reason}"
            ))));
        }
        let member = self.node.member();
        member.ok_or_else(|| Box::new(Status::unavailable("this member is in no cluster yet")))
    }

    /// Refuses a vote while an earlier promise not to give one may still run.
    fn may_vote(&self, member: &Member, transfer: bool) -> Result<(), Box<Status>> {
        if !transfer && Instant::now() < member.silent_until {
            let reason = "this member was just started and may have promised a leader not to vote";
            return Err(Box::new(Status::unavailable(reason)));
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl Peer for Service {
    async fn identify(
        &self,
        _request: Request<pb::IdentifyRequest>,
    ) -> Result<Response<pb::IdentifyReply>, Status> {
        let identity = self.node.member().map(|member| &member.identity);
        let leadership = self.node.leadership.borrow().clone();
        Ok(Response::new(pb::IdentifyReply {
            name: self.node.peer().name,
            cluster: identity
                .map(|identity| identity.cluster.clone())
                .unwrap_or_default(),
            node: identity.map_or(0, |identity| identity.node),
            leader: leadership.leader.map(|leader| pb::Member {
                node: leader.id.node.0,
                name: leader.name,
                address: leader.address,
            }),
            term: leadership.term,
            fit: self.node.is_fit(),
        }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinReply>, Status> {
        let route = request.get_ref().route.clone().unwrap_or_default();
        if route.from != 0 {
            self.route(&request, Some(&route))
                .map_err(|status| *status)?;
        }
        let member = self.member().map_err(|status| *status)?;
        let outcome = membership::join(&self.node, member, request.into_inner()).await;
        Ok(Response::new(pb::JoinReply {
            outcome: Some(outcome.map_err(failed)?),
        }))
    }

    async fn leave(
        &self,
        request: Request<pb::LeaveRequest>,
    ) -> Result<Response<pb::LeaveReply>, Status> {
        let member = self.route(&request, request.get_ref().route.as_ref());
        let member = member.map_err(|status| *status)?;
        let from = request
            .get_ref()
            .route
            .as_ref()
            .map_or(0, |route| route.from);
        let outcome = membership::leave(&self.node, member, from).await;
        Ok(Response::new(pb::LeaveReply {
            outcome: Some(outcome.map_err(failed)?),
        }))
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        let member = self.route(&request, request.get_ref().route.as_ref());
        let member = member.map_err(|status| *status)?;
        let request = wire::to_vote_request(request.into_inner())?;
        self.may_vote(member, request.leadership_transfer)
            .map_err(|status| *status)?;
        let candidate = request.vote.leader_id.node_id;
        let response = member.raft.vote(request).await.map_err(failed)?;
        if response.vote_granted {
            self.node.candidacy.voted(candidate);
        }
        Ok(Response::new(wire::from_vote_response(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        let member = self.route(&request, request.get_ref().route.as_ref());
        let member = member.map_err(|status| *status)?;
        self.may_vote(member, false).map_err(|status| *status)?;
        let request = wire::to_vote_request(request.into_inner())?;
        let candidate = request.vote.leader_id.node_id;
        if self.node.candidacy.challenged(candidate) {
            return Err(Status::unavailable(
                "another candidate was just granted a vote",
            ));
        }
        let response = member.raft.pre_vote(request).await.map_err(failed)?;
        if response.vote_granted {
            self.node.candidacy.encouraged(candidate);
        }
        Ok(Response::new(wire::from_vote_response(&response)))
    }

    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendReply>, Status> {
        let at = Instant::now();
        let member = self.route(&request, request.get_ref().route.as_ref());
        let member = member.map_err(|status| *status)?;
        let request = wire::to_append_request(request.into_inner())?;
        let leader = request.vote.leader_id;
        let response = member.raft.append_entries(request).await.map_err(failed)?;
        if !matches!(
            response,
            openraft::raft::AppendEntriesResponse::HigherVote(_)
        ) {
            self.node.heard.send_replace(Some(Heard { leader, at }));
        }
        Ok(Response::new(wire::from_append_response(&response)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        use pb::snapshot_chunk::Part;
        let origin = request.extensions().get::<Origin>().cloned();
        let mut chunks = request.into_inner();
        let Some(Part::Head(head)) = chunks.message().await?.and_then(|chunk| chunk.part) else {
            return Err(Status::invalid_argument(
                "field head: a snapshot starts with it",
            ));
        };
        let mut routed = Request::new(());
        if let Some(origin) = origin {
            routed.extensions_mut().insert(origin);
        }
        let member = self
            .route(&routed, head.route.as_ref())
            .map_err(|status| *status)?;
        let vote = wire::to_vote(head.vote, "SnapshotHead.vote")?;
        let meta = SnapshotMeta::from_bytes(&head.meta);
        let meta = meta.map_err(|error| wire::WireError::new("SnapshotHead.meta", error))?;
        let data = chunks.map_ok(|chunk| match chunk.part {
            Some(Part::Data(data)) => data,
            _ => Vec::new(),
        });
        let data = collect(head.size, data).await?;
        let crc = crc32fast::hash(&data);
        if crc != head.crc {
            let reason = format!("snapshot has checksum {crc:08x}, its head {:08x}", head.crc);
            return Err(Status::data_loss(reason));
        }
        let snapshot = Snapshot {
            meta,
            snapshot: data,
        };
        let response = member
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(failed)?;
        Ok(Response::new(pb::SnapshotReply {
            vote: Some(wire::from_vote(&response.vote)),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderReply>, Status> {
        use pb::transfer_leader_reply::Outcome;
        let member = self.route(&request, request.get_ref().route.as_ref());
        let member = member.map_err(|status| *status)?;
        let request = wire::to_transfer_request(request.into_inner())?;
        let taken = member
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(failed)?;
        let outcome = match taken {
            Ok(()) => Outcome::Taken(pb::Success {}),
            Err(refused) => Outcome::Refused(refused.to_string()),
        };
        Ok(Response::new(pb::TransferLeaderReply {
            outcome: Some(outcome),
        }))
    }

    async fn share(
        &self,
        request: Request<Streaming<pb::ShareChunk>>,
    ) -> Result<Response<pb::ShareReply>, Status> {
        use pb::share_chunk::Part;
        let mut chunks = request.into_inner();
        let Some(Part::Head(head)) = chunks.message().await?.and_then(|chunk| chunk.part) else {
            return Err(Status::invalid_argument(
                "field head: a table starts with it",
            ));
        };
        self.route(&Request::new(()), head.route.as_ref())
            .map_err(|status| *status)?;
        let leader = head
            .leader
            .ok_or_else(|| wire::WireError::missing("ShareHead.leader"))?;
        let from = LeaderId {
            term: leader.term,
            node: NodeId(leader.node),
        };
        let data = chunks.map_ok(|chunk| match chunk.part {
            Some(Part::Data(data)) => data,
            _ => Vec::new(),
        });
        let table = collect(head.size, data).await?;
        let received = Instant::now();
        // A table that an earlier leader sent, and that arrives late, replaces none of a later one.
        self.node.shared.send_if_modified(|shared| {
            let newer = shared.as_ref().is_none_or(|shared| shared.from <= from);
            if newer {
                *shared = Some(Shared {
                    from,
                    received,
                    table,
                });
            }
            newer
        });
        Ok(Response::new(pb::ShareReply {}))
    }
}

/// Puts chunks together, exactly `size` bytes of them.
async fn collect(
    size: u64,
    mut chunks: impl Stream<Item = Result<Vec<u8>, Status>> + Unpin,
) -> Result<Bytes, Status> {
    let size = match usize::try_from(size) {
        Ok(fits) if size <= MAX_TRANSFER => fits,
        _ => {
            let reason = format!("{size} bytes; at most {MAX_TRANSFER} are taken");
            return Err(Status::resource_exhausted(reason));
        }
    };
    // Grown as data arrives: a head alone must not make this member reserve its size.
    let mut data = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        if data.len() + chunk.len() > size {
            return Err(Status::invalid_argument(format!(
                "more than the {size} bytes announced"
            )));
        }
        data.extend_from_slice(&chunk);
    }
    if data.len() != size {
        let reason = format!("{} bytes of the {size} announced", data.len());
        return Err(Status::invalid_argument(reason));
    }
    Ok(data.freeze())
}
