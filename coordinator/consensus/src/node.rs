//! What the parts of one member share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use neap_proto::peer::IdentifyReply;

use crate::clock::Clock;
use crate::cluster_id::ClusterId;
use crate::codec::Identity;
use crate::config::Config;
use crate::election::Candidacy;
use crate::leadership::{Leader, Leadership};
use crate::lease::LeaseKeeper;
use crate::log_store::{LogReader, Stats};
use crate::machine::Formats;
use crate::net::Channels;
use crate::position::{LeaderId, NodeId};
use crate::types::{Peer, Raft, RaftLeaderId, leader_id};

/// A table of soft state, as the leader gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The leadership under which it was shared.
    pub from: LeaderId,
    /// When it arrived, on tokio's clock.
    pub received: Instant,
    /// The table.
    pub table: Bytes,
}

/// One member, before and after it has joined.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    /// Reads the log; holds no writer, so that the file closes with raft.
    pub(crate) log: LogReader,
    pub(crate) stats: Stats,
    pub(crate) channels: Channels,
    /// Set once, when the member has an identity and raft runs.
    member: OnceLock<Member>,
    pub(crate) joined: watch::Sender<bool>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) lease: LeaseKeeper,
    pub(crate) fit: AtomicBool,
    /// It is on its way out for good.
    pub(crate) leaving: AtomicBool,
    pub(crate) shared: watch::Sender<Option<Shared>>,
    /// The table that this member shares while it leads.
    pub(crate) sharing: watch::Sender<Bytes>,
    /// The last message of a leader: who, and when.
    pub(crate) heard: watch::Sender<Option<Heard>>,
    pub(crate) lost: mpsc::Sender<u64>,
    pub(crate) candidacy: Candidacy,
    /// Changes of membership go one at a time.
    pub(crate) admission: Mutex<()>,
    /// The cluster, of another origin than this member's, that an expected member was seen to be led in.
    pub(crate) stranger: watch::Sender<Option<String>>,
    pub(crate) stopped: watch::Sender<Option<String>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

/// A message of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) leader: RaftLeaderId,
    /// Taken before openraft saw the message, so that a lease counted from it is never longer than
    /// openraft's.
    pub(crate) at: Instant,
}

/// The part of a member that needs an identity.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) cluster: ClusterId,
    pub(crate) raft: Raft,
    pub(crate) formats: Arc<ArcSwap<Formats>>,
    /// Until then it does not vote: before it was restarted it may have promised a leader not to.
    pub(crate) silent_until: Instant,
}

impl Node {
    pub(crate) fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        log: LogReader,
        stats: Stats,
        channels: Channels,
        lost: mpsc::Sender<u64>,
    ) -> Arc<Self> {
        let lease = LeaseKeeper::new(&config.timings);
        Arc::new(Self {
            config,
            clock,
            log,
            stats,
            channels,
            member: OnceLock::new(),
            joined: watch::Sender::new(false),
            leadership: watch::Sender::new(Leadership::default()),
            lease,
            fit: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            shared: watch::Sender::new(None),
            sharing: watch::Sender::new(Bytes::new()),
            heard: watch::Sender::new(None),
            lost,
            candidacy: Candidacy::default(),
            admission: Mutex::new(()),
            stranger: watch::Sender::new(None),
            stopped: watch::Sender::new(None),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        })
    }

    /// The member, once it has joined.
    pub(crate) fn member(&self) -> Option<&Member> {
        self.member.get()
    }

    /// Raft runs from here on.
    pub(crate) fn set_member(&self, member: Member) {
        if self.member.set(member).is_ok() {
            self.joined.send_replace(true);
        }
    }

    /// This member as others are told of it.
    pub(crate) fn peer(&self) -> Peer {
        match &self.config.peer {
            Some(peer) => Peer {
                name: peer.name.clone(),
                address: peer.advertise.clone(),
            },
            None => Peer::default(),
        }
    }

    /// Whether leadership may be handed to it.
    pub(crate) fn is_fit(&self) -> bool {
        self.fit.load(Ordering::Relaxed) && !self.leaving.load(Ordering::Relaxed)
    }

    /// The lease that a leader holds and a follower grants.
    pub(crate) fn lease_length(&self) -> Duration {
        self.config.timings.election_max
    }

    /// Ends the member for good. The first reason stays.
    pub(crate) fn stop(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let first = self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(reason.clone());
            }
            first
        });
        if first {
            tracing::error!(%reason, "this member stops");
            self.lease.clear();
            self.leadership
                .send_modify(|leadership| leadership.is_self = false);
            self.cancel.cancel();
        }
    }

    /// Ends the member because it was asked to.
    pub(crate) fn close(&self) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some("it was shut down".into());
            }
            first
        });
        self.lease.clear();
        self.leadership
            .send_modify(|leadership| leadership.is_self = false);
        self.cancel.cancel();
    }

    pub(crate) fn stop_reason(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }

    /// Notes that a peer is of cluster `other`; where that supersedes this member's, it stops.
    /// Without that, the members of a majority that was given up for lost, and came back, would go
    /// on beside the cluster that was recovered without them.
    pub(crate) fn see_cluster(&self, other: &str) {
        let (Some(member), Ok(other)) = (self.member(), other.parse::<ClusterId>()) else {
            return;
        };
        if member.cluster.is_superseded_by(&other) {
            self.stop(format!(
                "cluster {} was recovered as {other} without this member: remove its volume so \
                 that it joins as a new one",
                member.cluster
            ));
        }
    }

    /// Notes that a peer has a leader in a cluster that has nothing to do with this member's, as after
    /// a start in which most others had lost their disks. This member goes on waiting for its own.
    pub(crate) fn see_stranger(&self, peer: &IdentifyReply) {
        let (Some(member), Ok(other)) = (self.member(), peer.cluster.parse::<ClusterId>()) else {
            return;
        };
        if member.cluster.lineage == other.lineage {
            return;
        }
        let stranger = Some(peer.cluster.clone());
        let is_news = self.stranger.send_if_modified(|known| {
            let is_news = *known != stranger;
            *known = stranger;
            is_news
        });
        if is_news {
            tracing::warn!(
                cluster = %member.cluster, peer = peer.name, of = peer.cluster,
                "a peer is led in another cluster than this member's disk is of"
            );
        }
    }

    /// The leader of `id` with its name and address, where the membership knows them.
    pub(crate) fn describe_leader(&self, id: &RaftLeaderId) -> Leader {
        let peer = self.member().and_then(|member| {
            use openraft::async_runtime::watch::WatchReceiver;
            let metrics = member.raft.metrics();
            let membership = metrics.borrow_watched().membership_config.clone();
            membership.membership().get_node(&id.node_id).cloned()
        });
        let peer = peer.unwrap_or_default();
        Leader {
            id: leader_id(id),
            name: peer.name,
            address: peer.address,
        }
    }

    /// Whether `node` is this member.
    pub(crate) fn is_self(&self, node: NodeId) -> bool {
        self.member()
            .is_some_and(|member| member.identity.node == node.0)
    }
}
