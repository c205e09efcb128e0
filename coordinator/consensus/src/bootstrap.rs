//! How a member comes into a cluster: by forming it, by joining it, or with the disk of last time.

use std::sync::Arc;
use std::time::Duration;

use neap_proto::peer as pb;
use openraft::SnapshotPolicy;
use openraft::StepDownPolicy;
use tokio::time::Instant;

use crate::cluster_id::ClusterId;
use crate::codec::Identity;
use crate::config::PeerConfig;
use crate::error::OpenError;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::membership;
use crate::net::Factory;
use crate::node::{Member, Node};
use crate::types::{Peer, Raft};
use crate::{election, void, watching};

/// Bound of one question to one member.
const ASK: Duration = Duration::from_millis(500);
/// Bound of a request that the leader has to write to the log for.
const ASK_LEADER: Duration = Duration::from_secs(6);
/// Wait before the next round of questions.
const ROUND: Duration = Duration::from_millis(100);
/// The founder's id. Later ids are indexes of the log, of which the founder's own first entries
/// take 0 and 1.
const FOUNDER: u64 = 1;

/// Ends up with a running raft, whatever it takes, or when the member is cancelled.
pub(crate) async fn settle(node: Arc<Node>, log: LogStore, machine: Machine, draw: u64) {
    let identity = tokio::select! {
        identity = find_cluster(&node, draw) => identity,
        () = node.cancel.cancelled() => return,
    };
    if let Err(error) = log.save_identity(identity.clone()).await {
        node.stop(format!("cannot store the identity of this member: {error}"));
        return;
    }
    if let Err(error) = run(&node, log, machine, identity).await {
        node.stop(format!("cannot start raft: {error}"));
    }
}

/// An identity: of a new cluster, or of one that is there.
async fn find_cluster(node: &Arc<Node>, draw: u64) -> Identity {
    let founded = Identity {
        cluster: ClusterId::form(draw).to_string(),
        node: FOUNDER,
        founder: true,
    };
    let Some(peer) = &node.config.peer else {
        return founded;
    };
    // When the time began after which a minority is not waited for.
    let mut alone_since = Instant::now();
    let mut waiting_for = String::new();
    let mut said_silent = String::new();
    let others: Vec<&(String, String)> = {
        let members = peer.bootstrap.members.iter();
        members.filter(|(name, _)| *name != peer.name).collect()
    };
    let leaving = &peer.bootstrap.leaving;
    // When one of those was last heard to be in a cluster.
    let mut outlived_at: Option<Instant> = None;
    let first = peer
        .bootstrap
        .members
        .first()
        .is_some_and(|(name, _)| *name == peer.name);
    loop {
        let mut in_none = 0;
        let mut in_one = false;
        let there = others.iter().copied().chain(leaving);
        let asked = there
            .clone()
            .map(|(_, address)| node.channels.identify(address, peer.name.clone(), ASK));
        let answers = futures::future::join_all(asked).await;
        let mut silent = Vec::new();
        for (n, (answer, (name, address))) in answers.into_iter().zip(there).enumerate() {
            let stays = n < others.len();
            match answer {
                Ok(answer) if answer.cluster.is_empty() => in_none += usize::from(stays),
                Ok(answer) => {
                    in_one = true;
                    if !stays {
                        outlived_at = Some(Instant::now());
                    }
                    if let Some(identity) = ask_in(node, peer, address).await {
                        tracing::info!(cluster = identity.cluster, id = identity.node, "joining");
                        return identity;
                    }
                    if waiting_for != answer.cluster {
                        tracing::info!(%address, cluster = answer.cluster, "waiting for a leader of this cluster to join");
                        waiting_for = answer.cluster;
                    }
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "no answer yet");
                    if stays {
                        silent.push(name.as_str());
                    }
                }
            }
        }
        let silent = silent.join(", ");
        if silent != said_silent {
            tracing::info!(
                silent,
                "members that were asked for a cluster and do not answer"
            );
            said_silent = silent;
        }
        // Whoever is in a cluster has its state, also while nobody leads it: a second one beside it would
        // decide without that. The time begins anew, for the next answer may only be late.
        if in_one {
            alone_since = Instant::now();
        } else if first {
            let patience = peer.bootstrap.form_without_minority_after;
            let all =
                in_none == others.len() && outlived_at.is_none_or(|at| at.elapsed() > patience);
            let patient = alone_since.elapsed() < patience;
            let most = 2 * (in_none + 1) > others.len() + 1;
            if all || (most && !patient) {
                tracing::info!(
                    cluster = founded.cluster,
                    answered = in_none,
                    "forming a cluster"
                );
                return founded;
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Asks the cluster that the member at `address` is in for an identity.
async fn ask_in(node: &Node, peer: &PeerConfig, address: &str) -> Option<Identity> {
    use pb::join_reply::Outcome;
    let request = pb::JoinRequest {
        route: None,
        name: peer.name.clone(),
        address: peer.advertise.clone(),
        format: node.config.reads_format.into(),
    };
    let mut address = address.to_owned();
    // From any member to the leader is one step; a second covers a leader that just changed.
    for _ in 0..3 {
        let reply = match node
            .channels
            .join(&address, request.clone(), ASK_LEADER)
            .await
        {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%address, %error, "cannot join there");
                return None;
            }
        };
        match reply.outcome {
            Some(Outcome::Allocated(allocated)) => {
                return Some(Identity {
                    cluster: allocated.cluster,
                    node: allocated.node,
                    founder: false,
                });
            }
            Some(Outcome::Redirect(pb::Redirect {
                leader: Some(leader),
            })) => address = leader.address,
            _ => return None,
        }
    }
    None
}

/// Starts raft with an identity that is on disk, and everything that goes with it.
pub(crate) async fn run(
    node: &Arc<Node>,
    log: LogStore,
    machine: Machine,
    identity: Identity,
) -> Result<(), OpenError> {
    let start = |error: &dyn std::fmt::Display| OpenError::Start(error.to_string());
    let cluster: ClusterId = identity.cluster.parse().map_err(|error| start(&error))?;
    let restarted = !log.is_pristine();
    let formats = machine.formats();
    let factory = Factory::new(
        node.clone(),
        node.channels.clone(),
        identity.cluster.clone(),
        identity.node,
    );
    let config = raft_config(node).map_err(|error| start(&error))?;
    let raft = Raft::new(identity.node, Arc::new(config), factory, log, machine).await;
    let raft = raft.map_err(|error| start(&error))?;

    let now = Instant::now();
    let silent_until = if restarted {
        now + node.lease_length()
    } else {
        now
    };
    if identity.founder && !raft.is_initialized().await.map_err(|error| start(&error))? {
        let alone: std::collections::BTreeMap<u64, Peer> = [(identity.node, node.peer())].into();
        raft.initialize(alone)
            .await
            .map_err(|error| start(&error))?;
    }
    node.set_member(Member {
        identity,
        cluster,
        raft,
        formats,
        silent_until,
    });
    node.tasks.spawn(watching::follow(node.clone()));
    node.tasks.spawn(watching::keep_short(node.clone()));
    node.tasks.spawn(watching::share(node.clone()));
    node.tasks.spawn(election::keep_silent(node.clone()));
    node.tasks.spawn(stay(node.clone()));
    Ok(())
}

fn raft_config(node: &Node) -> Result<openraft::Config, openraft::ConfigError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let timings = &node.config.timings;
    openraft::Config {
        cluster_name: "neap".into(),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        enable_pre_vote: Some(true),
        // The state machine is in memory, so a restarted leader may be behind what it once showed.
        enable_leader_restore: Some(false),
        // Without it a leader that one follower still hears, and no majority does, blocks an
        // election for good (openraft issue 2080). The least that openraft allows is twice the
        // election timeout.
        quorum_loss_probe_interval: Some(millis(timings.election_max * 5 / 2)),
        removed_leader_step_down: StepDownPolicy::After(millis(timings.election_max)),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(node.config.snapshot_every),
        max_in_snapshot_log_to_keep: node.config.snapshot_every / 5,
        replication_lag_threshold: node.config.snapshot_every * 2,
        max_payload_entries: 300,
        install_snapshot_timeout: millis(timings.snapshot),
        ..openraft::Config::default()
    }
    .validate()
}

/// Asks the leader to keep this member as a voter that reads its format, until that is so. A member
/// that was restarted usually finds that nothing is to be done; one that was removed, and is back
/// with its disk, is taken in again.
async fn stay(node: Arc<Node>) {
    let asking = async {
        let Some(member) = node.member() else { return };
        let mut leadership = node.leadership.subscribe();
        loop {
            let known = leadership.borrow_and_update().clone();
            if known.is_self {
                let (id, format) = (member.identity.node, node.config.reads_format);
                match membership::announce(member, id, format).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "cannot announce the format yet"),
                }
            } else if let Some(peer) = &node.config.peer {
                let leader = known
                    .leader
                    .map(|leader| leader.address)
                    .filter(|at| !at.is_empty());
                let known = leader.iter();
                let listed = peer.bootstrap.members.iter();
                let others = listed
                    .chain(&peer.bootstrap.leaving)
                    .filter(|(name, _)| *name != peer.name)
                    .map(|(_, at)| at);
                for address in known.chain(others) {
                    if stay_by(&node, member, peer, address).await {
                        return;
                    }
                }
            }
            let pause = tokio::time::sleep(ROUND * 3);
            tokio::select! {
                () = pause => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = node.cancel.cancelled() => {}
    }
}

/// Asks one member; says whether this one needs to ask no further.
async fn stay_by(node: &Arc<Node>, member: &Member, peer: &PeerConfig, address: &str) -> bool {
    use pb::join_reply::Outcome;
    let request = pb::JoinRequest {
        route: Some(pb::Route {
            cluster: member.identity.cluster.clone(),
            from: member.identity.node,
            to: 0,
        }),
        name: peer.name.clone(),
        address: peer.advertise.clone(),
        format: node.config.reads_format.into(),
    };
    match node.channels.join(address, request, ASK_LEADER).await {
        Ok(pb::JoinReply {
            outcome: Some(Outcome::Joined(_)),
        }) => {
            node.stranger.send_replace(None);
            true
        }
        Ok(pb::JoinReply {
            outcome: Some(Outcome::Superseded(by)),
        }) => {
            if let Err(error) = void::mark(&node.config.data_dir) {
                tracing::error!(%error, "cannot mark the data of this member as void");
            }
            node.stop(format!(
                "member {} was replaced by member {} of the same name; its data is void and will \
                 be removed at the next start",
                member.identity.node, by.by
            ));
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::debug!(%address, %error, "cannot ask to stay in the cluster");
            // A member of a later generation says so in words that only a look can check.
            if let Ok(answer) = node
                .channels
                .identify(address, peer.name.clone(), ASK)
                .await
            {
                node.see_cluster(&answer.cluster);
                if answer.leader.is_some() {
                    node.see_stranger(&answer);
                }
            }
            false
        }
    }
}
