//! Partitions and hand-overs among members in this process.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neap_consensus::Consensus;
use tokio::time::Instant;

use crate::common::Cluster;
use crate::common::cluster::wait;
use crate::history::{Client, History, Tell, clients};

/// Between two faults clients have time to do something: a history of nothing shows nothing.
const BETWEEN: Duration = Duration::from_millis(200);

/// What the leaders did.
#[derive(Default)]
struct Done {
    acknowledged: Vec<u64>,
    acts: Vec<Act>,
}

/// A command was committed, and the lease still held: the moment of an external write.
struct Act {
    seat: usize,
    term: u64,
    at: Instant,
}

#[derive(Clone, Default)]
struct Acts(Arc<Mutex<Done>>);

impl Acts {
    /// Has a seat act whenever it may.
    fn of(&self, seat: usize, member: Consensus, tell: Tell) -> tokio::task::JoinHandle<()> {
        let acts = self.clone();
        tokio::spawn(async move {
            let mut leadership = member.leadership();
            let mut client = Client::new(member.clone(), seat, 0, 0, tell);
            loop {
                if leadership.wait_for(|now| now.is_self).await.is_err() {
                    return;
                }
                if member.lease().is_some()
                    && let Some(value) = client.write().await
                {
                    let mut done = acts.0.lock().unwrap();
                    done.acknowledged.push(value);
                    // Looked at under the lock, so that the order of acts is that of leases.
                    if let Some(lease) = member.lease() {
                        let (term, at) = (lease.term, Instant::now());
                        done.acts.push(Act { seat, term, at });
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }

    /// The first act of another seat after `since`.
    async fn first(&self, not: usize, since: Instant) -> Instant {
        wait("an act of another leader", || {
            let done = self.0.lock().unwrap();
            let after = done.acts.partition_point(|act| act.at <= since);
            let mut others = done.acts[after..].iter().filter(|act| act.seat != not);
            others.next().map(|act| act.at)
        })
        .await
    }

    /// No seat may act in a term after one has acted in a later term: no two leaders at once.
    fn check_order(&self) {
        let done = self.0.lock().unwrap();
        for pair in done.acts.windows(2) {
            let (first, then) = (pair[0].term, pair[1].term);
            assert!(first <= then, "acted in term {then} after {first}");
        }
    }
}

/// Everyone hears everyone and has everything.
async fn settled(cluster: &Cluster) -> usize {
    wait("a settled cluster", || {
        let leader = cluster.leader()?;
        let status = cluster.member(leader).status();
        let fresh = status.members.iter().filter(|member| {
            let own = status.node == Some(member.node);
            let heard = member
                .last_ack
                .is_some_and(|ago| ago < Duration::from_millis(300));
            own || (heard && member.lag.is_some_and(|lag| lag <= 2))
        });
        (status.settled && fresh.count() == 3).then_some(leader)
    })
    .await
}

/// One series of faults with its checks. What its clients saw goes to `save`.
async fn series(
    what: &'static str,
    count: usize,
    save: Option<&Path>,
    mut fault: impl AsyncFnMut(&Cluster, usize) -> Instant,
) -> Vec<Duration> {
    let cluster = Cluster::formed(3).await;
    let acts = Acts::default();
    let history = Arc::new(Mutex::new(History::default()));
    let tell: Tell = Arc::new({
        let history = history.clone();
        move |step| history.lock().unwrap().take(step)
    });
    let mut acting = Vec::new();
    for seat in 0..3 {
        let (member, view) = (cluster.member(seat), cluster.view(seat));
        acting.push(acts.of(seat, member.clone(), tell.clone()));
        acting.extend(clients(member, view, (seat, 0), &tell));
    }
    let mut times = Vec::new();
    for _ in 0..count {
        settled(&cluster).await;
        tokio::time::sleep(BETWEEN).await;
        let leader = settled(&cluster).await;
        history.lock().unwrap().fault(what);
        let since = fault(&cluster, leader).await;
        times.push(acts.first(leader, since).await.duration_since(since));
        cluster.links.heal();
    }
    settled(&cluster).await;
    acting.iter().for_each(tokio::task::JoinHandle::abort);
    let applied = cluster.wait_equal().await;
    let distinct: BTreeSet<u64> = applied.iter().copied().collect();
    assert_eq!(distinct.len(), applied.len(), "a command was applied twice");
    let acknowledged = acts.0.lock().unwrap().acknowledged.clone();
    let lost = acknowledged
        .iter()
        .filter(|value| !distinct.contains(value))
        .count();
    assert_eq!(lost, 0, "acknowledged commands are gone");
    acts.check_order();
    println!(
        "checked {} acknowledged commands on 3 members",
        acknowledged.len()
    );
    cluster.end().await;
    if let Some(path) = save {
        history.lock().unwrap().save(path).unwrap();
    }
    times
}

/// Times from cutting the leader off to the first act of the next.
pub(crate) async fn partitions(count: usize, save: Option<&Path>) -> Vec<Duration> {
    series("partition", count, save, async |cluster, leader| {
        let since = Instant::now();
        cluster.links.isolate(leader, 3);
        since
    })
    .await
}

/// Times from the call to hand over to the first act of the next leader.
pub(crate) async fn hand_overs(count: usize, save: Option<&Path>) -> Vec<Duration> {
    series("hand-over", count, save, async |cluster, leader| {
        let since = Instant::now();
        if let Err(error) = cluster.member(leader).clone().hand_over().await {
            eprintln!("hand-over: {error}");
        }
        since
    })
    .await
}
