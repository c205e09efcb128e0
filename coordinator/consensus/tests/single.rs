//! One member is a cluster of one over the same code path.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::cluster::wait;
use common::list::{List, ListView, command};
use neap_consensus::ports::Ports;
use neap_consensus::{
    BootClock, Config, Consensus, HandOverError, LeaveError, OpenError, ProposeError, Role,
};

async fn open(config: Config, ports: Ports) -> Result<(Consensus, ListView), OpenError> {
    common::log();
    let (list, view) = List::new();
    let member = Consensus::open_on(config, list, Arc::new(BootClock), ports).await?;
    Ok((member, view))
}

async fn lead(member: &Consensus) {
    let mut leadership = member.leadership();
    let leading = leadership.wait_for(|now| now.is_self);
    tokio::time::timeout(common::cluster::DEADLINE, leading)
        .await
        .unwrap()
        .unwrap();
    wait("a lease", || member.lease()).await;
}

#[tokio::test]
async fn it_leads_commits_and_comes_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        snapshot_every: 20,
        ..Config::single(dir.path(), 3)
    };
    let (member, view) = open(config.clone(), Ports::default()).await.unwrap();
    lead(&member).await;
    let mut last = 0;
    for value in 0..50 {
        let at = member.propose(1, command(value)).await.unwrap();
        assert!(at.index > last);
        last = at.index;
    }
    assert_eq!(view.values(), (0..50).collect::<Vec<u64>>());
    let lease = member.lease().unwrap();
    let status = member.status();
    assert_eq!((lease.term, Some(lease.node)), (status.term, status.node));
    assert_eq!((status.role, status.members.len()), (Role::Leader, 1));
    assert!(status.fsync.count > 0 && status.fsync.total >= status.fsync.max);
    wait("its own format on record", || {
        (member.format() == 3).then_some(())
    })
    .await;
    wait("a snapshot", || {
        (member.status().snapshot_index > 0).then_some(())
    })
    .await;
    wait("a shorter log", || {
        (member.status().purged_index > 0).then_some(())
    })
    .await;
    let (cluster, node) = (status.cluster, status.node);
    member.shutdown().await;
    assert_eq!(member.lease(), None);
    assert!(matches!(
        member.propose(1, command(0)).await,
        Err(ProposeError::Stopped { .. })
    ));

    let (member, view) = open(config, Ports::default()).await.unwrap();
    lead(&member).await;
    assert_eq!(view.values(), (0..50).collect::<Vec<u64>>());
    let again = member.status();
    assert_eq!((again.cluster, again.node), (cluster, node));
    assert!(again.term > status.term);
    let at = member.propose(1, command(50)).await.unwrap();
    assert!(at.index > last);
    member.shutdown().await;
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _) = open(Config::single(dir.path(), 1), Ports::default())
        .await
        .unwrap();
    lead(&member).await;
    let limit = Config::MAX_COMMAND;
    let large = bytes::Bytes::from(vec![1; limit + 1]);
    let size = limit + 1;
    assert_eq!(
        member.propose(1, large).await,
        Err(ProposeError::TooLarge { size, limit })
    );
    assert_eq!(member.hand_over().await, Err(HandOverError::NoSuccessor));
    assert_eq!(
        member.leave(Duration::from_secs(5)).await,
        Err(LeaveError::LastVoter)
    );
    member.propose(1, command(1)).await.unwrap();
    member.shutdown().await;
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::single(dir.path(), 1);
    let (member, _) = open(config.clone(), Ports::default()).await.unwrap();
    let refused = open(config.clone(), Ports::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains(&dir.path().display().to_string())
    );
    lead(&member).await;
    member.shutdown().await;
    let (member, _) = open(config, Ports::default()).await.unwrap();
    member.shutdown().await;
}

#[tokio::test]
async fn a_failed_commit_stops_it_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let hook = broken.clone();
    let ports = Ports {
        before_commit: Some(Arc::new(move || {
            if hook.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(std::io::Error::other("no space left on device"));
            }
            Ok(())
        })),
        ..Ports::default()
    };
    let (member, _) = open(Config::single(dir.path(), 1), ports).await.unwrap();
    lead(&member).await;
    member.propose(1, command(1)).await.unwrap();
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let failed = member.propose(1, command(2)).await.unwrap_err();
    assert!(
        matches!(
            failed,
            ProposeError::Stopped { .. } | ProposeError::Timeout { .. }
        ),
        "{failed}"
    );
    let reason = tokio::time::timeout(common::cluster::DEADLINE, member.stopped())
        .await
        .unwrap();
    assert!(reason.contains("no space left on device"), "{reason}");
    // A disk that works again changes nothing: what it holds is not known.
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(
        member.propose(1, command(3)).await,
        Err(ProposeError::Stopped { .. })
    ));
    assert_eq!(
        (member.lease(), member.status().role),
        (None, Role::Stopped)
    );
    member.shutdown().await;

    let config = Config::single(dir.path(), 1);
    let (member, view) = open(config, Ports::default()).await.unwrap();
    lead(&member).await;
    assert_eq!(view.values().first(), Some(&1));
    member.shutdown().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_applied_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _) = open(Config::single(dir.path(), 1), Ports::default())
        .await
        .unwrap();
    lead(&member).await;
    let later = bytes::Bytes::from_static(&[2, 0]);
    assert!(member.propose(1, later).await.is_err());
    let reason = tokio::time::timeout(common::cluster::DEADLINE, member.stopped())
        .await
        .unwrap();
    assert!(reason.contains("version 2; 1 is readable"), "{reason}");
    member.shutdown().await;
}

#[tokio::test]
async fn bounds_are_checked_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::single(dir.path().join("data"), 1);
    config.timings.election_max = config.timings.election_min;
    let refused = open(config.clone(), Ports::default()).await.err().unwrap();
    assert!(
        refused
            .to_string()
            .starts_with("timings.election_max is \"300ms\""),
        "{refused}"
    );
    assert!(!config.data_dir.exists());
}
