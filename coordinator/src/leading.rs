//! Who leads, as others are told: a leader whose lease has ended does not, a vacancy that is soon over is not spoken of, and
//! whoever would lead next is known before.

use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, Leadership, NodeId, Role, Status};
use tokio::sync::watch;
use tokio::time::Instant;

/// A leader without a lease is looked at this often: it gets one, or learns who leads.
const LOOK: Duration = Duration::from_millis(10);
/// Members are looked at this often.
const MEMBERS: Duration = Duration::from_secs(1);
/// That there is no leader is told only when this has passed: the next one is elected before, in general, and thousands of
/// messages that an agent can do nothing with would go out while that happens.
const VACANT: Duration = Duration::from_secs(1);
/// A member that its leader has not heard of for so long is not expected to lead next.
const AWAY: Duration = Duration::from_secs(5);

/// What others are told of leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leading {
    /// Who leads, as far as this member can tell; it names itself only while it holds its lease. A leader that is cut off
    /// from the others goes on believing, but decides nothing: nobody is to be told to come to it.
    pub leadership: Leadership,
    /// The names of all members: the leader's first, then those that may follow it, the likeliest first.
    pub members: Arc<[String]>,
}

/// What is so at the beginning.
pub(crate) fn told(consensus: &Consensus) -> watch::Sender<Leading> {
    let leadership = now(consensus).0;
    let members = members(&consensus.status(), &leadership, Duration::ZERO);
    watch::Sender::new(Leading {
        leadership,
        members,
    })
}

/// Keeps `told` current until the member has stopped.
pub(crate) async fn follow(consensus: Consensus, told: watch::Sender<Leading>) {
    let mut leadership = consensus.leadership();
    let (mut vacant_since, mut leads_since) = (None, None);
    loop {
        leadership.mark_unchanged();
        let (shown, look_in) = now(&consensus);
        let before = told.borrow().clone();
        let vacant = vacant_for(&mut vacant_since, &before.leadership, &shown);
        let shown = if vacant.is_some() {
            before.leadership
        } else {
            shown
        };
        leads_since = leads_since
            .or_else(|| Some(Instant::now()))
            .filter(|_| shown.is_self);
        let leads_for = leads_since.map(|since| since.elapsed()).unwrap_or_default();
        let members = members(&consensus.status(), &shown, leads_for);
        told.send_if_modified(|before| {
            let next = Leading {
                leadership: shown,
                members,
            };
            let changed = *before != next;
            if before.leadership.is_self && next.leadership.leader.is_none() {
                tracing::warn!(
                    term = next.leadership.term,
                    "the lease has ended: this replica no longer says that it leads"
                );
            }
            *before = next;
            changed
        });
        // The lease runs on the machine's time, as does this.
        let look_in = [vacant, look_in].into_iter().flatten().min();
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(look_in.unwrap_or(MEMBERS).min(MEMBERS)) => {}
        }
    }
}

/// How long a vacancy is still kept back: `before` is what was told last, and `shown` what is so now.
fn vacant_for(
    since: &mut Option<Instant>,
    before: &Leadership,
    shown: &Leadership,
) -> Option<Duration> {
    // One that has told that it leads takes that back at once.
    if shown.leader.is_some() || before.leader.is_none() || before.is_self {
        *since = None;
        return None;
    }
    let since = since.get_or_insert_with(Instant::now);
    VACANT
        .checked_sub(since.elapsed())
        .filter(|left| !left.is_zero())
}

/// The members in the order in which they may lead: [`Status::members`] has that of elections, in which those do not take part
/// that do not vote or are away. `leads_for` is how long this member has led.
fn members(status: &Status, leadership: &Leadership, leads_for: Duration) -> Arc<[String]> {
    let leader = leadership.leader.as_ref().map(|leader| leader.id.node);
    let leads = status.role == Role::Leader;
    let away = |node: NodeId, last_ack: Option<Duration>| {
        leads && Some(node) != leader && last_ack.unwrap_or(leads_for) > AWAY
    };
    let mut members: Vec<_> = status.members.iter().collect();
    members.sort_by_key(|member| {
        (
            Some(member.node) != leader,
            away(member.node, member.last_ack),
            !member.voter,
        )
    });
    members
        .into_iter()
        .map(|member| member.name.clone())
        .collect()
}

/// What is so now, and when to look again if leadership does not change before.
fn now(consensus: &Consensus) -> (Leadership, Option<Duration>) {
    let mut now = consensus.leadership().borrow().clone();
    if !now.is_self {
        // Elected, and not ready to lead: not to be told for the moment that it takes.
        now.leader = now.leader.filter(|leader| Some(leader.id.node) != now.node);
        return (now, None);
    }
    match consensus.lease().filter(|lease| lease.term == now.term) {
        // It is renewed long before, in general.
        Some(lease) => (now, Some(lease.remaining)),
        None => {
            let nobody = Leadership {
                leader: None,
                is_self: false,
                ..now
            };
            (nobody, Some(LOOK))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::replicas::Replicas;

    /// Nothing is asserted about speed.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn seen(term: u64, leader: Option<u64>, is_self: bool) -> Leadership {
        let leader = leader.map(|node| neap_consensus::Leader {
            id: neap_consensus::LeaderId {
                term,
                node: neap_consensus::NodeId(node),
            },
            name: format!("member-{node}"),
            address: "127.0.0.1:0".into(),
        });
        Leadership {
            term,
            leader,
            is_self,
            node: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_vacancy_is_told_when_it_lasts() {
        let mut since = None;
        let (one, nobody, two) = (
            seen(1, Some(1), false),
            seen(2, None, false),
            seen(3, Some(2), false),
        );
        assert_eq!(vacant_for(&mut since, &one, &nobody), Some(VACANT));
        tokio::time::advance(VACANT / 2).await;
        assert_eq!(vacant_for(&mut since, &one, &nobody), Some(VACANT / 2));
        // The next leader is told at once, and the next vacancy counts from its own beginning.
        assert_eq!(vacant_for(&mut since, &one, &two), None);
        assert_eq!(vacant_for(&mut since, &two, &nobody), Some(VACANT));
        tokio::time::advance(VACANT).await;
        assert_eq!(vacant_for(&mut since, &two, &nobody), None);
        // What a leader said of itself is taken back at once.
        let own = seen(2, Some(1), true);
        assert_eq!(vacant_for(&mut None, &own, &nobody), None);
    }

    #[test]
    fn those_that_may_lead_next_stand_behind_the_leader() {
        let ago = |millis| Some(Duration::from_millis(millis));
        let member = |node: u64, voter, last_ack| neap_consensus::MemberStatus {
            node: NodeId(node),
            name: format!("member-{node}"),
            address: String::new(),
            voter,
            lag: None,
            last_ack,
        };
        let mut status = Status {
            node: Some(NodeId(3)),
            role: Role::Leader,
            members: vec![
                member(1, true, ago(5_001)),
                member(2, false, ago(10)),
                member(3, true, None),
                member(4, true, ago(10)),
                member(5, true, None),
            ],
            ..Status::default()
        };
        let order = |status: &Status, seconds| {
            let members = members(
                status,
                &seen(1, Some(3), true),
                Duration::from_secs(seconds),
            );
            let digit = |name: &String| name.trim_start_matches("member-").to_owned();
            members.iter().map(digit).collect::<Vec<_>>().join(" ")
        };
        // The fifth has not answered yet, and has not had the time.
        assert_eq!(order(&status, 1), "3 4 5 2 1");
        assert_eq!(order(&status, 6), "3 4 2 1 5");
        // A follower does not know who is away.
        status.role = Role::Follower;
        assert_eq!(order(&status, 6), "3 1 4 5 2");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_whose_lease_has_ended_names_nobody() {
        let replicas = Replicas::formed(3).await;
        let seat = replicas.leader().await;
        let leader = replicas.members()[seat].clone();
        let sender = told(&leader);
        let mut seen = sender.subscribe();
        tokio::spawn(follow(leader.clone(), sender));
        let wait = tokio::time::timeout(DEADLINE, seen.wait_for(|now| now.leadership.is_self));
        let before = wait.await.expect("it leads").unwrap().clone();
        assert_eq!(before.members.len(), 3);
        let own = before.leadership.leader.map(|leader| leader.name);
        assert_eq!(before.members.first(), own.as_ref());
        for (other, member) in replicas.members().iter().enumerate() {
            if other != seat {
                member.shutdown().await;
            }
        }
        let wait = tokio::time::timeout(DEADLINE, seen.wait_for(|now| !now.leadership.is_self));
        let after = wait
            .await
            .expect("the lease ends")
            .unwrap()
            .clone()
            .leadership;
        assert_eq!(leader.lease(), None);
        assert_eq!((after.leader, after.node), (None, before.leadership.node));
        // Nobody else can have been elected.
        assert!(leader.leadership().borrow().is_self || after.term >= before.leadership.term);
    }
}
