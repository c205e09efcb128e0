//! Members that come, go, and lose their disks.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod common;

use std::time::Duration;

use common::Cluster;
use common::certificates::Authority;
use common::cluster::{DEADLINE, wait};
use common::list::command;
use neap_consensus::{
    LeaveError, NodeId, OpenError, ProposeError, RecoverError, RemoveError, Role, recover,
};
use tokio::time::Instant;

/// No seat at all, for links.
const NOWHERE: usize = usize::MAX;

fn node(cluster: &Cluster, seat: usize) -> u64 {
    cluster.member(seat).status().node.unwrap().0
}

/// Has whoever leads remove a member, again where something stood in the way.
async fn remove(cluster: &Cluster, gone: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let leader = cluster.wait_leader().await;
        match cluster.member(leader).remove(NodeId(gone)).await {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_grows_from_one_to_five_and_shrinks_to_one() {
    let mut cluster = Cluster::formed(1).await;
    cluster.propose(0).await;
    for seat in 1..5 {
        cluster.add_seat();
        cluster.expected = seat + 1;
        cluster.open(seat).await;
        cluster.wait_voters(seat + 1).await;
        cluster.propose(seat as u64).await;
    }
    assert_eq!(cluster.wait_equal().await, [0, 1, 2, 3, 4]);
    // The highest first, as a StatefulSet does; each may be the leader.
    for seat in (1..5).rev() {
        let leaving = cluster.member(seat).clone();
        leaving.leave(DEADLINE).await.unwrap();
        cluster.close(seat).await;
        cluster.wait_voters(seat).await;
        cluster.propose(10 + seat as u64).await;
    }
    assert_eq!(cluster.wait_equal().await, [0, 1, 2, 3, 4, 14, 13, 12, 11]);
    assert_eq!(
        cluster.member(0).leave(DEADLINE).await,
        Err(LeaveError::LastVoter)
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_join_all_at_once() {
    let mut cluster = Cluster::formed(1).await;
    for seat in 1..5 {
        cluster.add_seat();
        cluster.expected = seat + 1;
    }
    for seat in 1..5 {
        cluster.open(seat).await;
    }
    cluster.wait_voters(5).await;
    cluster.propose(1).await;
    assert_eq!(cluster.wait_equal().await, [1]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_itself_may_leave() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let leader = cluster.wait_leader().await;
    cluster
        .member(leader)
        .clone()
        .leave(DEADLINE)
        .await
        .unwrap();
    cluster.close(leader).await;
    cluster.wait_voters(2).await;
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_removes_members_that_are_gone_one_by_one() {
    let mut cluster = Cluster::formed(5).await;
    cluster.propose(1).await;
    let leader = cluster.wait_leader().await;
    let others: Vec<usize> = (0..5).filter(|seat| *seat != leader).collect();
    assert_eq!(
        cluster
            .member(leader)
            .remove(NodeId(node(&cluster, leader)))
            .await,
        Err(RemoveError::Itself)
    );
    let gone = [node(&cluster, others[0]), node(&cluster, others[1])];
    assert_eq!(
        cluster.member(others[2]).remove(NodeId(gone[0])).await,
        Err(RemoveError::NotLeader)
    );
    cluster.close(others[0]).await;
    cluster.close(others[1]).await;
    for (left, id) in [(4, gone[0]), (3, gone[1])] {
        remove(&cluster, id).await;
        cluster.wait_voters(left).await;
    }
    // Of those that stay one more may go: two are a majority of three.
    cluster.close(others[2]).await;
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    // Who is no member any more is removed already.
    remove(&cluster, gone[0]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_a_cluster_that_would_be_without_a_majority() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let leader = cluster.wait_leader().await;
    let (stays, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    let gone_id = NodeId(node(&cluster, gone));
    cluster.close(gone).await;
    wait("the silence of the one that is gone", || {
        let seat = cluster.leader()?;
        let members = cluster.member(seat).status().members;
        let mut silent = members
            .into_iter()
            .filter(|member| member.node == gone_id)
            .map(|member| member.last_ack);
        let silent = silent
            .next()?
            .is_none_or(|ago| ago > Duration::from_secs(3));
        silent.then_some(())
    })
    .await;
    let leaving = cluster.member(stays).clone();
    let refused = leaving.leave(Duration::from_secs(1)).await;
    assert!(
        matches!(&refused, Err(LeaveError::Timeout { .. })),
        "{refused:?}"
    );
    assert_eq!(leaving.status().members.len(), 3);
    // Once the one that is gone is removed, nothing stands in the way.
    remove(&cluster, gone_id.0).await;
    cluster.wait_voters(2).await;
    leaving.leave(DEADLINE).await.unwrap();
    cluster.close(stays).await;
    cluster.wait_voters(1).await;
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_disk_comes_back_as_another() {
    let mut cluster = Cluster::formed(3).await;
    for lost in 0..3 {
        cluster.propose(lost as u64).await;
        let before = node(&cluster, lost);
        cluster.close(lost).await;
        std::fs::remove_dir_all(&cluster.seats[lost].dir).unwrap();
        cluster.open(lost).await;
        cluster.wait_voters(3).await;
        let after = node(&cluster, lost);
        assert!(after > before, "{before} became {after}");
        let leader = cluster.wait_leader().await;
        let known = cluster.member(leader).status().members;
        assert!(
            known.iter().all(|member| member.node.0 != before),
            "{known:?}"
        );
    }
    assert_eq!(cluster.wait_equal().await, [0, 1, 2]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_left_comes_back_with_its_disk_as_itself() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let before = node(&cluster, 2);
    cluster.member(2).clone().leave(DEADLINE).await.unwrap();
    cluster.close(2).await;
    cluster.wait_voters(2).await;
    cluster.propose(2).await;
    cluster.open(2).await;
    cluster.wait_voters(3).await;
    assert_eq!(node(&cluster, 2), before);
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_member_without_its_disk_takes_over_from_those_that_are_leaving() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    cluster.close(0).await;
    std::fs::remove_dir_all(&cluster.seats[0].dir).unwrap();
    // It alone is wanted from now on, and the others, which have the state, are still there.
    cluster.expected = 1;
    cluster.open(0).await;
    cluster.wait_voters(3).await;
    for seat in [2, 1] {
        let leaving = cluster.member(seat).clone();
        leaving.leave(DEADLINE).await.unwrap();
        cluster.close(seat).await;
        cluster.wait_voters(seat).await;
    }
    assert_eq!(cluster.wait_equal().await, [1]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_leave_without_a_word_are_waited_for_no_longer_than_a_minority() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let was = cluster.member(2).status().cluster;
    for seat in [0, 1] {
        cluster.close(seat).await;
    }
    std::fs::remove_dir_all(&cluster.seats[0].dir).unwrap();
    cluster.expected = 1;
    cluster.form_after = Duration::from_millis(1_500);
    cluster.open(0).await;
    // Time enough to form a cluster, were nobody there.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(cluster.member(0).status().role, Role::Joining);
    cluster.close(2).await;
    cluster.wait_voters(1).await;
    assert_ne!(cluster.member(0).status().cluster, was);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_leave_together_hand_leadership_to_one_that_stays() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let leader = cluster.wait_leader().await;
    let (stays, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (one, two) = tokio::join!(
        cluster.member(leader).leave(DEADLINE),
        cluster.member(other).leave(DEADLINE)
    );
    assert_eq!((one, two), (Ok(()), Ok(())));
    cluster.close(leader).await;
    cluster.close(other).await;
    assert_eq!(cluster.wait_voters(1).await, stays);
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_reached_is_not_made_a_voter() {
    let mut cluster = Cluster::formed(1).await;
    let new = cluster.add_seat();
    cluster.expected = 2;
    // It reaches the leader; nothing that the leader dials itself gets through to it.
    let dialled = cluster.seats[new].address.to_string();
    cluster.links.name(dialled, NOWHERE);
    cluster.links.cut(0, NOWHERE);
    cluster.open(new).await;
    wait("a learner", || {
        (cluster.member(0).status().members.len() == 2).then_some(())
    })
    .await;
    // Longer than a lease: as a voter it would have cost the leader its own.
    for value in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let taken = cluster.member(0).propose(1, command(value)).await;
        taken.expect("it is a majority by itself");
    }
    let members = cluster.member(0).status().members;
    assert!(members.iter().any(|member| !member.voter), "{members:?}");
    cluster.links.heal();
    cluster.wait_voters(2).await;
    assert_eq!(cluster.wait_equal().await, (0..10).collect::<Vec<u64>>());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_another_origin_is_told_of() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let was = cluster.member(2).status().cluster;
    for seat in 0..3 {
        cluster.close(seat).await;
    }
    for seat in 0..2 {
        std::fs::remove_dir_all(&cluster.seats[seat].dir).unwrap();
    }
    cluster.form_after = Duration::from_millis(200);
    for seat in 0..2 {
        cluster.open(seat).await;
    }
    cluster.wait_voters(2).await;
    let is = cluster.member(0).status().cluster;
    cluster.open(2).await;
    let status = wait("the other cluster", || {
        let status = cluster.member(2).status();
        status.stranger.is_some().then_some(status)
    })
    .await;
    assert_eq!((status.cluster, status.stranger), (was, Some(is)));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_of_a_replaced_member_is_void() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    cluster.close(2).await;
    let old = cluster.seats[2].dir.clone();
    let aside = old.with_extension("old");
    std::fs::rename(&old, &aside).unwrap();
    cluster.open(2).await;
    cluster.wait_voters(3).await;
    let replaced_by = node(&cluster, 2);
    cluster.close(2).await;
    std::fs::remove_dir_all(&old).unwrap();
    std::fs::rename(&aside, &old).unwrap();

    cluster.open(2).await;
    let stopped = cluster.member(2).clone();
    let reason = tokio::time::timeout(DEADLINE, stopped.stopped())
        .await
        .unwrap();
    assert!(
        reason.contains(&format!("replaced by member {replaced_by}")),
        "{reason}"
    );
    cluster.close(2).await;
    // The next start begins anew, with what the cluster has.
    cluster.open(2).await;
    cluster.wait_voters(3).await;
    assert!(node(&cluster, 2) > replaced_by);
    assert_eq!(cluster.wait_equal().await, [1]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_is_the_latest_that_all_voters_read() {
    let mut cluster = Cluster::new(3);
    for seat in 0..3 {
        cluster.seats[seat].format = if seat == 1 { 1 } else { 2 };
        cluster.open(seat).await;
    }
    let leader = cluster.wait_voters(3).await;
    assert_eq!(cluster.member(leader).format(), 1);
    cluster.close(1).await;
    cluster.seats[1].format = 2;
    cluster.open(1).await;
    wait("format 2 everywhere", || {
        (0..3)
            .all(|seat| cluster.member(seat).format() == 2)
            .then_some(())
    })
    .await;
    let leader = cluster.wait_voters(3).await;
    let taken = cluster.member(leader).propose(2, command(20)).await;
    taken.expect("what every voter reads");
    // A rollback of one member is announced as well, and everyone goes by it.
    cluster.close(1).await;
    cluster.seats[1].format = 1;
    cluster.open(1).await;
    wait("format 1 everywhere", || {
        (0..3)
            .all(|seat| cluster.member(seat).format() == 1)
            .then_some(())
    })
    .await;
    let leader = cluster.wait_voters(3).await;
    let refused = cluster.member(leader).propose(2, command(21)).await;
    let why = ProposeError::Format {
        format: 2,
        readable: 1,
    };
    assert_eq!(refused, Err(why));
    cluster.propose(22).await;
    assert_eq!(cluster.wait_equal().await, [20, 22]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_goes_on_and_the_others_are_refused() {
    let mut cluster = Cluster::formed(3).await;
    for value in 0..10 {
        cluster.propose(value).await;
    }
    cluster.wait_equal().await;
    let before = cluster.member(0).status().cluster;
    for seat in 0..3 {
        cluster.close(seat).await;
    }
    // The majority is lost: the third goes on alone.
    let (dir, address) = (
        cluster.seats[2].dir.clone(),
        cluster.seats[2].address.to_string(),
    );
    let recovered = recover(&dir, &before, "member-2", &address).unwrap();
    let again = recover(&dir, &before, "member-2", &address).unwrap_err();
    assert!(
        matches!(&again, RecoverError::OtherCluster { found, .. } if *found == recovered.cluster),
        "{again}"
    );
    assert_eq!(recovered.before, before);
    cluster.open(2).await;
    cluster.wait_voters(1).await;
    assert_eq!(cluster.wait_equal().await, (0..10).collect::<Vec<u64>>());
    cluster.propose(10).await;
    assert_eq!(cluster.member(2).status().cluster, recovered.cluster);

    // The lost majority turns up, with disks of the old cluster: it must not go on beside it.
    for seat in 0..2 {
        cluster.open(seat).await;
    }
    for seat in 0..2 {
        let stopped = cluster.member(seat).clone();
        let reason = tokio::time::timeout(DEADLINE, stopped.stopped())
            .await
            .unwrap();
        assert!(reason.contains(&recovered.cluster), "{reason}");
        cluster.close(seat).await;
        // As the message says: without the volume it joins as a new member.
        std::fs::remove_dir_all(&cluster.seats[seat].dir).unwrap();
        cluster.open(seat).await;
    }
    cluster.wait_voters(3).await;
    assert_eq!(cluster.wait_equal().await, (0..=10).collect::<Vec<u64>>());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_lost_their_disks_form_nothing_beside_a_survivor() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    cluster.wait_equal().await;
    // The first of the list, which would form a cluster, is among those that lose their disks; the
    // survivor is one that follows.
    let survivor = if cluster.wait_leader().await == 1 {
        2
    } else {
        1
    };
    let lost = [0, 3 - survivor];
    let before = cluster.member(survivor).status().cluster;
    cluster.form_after = Duration::from_secs(2);
    for seat in lost {
        cluster.close(seat).await;
        std::fs::remove_dir_all(&cluster.seats[seat].dir).unwrap();
    }
    for seat in lost {
        cluster.open(seat).await;
    }
    tokio::time::sleep(cluster.form_after * 3).await;
    for seat in lost {
        let status = cluster.member(seat).status();
        assert_eq!((status.node, status.role), (None, Role::Joining), "{seat}");
        assert!(!status.votes);
        cluster.close(seat).await;
    }
    assert!(cluster.member(survivor).status().votes, "by its disk");
    cluster.close(survivor).await;
    let seat = &cluster.seats[survivor];
    let (dir, name, address) = (seat.dir.clone(), seat.name.clone(), seat.address);
    let recovered = recover(&dir, &before, &name, &address.to_string()).unwrap();
    for seat in [survivor, lost[0], lost[1]] {
        cluster.open(seat).await;
    }
    cluster.wait_voters(3).await;
    for seat in 0..3 {
        let status = cluster.member(seat).status();
        assert_eq!(status.cluster, recovered.cluster, "{seat}");
        assert!(status.votes, "{seat}");
    }
    assert_eq!(cluster.wait_equal().await, [1]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recovered_from_a_member_that_runs_or_from_none() {
    let cluster = Cluster::formed(1).await;
    let dir = cluster.seats[0].dir.clone();
    let refused = recover(&dir, "a.1", "member-0", "localhost:1").unwrap_err();
    assert!(
        matches!(refused, RecoverError::Open(OpenError::InUse { .. })),
        "{refused}"
    );
    let empty = tempfile::tempdir().unwrap();
    let refused = recover(empty.path(), "a.1", "member-0", "localhost:1").unwrap_err();
    assert!(matches!(refused, RecoverError::NoMember(_)), "{refused}");
    assert!(std::fs::read_dir(empty.path()).unwrap().next().is_none());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_opens_no_door() {
    let mut cluster = Cluster::formed(1).await;
    cluster.add_seat();
    cluster.expected = 2;
    let stranger = Authority::new();
    // It trusts the right authority, so that only its own certificate stands in its way.
    let forged = stranger.sign("member-1", cluster.authority.pem());
    cluster.seats[1].tls.send_replace(forged);
    cluster.open(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.member(1).status().role, Role::Joining);
    assert_eq!(cluster.member(0).status().members.len(), 1);
    // The right certificate, sent while it runs, lets it in.
    let right = cluster.authority.sign("member-1", cluster.authority.pem());
    cluster.seats[1].tls.send_replace(right);
    cluster.wait_voters(2).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_change_while_it_runs() {
    let mut cluster = Cluster::formed(3).await;
    cluster.propose(1).await;
    let next = Authority::new();
    let both = format!("{}{}", cluster.authority.pem(), next.pem());
    // As DESIGN rule 7 has it: first everyone trusts both, then everyone moves.
    for seat in 0..3 {
        let name = cluster.seats[seat].name.clone();
        cluster.seats[seat]
            .tls
            .send_replace(cluster.authority.sign(&name, &both));
    }
    for seat in 0..3 {
        let name = cluster.seats[seat].name.clone();
        cluster.seats[seat]
            .tls
            .send_replace(next.sign(&name, &both));
    }
    // A set that cannot be used leaves the last good one in place.
    let broken = std::sync::Arc::new(neap_consensus::PeerTls {
        ca: both.clone(),
        certificate: "not a certificate".into(),
        key: "not a key".into(),
    });
    cluster.seats[0].tls.send_replace(broken);
    // New connections everywhere.
    for seat in 0..3 {
        cluster.close(seat).await;
        let name = cluster.seats[seat].name.clone();
        if seat == 0 {
            cluster.seats[0].tls.send_replace(next.sign(&name, &both));
        }
        cluster.open(seat).await;
        cluster.wait_leader().await;
    }
    cluster.propose(2).await;
    assert_eq!(cluster.wait_equal().await, [1, 2]);
    cluster.end().await;
}
