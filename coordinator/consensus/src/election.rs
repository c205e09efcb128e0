//! Elections that do not wait for chance.
//!
//! When a leader's process ends, its connections end with it, and every other member knows at once.
//! No vote can be had before the leader's lease is over, but from then on each voter asks for votes
//! every [`EVERY`], the first of them at once and each next one [`APART`] later, until a leader is
//! known. Openraft's own election timeout, which adds a random wait to the lease, is left for the
//! cases that nothing announces.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::node::{Heard, Member, Node};

/// Between two calls of one voter.
const EVERY: Duration = Duration::from_millis(25);
/// Between the first calls of two voters, so that they do not split the votes.
const APART: Duration = Duration::from_millis(50);
/// A vote that was asked for is given this long before it is asked for again in a later term: two
/// fsyncs and a round trip.
const PATIENCE: Duration = Duration::from_millis(150);
/// After this long, openraft's own timeout has taken over.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Follows the ends of connections.
pub(crate) async fn follow(node: Arc<Node>, mut lost: mpsc::Receiver<u64>) {
    loop {
        let peer = tokio::select! {
            peer = lost.recv() => peer,
            () = node.cancel.cancelled() => return,
        };
        let Some(peer) = peer else { return };
        let (Some(member), Some(heard)) = (node.member(), *node.heard.borrow()) else {
            continue;
        };
        if heard.leader.node_id != peer {
            continue;
        }
        tokio::select! {
            () = replace(&node, member, heard) => {}
            () = node.cancel.cancelled() => return,
        }
    }
}

/// Place of this voter among those that may follow the lost leader.
fn rank(member: &Member, lost: u64) -> Option<u32> {
    let voters: BTreeSet<u64> = crate::membership::current(member).voter_ids().collect();
    let mut rest = voters.into_iter().filter(|voter| *voter != lost);
    let place = rest.position(|voter| voter == member.identity.node)?;
    u32::try_from(place).ok()
}

/// Stands for election in the place of a lost leader until there is another, or it is back.
async fn replace(node: &Node, member: &Member, lost: Heard) {
    let Some(rank) = rank(member, lost.leader.node_id) else {
        return;
    };
    let lease_end = lost.at + node.lease_length();
    tracing::info!(
        leader = lost.leader.node_id,
        rank,
        "connection to the leader was lost"
    );
    let mut heard = node.heard.subscribe();
    let quiet = async {
        // A later message is either the leader's, over another connection, or its successor's.
        drop(
            heard
                .wait_for(|now| now.is_some_and(|now| now.at > lost.at))
                .await,
        );
    };
    let standing = async {
        let mut next = (lease_end + APART * rank).max(member.silent_until);
        let mut asked = None;
        while Instant::now() < lease_end + GIVE_UP {
            sleep_until(next).await;
            next = Instant::now() + EVERY;
            let (state, leader) = {
                let metrics = member.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.state, metrics.vote)
            };
            if leader.committed && leader.leader_id != lost.leader {
                return;
            }
            if state == ServerState::Candidate {
                let since = *asked.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE + APART * rank {
                    continue;
                }
            }
            asked = None;
            if member.raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = quiet => tracing::info!("the leader, or another one, is heard again"),
        () = standing => {}
    }
}

/// Keeps a member that was just started from standing for election while it may have promised a
/// leader not to: openraft forgets that promise with the process.
pub(crate) async fn keep_silent(node: Arc<Node>) {
    let Some(member) = node.member() else { return };
    let alone = crate::membership::current(member).voter_ids().count() <= 1;
    if alone || member.silent_until <= Instant::now() {
        return;
    }
    member.raft.runtime_config().elect(false);
    tokio::select! {
        () = sleep_until(member.silent_until) => member.raft.runtime_config().elect(true),
        () = node.cancel.cancelled() => {}
    }
}
