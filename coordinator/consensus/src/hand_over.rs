//! Giving leadership away, and going for good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use neap_proto::peer as pb;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use crate::error::{HandOverError, LeaveError};
use crate::node::{Member, Node};
use crate::position::NodeId;

/// Bound of asking the voters who would take over.
const ASK: Duration = Duration::from_millis(300);
/// Once one is found that is close in the log, each further answer is waited for so long: one that does not come costs nothing.
const PREFER: Duration = Duration::from_millis(20);
/// A voter that lacks no more entries than this has them before it is elected.
const CLOSE: u64 = 10;
/// A voter that lacks more entries than this would keep everyone waiting.
const MAX_LAG: u64 = 1_000;
/// Wait between two attempts to leave.
const AGAIN: Duration = Duration::from_millis(200);
/// Bound of one attempt to leave.
const ATTEMPT: Duration = Duration::from_secs(6);

/// See [`Consensus::hand_over`](crate::Consensus::hand_over).
pub(crate) async fn hand_over(node: &Arc<Node>) -> Result<NodeId, HandOverError> {
    if let Some(reason) = node.stop_reason() {
        return Err(HandOverError::Stopped { reason });
    }
    let member = node.member().ok_or(HandOverError::NotLeader)?;
    let term = {
        let metrics = member.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return Err(HandOverError::NotLeader);
        }
        metrics.current_term
    };
    let to = successor(node, member)
        .await
        .ok_or(HandOverError::NoSuccessor)?;

    // Before the message is out: whoever gets it may be elected at once, lease or no lease.
    node.lease.give_up(term);
    node.leadership
        .send_modify(|leadership| leadership.is_self = false);
    let mut leadership = node.leadership.subscribe();
    if let Err(fatal) = member.raft.trigger().transfer_leader(to).await {
        return Err(HandOverError::Stopped {
            reason: fatal.to_string(),
        });
    }
    tracing::info!(term, to, "handing leadership over");
    let after = node.config.timings.hand_over;
    let me = member.identity.node;
    let taken = leadership.wait_for(|now| {
        let other = now.leader.as_ref().filter(|leader| leader.id.term > term);
        other.is_some_and(|leader| leader.id.node.0 != me)
    });
    match tokio::time::timeout(after, taken).await {
        Ok(Ok(now)) => Ok(now
            .leader
            .as_ref()
            .map_or(NodeId(to), |leader| leader.id.node)),
        _ => Err(HandOverError::Timeout {
            to: NodeId(to),
            after,
        }),
    }
}

/// The voter to hand over to: fit, there, and close in the log, or closest.
async fn successor(node: &Node, member: &Member) -> Option<u64> {
    let (membership, matched, last) = {
        let metrics = member.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership().clone();
        (
            membership,
            metrics.replication.clone().unwrap_or_default(),
            metrics.last_log_index,
        )
    };
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let me = member.identity.node;
    let close = voters
        .into_iter()
        .filter(|voter| *voter != me)
        .filter_map(|voter| {
            let at = matched
                .get(&voter)
                .and_then(|id| id.as_ref().map(|id| id.index))?;
            let lag = last.unwrap_or(0).saturating_sub(at);
            let address = membership.get_node(&voter)?.address.clone();
            (lag <= MAX_LAG).then_some((lag, voter, address))
        });
    let asked = close.map(|(lag, voter, address)| async move {
        let answer = node
            .channels
            .identify(&address, node.peer().name, ASK)
            .await
            .ok()?;
        let right = answer.cluster == member.identity.cluster && answer.node == voter;
        (right && answer.fit).then_some((lag, voter))
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    let mut all: Vec<(u64, u64)> = Vec::new();
    let first = |all: &[(u64, u64)]| {
        let close = all.iter().filter(|(lag, _)| *lag <= CLOSE);
        close.map(|(_, voter)| *voter).min()
    };
    let mut patience = ASK;
    while let Ok(Some(answer)) = tokio::time::timeout(patience, answers.next()).await {
        all.extend(answer);
        // Those that stand for election first are expected to lead next, and are waited for a little.
        if first(&all).is_some() {
            patience = PREFER;
        }
    }
    first(&all).or_else(|| all.into_iter().min().map(|(_, voter)| voter))
}

/// See [`Consensus::leave`](crate::Consensus::leave).
pub(crate) async fn leave(node: &Arc<Node>, within: Duration) -> Result<(), LeaveError> {
    // Two that leave would else hand leadership to each other.
    node.leaving.store(true, Ordering::Relaxed);
    let left = leave_until(node, within).await;
    if left.is_err() {
        node.leaving.store(false, Ordering::Relaxed);
    }
    left
}

async fn leave_until(node: &Arc<Node>, within: Duration) -> Result<(), LeaveError> {
    let deadline = Instant::now() + within;
    let mut last = "this member has not joined yet".to_owned();
    loop {
        if let Some(reason) = node.stop_reason() {
            return Err(LeaveError::Stopped { reason });
        }
        if let Some(member) = node.member() {
            match attempt(node, member).await {
                Attempt::Done(result) => return result,
                Attempt::Again(reason) => last = reason,
            }
        }
        if Instant::now() + AGAIN >= deadline {
            return Err(LeaveError::Timeout {
                after: within,
                last,
            });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

enum Attempt {
    Done(Result<(), LeaveError>),
    Again(String),
}

async fn attempt(node: &Arc<Node>, member: &Member) -> Attempt {
    use pb::leave_reply::Outcome;
    let voters: BTreeSet<u64> = crate::membership::current(member).voter_ids().collect();
    if voters == BTreeSet::from([member.identity.node]) {
        return Attempt::Done(Err(LeaveError::LastVoter));
    }
    let leader = node.leadership.borrow().leader.clone();
    let Some(leader) = leader else {
        return Attempt::Again("no leader is known".into());
    };
    if node.is_self(leader.id.node) {
        return match hand_over(node).await {
            Ok(to) => Attempt::Again(format!("leadership went to {to}")),
            Err(error) => Attempt::Again(error.to_string()),
        };
    }
    let request = pb::LeaveRequest {
        route: Some(pb::Route {
            cluster: member.identity.cluster.clone(),
            from: member.identity.node,
            to: leader.id.node.0,
        }),
    };
    match node.channels.leave(&leader.address, request, ATTEMPT).await {
        Ok(pb::LeaveReply { outcome }) => match outcome {
            Some(Outcome::Left(_)) => Attempt::Done(Ok(())),
            Some(Outcome::LastVoter(_)) => Attempt::Done(Err(LeaveError::LastVoter)),
            _ => Attempt::Again(format!("{} does not lead any more", leader.id.node)),
        },
        Err(error) => Attempt::Again(error.to_string()),
    }
}
