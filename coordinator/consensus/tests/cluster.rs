//! Three and more members under faults.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Cluster;
use common::cluster::{DEADLINE, wait};
use common::list::command;
use neap_consensus::{HandOverError, ProposeError, Role};

/// Every value once, in any order.
fn all_there(mut found: Vec<u64>, expected: impl Iterator<Item = u64>) {
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, expected.collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_forms_in_any_order_of_starts() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut cluster = Cluster::new(3);
        for seat in order {
            cluster.open(seat).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leader = cluster.wait_voters(3).await;
        let ids: Vec<String> = (0..3)
            .map(|seat| cluster.member(seat).status().cluster)
            .collect();
        assert!(
            ids.iter().all(|id| *id == ids[0] && !id.is_empty()),
            "{ids:?}"
        );
        let names: Vec<String> = cluster
            .member(leader)
            .status()
            .members
            .into_iter()
            .map(|member| member.name)
            .collect();
        assert_eq!(names.len(), 3);
        cluster.propose(7).await;
        assert_eq!(cluster.wait_equal().await, [7]);
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_formed_before_every_expected_member_has_answered() {
    let mut cluster = Cluster::new(3);
    cluster.open(0).await;
    cluster.open(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for seat in 0..2 {
        assert_eq!(cluster.member(seat).status().role, Role::Joining);
    }
    let early = cluster.member(0).propose(1, command(1)).await;
    assert_eq!(early, Err(ProposeError::NotLeader { hint: None }));
    cluster.open(2).await;
    cluster.wait_voters(3).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::formed(3).await;
    let mut value = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            cluster.propose(value).await;
            value += 1;
        }
        let leader = cluster.wait_leader().await;
        let term = cluster.member(leader).status().term;
        cluster.close(leader).await;
        let next = cluster.wait_leader().await;
        assert_ne!(next, leader);
        assert!(cluster.member(next).status().term > term);
        cluster.propose(value).await;
        value += 1;
        let node = cluster.member(next).status().members.len();
        assert_eq!(node, 3);
        cluster.open(leader).await;
        all_there(cluster.wait_equal().await, 0..value);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_has_no_lease_and_commits_nothing() {
    let cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let old = cluster.wait_leader().await;
    cluster.links.isolate(old, 3);
    wait("the end of the lease", || {
        cluster.member(old).lease().is_none().then_some(())
    })
    .await;
    let refused = cluster.member(old).propose(1, command(99)).await;
    assert!(
        matches!(
            refused,
            Err(ProposeError::NotLeader { .. } | ProposeError::Timeout { .. } | ProposeError::Lost)
        ),
        "{refused:?}"
    );
    let new = cluster.wait_leader().await;
    assert_ne!(new, old);
    cluster.propose(2).await;
    cluster.links.heal();
    wait("the old leader to follow", || {
        (cluster.member(old).status().role == Role::Follower).then_some(())
    })
    .await;
    let values = cluster.wait_equal().await;
    assert_eq!(
        values
            .iter()
            .filter(|value| **value != 99)
            .collect::<Vec<_>>(),
        [&1, &2]
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_cut_off_disturbs_nobody_when_it_is_back() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.wait_leader().await;
    let term = cluster.member(leader).status().term;
    let follower = (leader + 1) % 3;
    cluster.links.isolate(follower, 3);
    cluster.propose(1).await;
    // Long enough for several election timeouts; with pre-vote its term must not grow.
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.links.heal();
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    // A loaded machine may lose a lease of its own; what must not happen is a term per timeout.
    assert!(cluster.member(follower).status().term <= term + 1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_way_cuts_heal_without_a_restart() {
    let cluster = Cluster::formed(3).await;
    for inbound in [true, false] {
        let leader = cluster.wait_leader().await;
        for other in (0..3).filter(|other| *other != leader) {
            if inbound {
                cluster.links.cut(other, leader);
            } else {
                cluster.links.cut(leader, other);
            }
        }
        let next = wait("another leader", || {
            cluster.leader().filter(|new| *new != leader)
        })
        .await;
        assert_ne!(next, leader);
        cluster.propose(1).await;
        cluster.links.heal();
        cluster.wait_equal().await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_between_two_that_do_not_hear_each_other_is_enough() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.wait_leader().await;
    let far = (leader + 2) % 3;
    cluster.links.cut(leader, far);
    cluster.links.cut(far, leader);
    cluster.propose(1).await;
    cluster.links.heal();
    assert_eq!(cluster.wait_equal().await, [1]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_stops_neither_the_leader_nor_a_follower() {
    let cluster = Cluster::formed(3).await;
    cluster.propose(0).await;
    for slow in 0..3 {
        let stalled = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let once = stalled.clone();
        *cluster.seats[slow].before_commit.lock().unwrap() = Some(Arc::new(move || {
            if once.swap(false, std::sync::atomic::Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(2));
            }
            Ok(())
        }));
        let begun = tokio::time::Instant::now();
        let mut committed = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            cluster.propose(1 + slow as u64).await;
            committed += 1;
        }
        assert!(
            !stalled.load(std::sync::atomic::Ordering::SeqCst),
            "seat {slow} did not commit"
        );
        assert!(
            committed > 5,
            "{committed} commits while the disk of seat {slow} stalled"
        );
        wait("the end of the stall", || {
            (cluster.member(slow).status().fsync.max >= Duration::from_secs(2)).then_some(())
        })
        .await;
    }
    cluster.wait_equal().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_its_lease_ends_at_once() {
    let cluster = Cluster::formed(3).await;
    for round in 0..4 {
        cluster.propose(round).await;
        let old = cluster.wait_leader().await;
        let handing = cluster.member(old).clone();
        let to = tokio::time::timeout(DEADLINE, handing.hand_over())
            .await
            .unwrap();
        assert_eq!(handing.lease(), None);
        let to = match to {
            Ok(to) => to,
            Err(error) => panic!("round {round}: {error}"),
        };
        let new = cluster.wait_leader().await;
        assert_ne!(new, old);
        let found = cluster.member(new).status();
        assert_eq!(found.node, Some(to));
    }
    cluster.wait_equal().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_member_is_handed_nothing() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.wait_leader().await;
    let unfit = (leader + 1) % 3;
    cluster.member(unfit).set_fit(false);
    cluster.propose(1).await;
    cluster.wait_equal().await;
    // On a loaded machine a hand-over may not be done in time; where it goes to is what counts.
    let handed = cluster.member(leader).hand_over().await;
    assert!(
        matches!(&handed, Ok(to) if cluster.member(unfit).status().node != Some(*to))
            || matches!(&handed, Err(HandOverError::Timeout { to, .. })
                if cluster.member(unfit).status().node != Some(*to)),
        "{handed:?}"
    );
    let next = cluster.wait_leader().await;
    (0..3).for_each(|seat| cluster.member(seat).set_fit(false));
    cluster.wait_equal().await;
    let nobody = cluster.member(next).hand_over().await;
    assert_eq!(nobody, Err(HandOverError::NoSuccessor));
    wait("its lease", || cluster.member(next).lease()).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_member_catches_up_by_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.snapshot_every = 20;
    for seat in 0..3 {
        cluster.open(seat).await;
    }
    cluster.wait_voters(3).await;
    let lagging = (cluster.wait_leader().await + 1) % 3;
    cluster.propose(0).await;
    cluster.close(lagging).await;
    for value in 1..150 {
        cluster.propose(value).await;
    }
    let leader = cluster.wait_leader().await;
    wait("a log that was cut", || {
        (cluster.member(leader).status().purged_index > 30).then_some(())
    })
    .await;
    cluster.open(lagging).await;
    all_there(cluster.wait_equal().await, 0..150);
    assert!(cluster.member(lagging).status().snapshot_index > 30);
    // What came by snapshot is on disk as well.
    cluster.close(lagging).await;
    cluster.open(lagging).await;
    all_there(cluster.wait_equal().await, 0..150);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_table_reaches_everyone_and_no_log() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.wait_leader().await;
    let table = bytes::Bytes::from(vec![7; 1 << 20]);
    cluster.member(leader).share(table.clone());
    for seat in 0..3 {
        let mut shared = cluster.member(seat).shared();
        let got = shared.wait_for(|shared| shared.is_some());
        let got = tokio::time::timeout(DEADLINE, got)
            .await
            .unwrap()
            .unwrap()
            .clone()
            .unwrap();
        assert_eq!(got.table, table);
        assert_eq!(Some(got.from.node), cluster.member(leader).status().node);
    }
    let follower = (leader + 1) % 3;
    cluster
        .member(follower)
        .share(bytes::Bytes::from_static(b"not mine to give"));
    assert!(cluster.member(leader).status().log_bytes < table.len());
    cluster.end().await;
}
