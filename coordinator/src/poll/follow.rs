//! Whether this replica asks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Poller;
use crate::keys::LeaderId;
use crate::leading::Leading;

/// A leader whose lease is late goes on asking for so long: to begin anew is to ask everything at once.
const WITHOUT_LEASE: Duration = Duration::from_secs(1);

/// Has `poller` ask while this replica leads, as others are told, until nobody tells any more. Each
/// leadership asks anew: it does not know the answers of an earlier one.
pub(crate) async fn follow(poller: &Poller, mut leading: watch::Receiver<Leading>) {
    loop {
        let Some(led) = wait(&mut leading, |now| own(now).is_some()).await else {
            return;
        };
        poller.lead(true);
        loop {
            if wait(&mut leading, |now| own(now) != led).await.is_none() {
                return;
            }
            let settled = wait(&mut leading, |now| now.leadership.leader.is_some());
            match timeout(WITHOUT_LEASE, settled).await {
                Ok(None) => return,
                Ok(Some(now)) if now == led => {}
                Ok(Some(_)) | Err(_) => break,
            }
        }
        poller.lead(false);
    }
}

/// This replica's own leadership, where it leads.
fn own(now: &Leading) -> Option<LeaderId> {
    let now = &now.leadership;
    let leader = now.leader.as_ref().filter(|_| now.is_self);
    leader.map(|leader| leader.id)
}

/// Waits until `wanted` is so, and gives this replica's own leadership then; `None` when nobody tells any
/// more.
async fn wait(
    leading: &mut watch::Receiver<Leading>,
    wanted: impl Fn(&Leading) -> bool,
) -> Option<Option<LeaderId>> {
    let now = leading.wait_for(wanted).await.ok()?;
    Some(own(&now))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use neap_consensus::{Leader, Leadership, NodeId};

    use super::*;
    use crate::clock::SystemClock;
    use crate::metrics::Metrics;
    use crate::poll::PollLimits;

    fn told(term: u64, leader: Option<u64>) -> Leading {
        let leader = leader.map(|node| Leader {
            id: LeaderId {
                term,
                node: NodeId(node),
            },
            name: format!("member-{node}"),
            address: String::new(),
        });
        Leading {
            leadership: Leadership {
                term,
                is_self: leader.as_ref().is_some_and(|leader| leader.id.node.0 == 1),
                leader,
                node: Some(NodeId(1)),
            },
            members: Arc::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_while_it_leads_and_a_late_lease_is_waited_for() {
        let metrics = Arc::new(Metrics::new());
        let (poller, _outcomes) =
            Poller::new(Arc::new(SystemClock), metrics, PollLimits::default());
        let (tell, leading) = watch::channel(told(1, None));
        let following = poller.clone();
        let task = tokio::spawn(async move { follow(&following, leading).await });
        // Time stands still until every task waits.
        let asks = async |leader, after| {
            tell.send_replace(told(1, leader));
            tokio::time::sleep(after).await;
            poller.asks()
        };
        let moment = Duration::from_millis(1);
        assert!(!asks(None, moment).await);
        assert!(asks(Some(1), moment).await);
        assert!(
            asks(None, WITHOUT_LEASE - moment).await,
            "the lease is late"
        );
        assert!(asks(Some(1), WITHOUT_LEASE).await);
        let era = poller.era();
        assert_eq!(era, 1, "it has only begun");
        tell.send_replace(told(2, Some(1)));
        tokio::time::sleep(moment).await;
        assert!(poller.asks());
        assert_eq!(poller.era(), era + 2, "elected again, it asks anew");
        assert!(!asks(None, WITHOUT_LEASE + moment).await, "it is over");
        assert!(asks(Some(1), moment).await);
        assert!(!asks(Some(2), moment).await, "another leads");
        drop(tell);
        task.await.unwrap();
    }
}
