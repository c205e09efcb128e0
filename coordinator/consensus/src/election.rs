//! Elections that do not wait for chance.
//!
//! When a leader's process ends, its connections end with it, and every other member knows at once.
//! No vote can be had before the leader's lease is over, but from then on each voter asks for votes
//! every [`EVERY`], the first of them at once and each next one [`APART`] later, until a leader is
//! known. Openraft's own election timeout, which adds a random wait to the lease, is left for the
//! cases that nothing announces.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::node::{Heard, Member, Node};

/// Between two calls of one voter.
const EVERY: Duration = Duration::from_millis(25);
/// Between the first calls of two voters, so that they do not split the votes.
const APART: Duration = Duration::from_millis(50);
/// A candidate is given this long before another one is let near: two disks and two round trips. A
/// challenger would be granted a pre-vote at once, for a candidate has no lease, and two voters would
/// go on deposing each other.
const GRACE: Duration = Duration::from_millis(200);
/// The same for one that was only told that it would be granted a vote.
const SHORT_GRACE: Duration = Duration::from_millis(75);
/// After this long, openraft's own timeout has taken over.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Whom this voter has granted something to, and does not stand against for a moment.
#[derive(Default)]
pub(crate) struct Candidacy(Mutex<Option<(u64, Instant)>>);

impl Candidacy {
    /// A vote went to `candidate`.
    pub(crate) fn voted(&self, candidate: u64) {
        self.set(candidate, GRACE);
    }

    /// `candidate` was told that it would get a vote.
    pub(crate) fn encouraged(&self, candidate: u64) {
        self.set(candidate, SHORT_GRACE);
    }

    fn set(&self, candidate: u64, grace: Duration) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some((candidate, Instant::now() + grace));
    }

    /// Whether `who` would stand against another candidate.
    pub(crate) fn challenged(&self, who: u64) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some_and(|(candidate, until)| candidate != who && Instant::now() < until)
    }
}

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
    // A message that was on its way when the connection ended may still count as heard, and moves
    // the end of the lease; one that arrives from now on came over another connection.
    let noticed = Instant::now();
    let lease_end = || {
        let last = node
            .heard
            .borrow()
            .filter(|last| last.leader == lost.leader);
        last.map_or(lost.at, |last| last.at) + node.lease_length()
    };
    tracing::info!(
        leader = lost.leader.node_id,
        rank,
        "connection to the leader was lost"
    );
    let mut heard = node.heard.subscribe();
    let quiet = async {
        // The leader's, or its successor's.
        let later = heard.wait_for(|last| last.is_some_and(|last| last.at > noticed));
        drop(later.await);
    };
    let standing = async {
        let mut next = (lease_end() + APART * rank).max(member.silent_until);
        // The term of the candidate that is being waited for, and until when. Twice as long for each
        // one that comes to nothing: the disks are slow.
        let mut candidate = (lost.leader.term, noticed);
        let mut grace = GRACE + APART * rank;
        while Instant::now() < noticed + GIVE_UP {
            sleep_until(next).await;
            let now = Instant::now();
            next = (now + EVERY).max(lease_end());
            let (term, vote) = {
                let metrics = member.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.current_term, metrics.vote)
            };
            if vote.committed && vote.leader_id != lost.leader {
                return;
            }
            if term > candidate.0 {
                candidate = (term, now + grace);
                grace *= 2;
            }
            if now < candidate.1 || node.candidacy.challenged(member.identity.node) {
                continue;
            }
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
