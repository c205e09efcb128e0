//! What follows openraft's metrics: leadership, the lease, the log's size, the shared table.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neap_proto::peer as pb;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};

use crate::leadership::Leadership;
use crate::node::{Member, Node, Shared};
use crate::position::NodeId;
use crate::types::leader_id;

/// The log is in memory as a whole, so it is cut by size too, not by number of entries alone.
const LOG_BYTES: usize = 32 << 20;
/// What is left of it then, for followers that lag.
const LOG_KEPT: usize = 8 << 20;
const LOG_LOOK: Duration = Duration::from_secs(1);
/// Bound of giving the table to one member; the next one is due each second.
const SHARE: Duration = Duration::from_secs(1);

/// Keeps the façade's leadership and lease in step with openraft.
pub(crate) async fn follow(node: Arc<Node>) {
    let Some(member) = node.member() else { return };
    let mut metrics = member.raft.metrics();
    // The last term in which this member was a candidate.
    let mut stood_in = 0;
    let mut ticking = true;
    loop {
        // A copy: openraft's core waits for whoever holds the guard.
        let seen = metrics.borrow_watched().clone();
        if let Err(fatal) = &seen.running_state {
            if !node.cancel.is_cancelled() {
                node.stop(fatal.to_string());
            }
            return;
        }
        node.lease.note(&*node.clock);
        let vote = seen.vote;
        let me = member.identity.node;
        let leads =
            seen.state == ServerState::Leader && vote.committed && vote.leader_id.node_id == me;
        if seen.state == ServerState::Candidate && seen.current_term > stood_in {
            stood_in = seen.current_term;
            node.candidacy.voted(me);
        }
        let membership = seen.membership_config.membership();
        // A leader with nobody beside it has no heartbeat to send and nobody to lose to: its ticks
        // would wake the process fifty times a second for nothing.
        let ticks = !leads || membership.nodes().any(|(id, _)| *id != me);
        if ticks != ticking {
            member.raft.runtime_config().tick(ticks);
            ticking = ticks;
        }
        if leads {
            let id = leader_id(&vote.leader_id);
            let mut voters = membership.voter_ids();
            let alone = voters.next() == Some(me) && voters.next().is_none();
            match seen.last_quorum_acked {
                _ if alone => node.lease.hold(id, None, &*node.clock),
                Some(at) => {
                    // Read in this order the result is never later than openraft's own instant.
                    let now = tokio::time::Instant::now();
                    let acknowledged = now.checked_sub(at.elapsed());
                    match acknowledged {
                        Some(at) => node.lease.hold(id, Some(at), &*node.clock),
                        None => node.lease.clear(),
                    }
                }
                None => node.lease.clear(),
            }
        } else {
            node.lease.clear();
        }
        // Its first entry is applied after everything that earlier leaders committed.
        let caught_up = seen
            .last_applied
            .is_some_and(|at| at.leader_id == vote.leader_id);
        let now = Leadership {
            node: Some(NodeId(me)),
            term: seen.current_term,
            leader: vote
                .committed
                .then(|| node.describe_leader(&vote.leader_id)),
            is_self: leads && caught_up && !node.lease.is_given_up(seen.current_term),
        };
        let was = node.leadership.borrow().clone();
        if was != now {
            if was.leader != now.leader || was.is_self != now.is_self {
                let leader = now.leader.as_ref().map(|leader| leader.id.to_string());
                let name = now.leader.as_ref().map(|leader| leader.name.clone());
                tracing::info!(
                    term = now.term,
                    leader,
                    name,
                    is_self = now.is_self,
                    "leadership"
                );
            }
            node.leadership.send_replace(now);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                if !node.cancel.is_cancelled() {
                    node.stop("raft ended");
                }
                return;
            },
            () = node.cancel.cancelled() => return,
        }
    }
}

/// Cuts the log when it has grown large, however few its entries.
pub(crate) async fn keep_short(node: Arc<Node>) {
    let Some(member) = node.member() else { return };
    let looking = async {
        loop {
            tokio::time::sleep(LOG_LOOK).await;
            if node.log.bytes() <= LOG_BYTES {
                continue;
            }
            let Some(upto) = node.log.cut_point(LOG_KEPT) else {
                continue;
            };
            let taken = {
                let metrics = member.raft.metrics();
                metrics.borrow_watched().snapshot.map_or(0, |id| id.index)
            };
            let cut = if taken < upto {
                member.raft.trigger().snapshot().await
            } else {
                member.raft.trigger().purge_log(upto).await
            };
            if cut.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = looking => {}
        () = node.cancel.cancelled() => {}
    }
}

/// Gives the table of soft state to the other members, whenever there is a new one, while this
/// member leads.
pub(crate) async fn share(node: Arc<Node>) {
    let Some(member) = node.member() else { return };
    let mut tables = node.sharing.subscribe();
    loop {
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { return },
            () = node.cancel.cancelled() => return,
        }
        let table = tables.borrow_and_update().clone();
        share_once(&node, member, table).await;
    }
}

async fn share_once(node: &Node, member: &Member, table: Bytes) {
    let leadership = node.leadership.borrow().clone();
    let Some(leader) = leadership.leader.filter(|_| leadership.is_self) else {
        return;
    };
    let shared = Shared {
        from: leader.id,
        received: tokio::time::Instant::now(),
        table: table.clone(),
    };
    node.shared.send_replace(Some(shared));
    let membership = crate::membership::current(member);
    let others = membership
        .nodes()
        .filter(|(id, _)| **id != member.identity.node);
    let calls = others.map(|(id, peer)| {
        let head = pb::ShareHead {
            route: Some(pb::Route {
                cluster: member.identity.cluster.clone(),
                from: member.identity.node,
                to: *id,
            }),
            leader: Some(pb::LeaderId {
                term: leader.id.term,
                node: leader.id.node.0,
            }),
            size: table.len() as u64,
        };
        let table = table.clone();
        async move {
            if let Err(error) = node.channels.share(&peer.address, head, table, SHARE).await {
                tracing::debug!(id, %error, "cannot share the table");
            }
        }
    });
    futures::future::join_all(calls).await;
}
