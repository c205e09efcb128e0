//! What the leader does to take members in and let them go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use neap_proto::peer as pb;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, Instant as _};

use crate::error::RemoveError;
use crate::node::{Member, Node};
use crate::types::{Command, Membership, Peer};

/// Bound of one write of the cluster's own.
const WRITE: Duration = Duration::from_secs(5);
/// Bound of bringing one member up to date and making it a voter.
const ADMISSION: Duration = Duration::from_secs(60);
/// Bound of one removal.
const REMOVAL: Duration = Duration::from_secs(5);
/// A learner that lacks no more entries than this has caught up.
const CLOSE: u64 = 1_000;
/// Between two looks whether one has.
const LOOK: Duration = Duration::from_millis(20);
/// A voter that acknowledged the leader so lately counts as there.
const LATELY: Duration = Duration::from_secs(2);

/// Why a member was not taken in or let go; asking again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    /// A write was not committed in time.
    #[error("not committed within {0:?}")]
    Timeout(Duration),
    /// Raft refused it.
    #[error("{0}")]
    Refused(String),
}

/// The membership as this member has it in its log.
pub(crate) fn current(member: &Member) -> Membership {
    let metrics = member.raft.metrics();
    let stored = metrics.borrow_watched().membership_config.clone();
    stored.membership().clone()
}

fn leads(member: &Member) -> bool {
    let metrics = member.raft.metrics();
    let leader = metrics.borrow_watched().current_leader;
    leader == Some(member.identity.node)
}

/// Who leads, for one that asked the wrong member.
fn redirect(node: &Node) -> pb::Redirect {
    let leader = node.leadership.borrow().leader.clone();
    let other = leader.filter(|leader| !node.is_self(leader.id.node));
    pb::Redirect {
        leader: other.map(|leader| pb::Member {
            node: leader.id.node.0,
            name: leader.name,
            address: leader.address,
        }),
    }
}

/// Writes one of the cluster's own commands and gives its index.
pub(crate) async fn write(member: &Member, command: Command) -> Result<u64, MembershipError> {
    let written = tokio::time::timeout(WRITE, member.raft.client_write(command)).await;
    let written = written.map_err(|_| MembershipError::Timeout(WRITE))?;
    let written = written.map_err(|error| MembershipError::Refused(error.to_string()))?;
    Ok(written.log_id.index)
}

/// Records which command format `id` reads, unless that is on record.
pub(crate) async fn announce(member: &Member, id: u64, format: u8) -> Result<(), MembershipError> {
    if member.formats.load().get(&id) == Some(&format) {
        return Ok(());
    }
    write(member, Command::Announce { node: id, format })
        .await
        .map(|_| ())
}

/// Answers one that wants to be taken in.
pub(crate) async fn join(
    node: &Arc<Node>,
    member: &Member,
    request: pb::JoinRequest,
) -> Result<pb::join_reply::Outcome, MembershipError> {
    use pb::join_reply::Outcome;
    if !leads(member) {
        return Ok(Outcome::Redirect(redirect(node)));
    }
    let id = request.route.as_ref().map_or(0, |route| route.from);
    if id == 0 {
        let index = write(member, Command::Allocate { name: request.name }).await?;
        return Ok(Outcome::Allocated(pb::Allocated {
            cluster: member.identity.cluster.clone(),
            node: index,
        }));
    }
    let peer = Peer {
        name: request.name,
        address: request.address,
    };
    let format = u8::try_from(request.format).unwrap_or(u8::MAX);
    let membership = current(member);
    if let Some(by) = namesakes(&membership, id, &peer.name).find(|other| *other > id) {
        return Ok(Outcome::Superseded(pb::Superseded { by }));
    }
    let known = membership.get_node(&id) == Some(&peer);
    // A change that its leader did not live to end leaves one set of voters beside another: it is taken in anew
    // then, which ends it.
    let sets = membership.get_joint_config();
    if known && !sets.is_empty() && sets.iter().all(|voters| voters.contains(&id)) {
        announce(member, id, format).await?;
        return Ok(Outcome::Joined(pb::Joined {}));
    }
    // One at a time: who finds another under way asks again.
    let node = node.clone();
    node.clone().tasks.spawn(async move {
        let Ok(_turn) = node.admission.try_lock() else {
            return;
        };
        let Some(member) = node.member() else { return };
        let name = peer.name.clone();
        match tokio::time::timeout(ADMISSION, admit(member, id, peer, format)).await {
            Ok(Ok(())) => tracing::info!(id, %name, "member was made a voter"),
            Ok(Err(error)) => tracing::warn!(id, %name, %error, "member was not taken in"),
            Err(_) => tracing::warn!(id, %name, after = ?ADMISSION, "member did not catch up"),
        }
    });
    Ok(Outcome::Pending(pb::Pending {}))
}

/// Other members of the same name: the same pod with an earlier or a later disk.
fn namesakes<'a>(
    membership: &'a Membership,
    id: u64,
    name: &'a str,
) -> impl Iterator<Item = u64> + 'a {
    let nodes = membership.nodes();
    nodes
        .filter(move |(other, peer)| **other != id && peer.name == name)
        .map(|(other, _)| *other)
}

/// Brings a member up to date as a learner, then makes it a voter in place of its namesakes.
async fn admit(member: &Member, id: u64, peer: Peer, format: u8) -> Result<(), MembershipError> {
    let refused = |error: &dyn std::fmt::Display| MembershipError::Refused(error.to_string());
    let name = peer.name.clone();
    announce(member, id, format).await?;
    if current(member)
        .get_node(&id)
        .is_some_and(|known| *known != peer)
    {
        let moved = ChangeMembers::SetNodes([(id, peer.clone())].into());
        member
            .raft
            .change_membership(moved, true)
            .await
            .map_err(|error| refused(&error))?;
    }
    let added = member.raft.add_learner(id, peer, true).await;
    added.map_err(|error| refused(&error))?;
    caught_up(member, id).await?;

    let membership = current(member);
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let (replaced, learners): (BTreeSet<u64>, BTreeSet<u64>) =
        namesakes(&membership, id, &name).partition(|other| voters.contains(other));
    let mut changes = vec![ChangeMembers::AddVoterIds([id].into())];
    if !replaced.is_empty() {
        changes.push(ChangeMembers::RemoveVoters(replaced));
    }
    let changed = member
        .raft
        .change_membership(ChangeMembers::Batch(changes), false)
        .await;
    changed.map_err(|error| refused(&error))?;
    if !learners.is_empty() {
        let removed = ChangeMembers::RemoveNodes(learners);
        member
            .raft
            .change_membership(removed, false)
            .await
            .map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Waits until the learner `id` acknowledges this leader and has nearly everything. Openraft takes one
/// that has said nothing yet for up to date while the log is short; as a voter that cannot be reached it
/// might be one too many, and the change that made it one would not end.
async fn caught_up(member: &Member, id: u64) -> Result<(), MembershipError> {
    loop {
        if !leads(member) {
            return Err(MembershipError::Refused("leads no more".to_owned()));
        }
        let (last, matched) = {
            let metrics = member.raft.metrics();
            let seen = metrics.borrow_watched();
            let matched = seen.replication.as_ref().and_then(|all| all.get(&id));
            (seen.last_log_index, matched.cloned().flatten())
        };
        let lag = matched.map(|matched| last.unwrap_or(0).saturating_sub(matched.index));
        if lag.is_some_and(|lag| lag <= CLOSE) && heard_of(member, id) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Answers one that wants to go.
pub(crate) async fn leave(
    node: &Node,
    member: &Member,
    id: u64,
) -> Result<pb::leave_reply::Outcome, MembershipError> {
    use pb::leave_reply::Outcome;
    if !leads(member) || id == member.identity.node {
        return Ok(Outcome::Redirect(redirect(node)));
    }
    Ok(match take_out(node, member, id).await? {
        Removal::Done => {
            tracing::info!(id, "member was removed at its own request");
            Outcome::Left(pb::Left {})
        }
        Removal::LastVoter => Outcome::LastVoter(pb::LastVoter {}),
    })
}

/// Removes a member that cannot ask for it itself. See [`Consensus::remove`](crate::Consensus::remove).
pub(crate) async fn remove(node: &Node, id: u64) -> Result<(), RemoveError> {
    if let Some(reason) = node.stop_reason() {
        return Err(RemoveError::Stopped { reason });
    }
    let leading = node.member().filter(|member| leads(member));
    let member = leading.ok_or(RemoveError::NotLeader)?;
    if id == member.identity.node {
        return Err(RemoveError::Itself);
    }
    match take_out(node, member, id).await {
        Ok(Removal::Done) => Ok(()),
        Ok(Removal::LastVoter) => Err(RemoveError::LastVoter),
        Err(error) => Err(RemoveError::Failed {
            reason: error.to_string(),
        }),
    }
}

/// What became of a removal.
enum Removal {
    /// It is no member, now or already before.
    Done,
    /// Without it there would be no cluster.
    LastVoter,
}

/// Removes a member, once no other change is under way.
async fn take_out(node: &Node, member: &Member, id: u64) -> Result<Removal, MembershipError> {
    let removal = async {
        let _turn = node.admission.lock().await;
        let membership = current(member);
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        let change = if voters == BTreeSet::from([id]) {
            return Ok(Removal::LastVoter);
        } else if voters.remove(&id) {
            // A change that those who stay cannot confirm would not end, and while it lasts nobody can
            // be elected either.
            if !in_touch(member, &voters) {
                let reason = "most of the voters that would stay are not heard of";
                return Err(MembershipError::Refused(reason.to_owned()));
            }
            ChangeMembers::RemoveVoters([id].into())
        } else if membership.get_node(&id).is_some() {
            ChangeMembers::RemoveNodes([id].into())
        } else {
            return Ok(Removal::Done);
        };
        let changed = member.raft.change_membership(change, false).await;
        changed.map_err(|error| MembershipError::Refused(error.to_string()))?;
        Ok(Removal::Done)
    };
    let removed = tokio::time::timeout(REMOVAL, removal).await;
    removed.map_err(|_| MembershipError::Timeout(REMOVAL))?
}

/// Whether most of `voters` have acknowledged this leader lately; it counts as one of them itself.
fn in_touch(member: &Member, voters: &BTreeSet<u64>) -> bool {
    let own = member.identity.node;
    let near = voters
        .iter()
        .filter(|voter| **voter == own || heard_of(member, **voter));
    2 * near.count() > voters.len()
}

/// Whether `id` has acknowledged this leader lately.
fn heard_of(member: &Member, id: u64) -> bool {
    let metrics = member.raft.metrics();
    let acked = {
        let seen = metrics.borrow_watched();
        let heard = seen.heartbeat.as_ref();
        heard.and_then(|all| all.get(&id).copied().flatten())
    };
    acked.is_some_and(|at| at.elapsed() < LATELY)
}
