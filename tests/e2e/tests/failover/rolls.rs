//! All pods made anew one after the other, while signals cross: by another version, and with their disks.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;

use crate::release::{COORDINATOR_PODS, rise_until, rise_until_at, rollback, upgrade};
use crate::targets::{COORDINATORS, MINUTE, Targets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators of the version before: tests/run failover"]
async fn zz_from_the_version_before_and_back() -> Result<()> {
    let mut targets = Targets::start("upgrade").await?;
    upgrade(&["--set", "image.tag=test"])?;
    let rises = rise_until_at(&mut targets, "test").await?;
    println!("saw: all pods upgraded, while the signals of all targets crossed {rises} times");
    rollback()?;
    let rises = rise_until_at(&mut targets, "previous").await?;
    println!("saw: all pods rolled back, while the signals of all targets crossed {rises} times");
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}

/// The cluster's id, and those of its members.
async fn cluster(targets: &Targets) -> Result<(String, BTreeSet<u64>)> {
    let all = targets.bed.settled(COORDINATORS, MINUTE).await?;
    let leader = &all[0].status;
    let members = leader["members"].as_array().into_iter().flatten();
    let ids: Option<BTreeSet<u64>> = members.map(|member| member["id"].as_u64()).collect();
    let id = leader["cluster"].as_str().context("no cluster")?;
    Ok((id.to_owned(), ids.context("a member without an id")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators without claims: tests/run failover"]
async fn zz_on_empty_dirs_a_roll_loses_nothing() -> Result<()> {
    let mut targets = Targets::start("empty-dirs").await?;
    let before = cluster(&targets).await?;
    upgrade(&["--set", "coordinator.podAnnotations.rolled=once"])?;
    let rises = rise_until(&mut targets, COORDINATOR_PODS, |pod| {
        pod.annotations().contains_key("rolled")
    })
    .await?;
    let after = cluster(&targets).await?;
    // A replica with a new disk is another member of the same cluster.
    ensure!(
        before.0 == after.0 && before.1.is_disjoint(&after.1),
        "{before:?} became {after:?}"
    );
    println!("saw: all disks replaced, while the signals of all targets crossed {rises} times");
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}
