//! Who leads, as agents are told: a leader whose lease has ended does not.

use std::time::Duration;

use neap_consensus::{Consensus, Leadership};
use tokio::sync::watch;

/// A leader without a lease is looked at this often: it gets one, or learns who leads.
const LOOK: Duration = Duration::from_millis(10);

/// Who leads, as far as this member can tell: [`Leadership`], in which it names itself only while it holds its
/// lease. A leader that is cut off from the others goes on believing, and its agents are to look elsewhere. Their streams stay,
/// idle: a lease that was late must not make all of them dial anew.
pub(super) fn told(consensus: &Consensus) -> watch::Sender<Leadership> {
    watch::Sender::new(now(consensus).0)
}

/// Keeps `told` current until the member has stopped.
pub(super) async fn follow(consensus: Consensus, told: watch::Sender<Leadership>) {
    let mut leadership = consensus.leadership();
    loop {
        leadership.mark_unchanged();
        let (shown, look_in) = now(&consensus);
        told.send_if_modified(|before| {
            let changed = *before != shown;
            if changed && before.is_self && shown.leader.is_none() {
                tracing::warn!(
                    term = shown.term,
                    "the lease has ended: agents are told to look for another leader"
                );
            }
            *before = shown;
            changed
        });
        // The lease runs on the machine's time, as does this.
        let look = async {
            match look_in {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = look => {}
        }
    }
}

/// What is so now, and when to look again if leadership does not change before.
fn now(consensus: &Consensus) -> (Leadership, Option<Duration>) {
    let now = consensus.leadership().borrow().clone();
    if !now.is_self {
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_whose_lease_has_ended_names_nobody() {
        let replicas = Replicas::formed(3).await;
        let seat = replicas.leader().await;
        let leader = replicas.members()[seat].clone();
        let sender = told(&leader);
        let mut seen = sender.subscribe();
        tokio::spawn(follow(leader.clone(), sender));
        let wait = tokio::time::timeout(DEADLINE, seen.wait_for(|now| now.is_self));
        let before = wait.await.expect("it leads").unwrap().clone();
        for (other, member) in replicas.members().iter().enumerate() {
            if other != seat {
                member.shutdown().await;
            }
        }
        let wait = tokio::time::timeout(DEADLINE, seen.wait_for(|now| !now.is_self));
        let after = wait.await.expect("the lease ends").unwrap().clone();
        assert_eq!(leader.lease(), None);
        assert_eq!((after.leader, after.node), (None, before.node));
        // Nobody else can have been elected.
        assert!(leader.leadership().borrow().is_self || after.term >= before.term);
    }
}
