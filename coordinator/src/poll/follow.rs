//! Whether this replica asks.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Poller;
use crate::leading::Leading;

/// A leader whose lease is late goes on asking for so long: to begin anew is to ask everything at once.
const WITHOUT_LEASE: Duration = Duration::from_secs(1);

/// Has `poller` ask while this replica leads, as others are told, until nobody tells any more.
pub(crate) async fn follow(poller: &Poller, mut leading: watch::Receiver<Leading>) {
    loop {
        if wait(&mut leading, |now| now.leadership.is_self)
            .await
            .is_none()
        {
            return;
        }
        poller.lead(true);
        loop {
            if wait(&mut leading, |now| !now.leadership.is_self)
                .await
                .is_none()
            {
                return;
            }
            let settled = wait(&mut leading, |now| now.leadership.leader.is_some());
            match timeout(WITHOUT_LEASE, settled).await {
                Ok(None) => return,
                Ok(Some(true)) => {}
                Ok(Some(false)) | Err(_) => break,
            }
        }
        poller.lead(false);
    }
}

/// Waits until `wanted` is so, and gives whether this replica leads then; `None` when nobody tells any more.
async fn wait(
    leading: &mut watch::Receiver<Leading>,
    wanted: impl Fn(&Leading) -> bool,
) -> Option<bool> {
    let now = leading.wait_for(wanted).await.ok()?;
    Some(now.leadership.is_self)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use neap_consensus::{Leader, LeaderId, Leadership, NodeId};

    use super::*;
    use crate::clock::SystemClock;
    use crate::metrics::Metrics;
    use crate::poll::PollLimits;

    fn told(leader: Option<u64>) -> Leading {
        let leader = leader.map(|node| Leader {
            id: LeaderId {
                term: 1,
                node: NodeId(node),
            },
            name: format!("member-{node}"),
            address: String::new(),
        });
        Leading {
            leadership: Leadership {
                term: 1,
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
        let (tell, leading) = watch::channel(told(None));
        let following = poller.clone();
        let task = tokio::spawn(async move { follow(&following, leading).await });
        // Time stands still until every task waits.
        let asks = async |leader, after| {
            tell.send_replace(told(leader));
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
        assert!(!asks(None, WITHOUT_LEASE + moment).await, "it is over");
        assert!(asks(Some(1), moment).await);
        assert!(!asks(Some(2), moment).await, "another leads");
        drop(tell);
        task.await.unwrap();
    }
}
