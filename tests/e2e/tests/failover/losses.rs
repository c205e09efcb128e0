//! Disks that are lost for good: a majority of them, and all.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::DeleteParams;
use neap_e2e::{Bed, Coordinator, NEAP, podless, until, within};

use crate::release::upgrade;
use crate::targets::{COORDINATORS, MINUTE, SECOND, TARGETS, Targets, counting, target};

/// Window of the target `brief`.
const BRIEF: u32 = 20;

/// Takes away the disks of these coordinators and the pods that are on them.
async fn lose(bed: &Bed, coordinators: &[Coordinator]) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bed.client.clone(), NEAP);
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NEAP);
    for one in coordinators {
        // It is gone once no pod uses it.
        claims
            .delete(&format!("data-{}", one.name()), &DeleteParams::default())
            .await?;
    }
    let at_once = DeleteParams::default().grace_period(0);
    for one in coordinators {
        pods.delete(&one.name(), &at_once).await?;
    }
    Ok(())
}

/// Waits until the coordinator `name` is left without the others. It may have been elected between two
/// losses: then it goes on as a leader without a lease.
async fn left_alone(bed: &Bed, name: &str) -> Result<Coordinator> {
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NEAP);
    until("a survivor that is left alone", MINUTE, || async {
        let one = bed.coordinator(pods.get(name).await?).await?;
        within(one, Coordinator::is_alone)
    })
    .await
}

/// How often the containers of a pod were started again.
fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let restarts = containers
        .into_iter()
        .flatten()
        .map(|one| one.restart_count);
    restarts.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn a_lost_majority_is_recovered_from_one_survivor() -> Result<()> {
    let mut targets = Targets::start("majority-lost").await?;
    let all = targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    let cluster = all[0].status["cluster"]
        .as_str()
        .context("no cluster")?
        .to_owned();
    // The survivor is one that follows.
    let survivor = all[2].name();
    lose(&targets.bed, &all[..2]).await?;
    let alone = left_alone(&targets.bed, &survivor).await?;
    ensure!(alone.status["cluster"] == cluster, "{}", alone.status);
    let since = Timestamp::now();
    targets.more_load().await?;
    // Time enough for a decision, were one possible.
    tokio::time::sleep(3 * SECOND).await;
    let writes = targets.bed.audit.scale_requests_in(targets.ns, since)?;
    ensure!(writes.is_empty(), "scaled without a majority: {writes:?}");

    // As docs/consensus.md says: the survivor's process is restarted in its pod, and no pod is made anew.
    let pods: Api<Pod> = Api::namespaced(targets.bed.client.clone(), NEAP);
    upgrade(&[
        "--set",
        &format!("coordinator.recover={cluster}@{survivor}"),
    ])?;
    targets
        .await_targets()
        .await
        .context("after the recovery")?;
    let after = targets.bed.settled(COORDINATORS, 3 * MINUTE).await?;
    let now = after[0].status["cluster"].as_str().context("no cluster")?;
    let lineage = |cluster: &str| cluster.split('.').next().map(str::to_owned);
    ensure!(
        now != cluster && lineage(now) == lineage(&cluster),
        "{cluster} became {now}"
    );
    let pod = pods.get(&survivor).await?;
    ensure!(
        pod.metadata.uid == alone.pod.metadata.uid && restarts(&pod) > restarts(&alone.pod),
        "{survivor} was not restarted in place: {:?}",
        pod.status
    );
    // The window of an hour, and the pause, lived on that one disk.
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn with_all_disks_lost_replicas_stay_for_one_window() -> Result<()> {
    let mut targets = Targets::start("all-lost").await?;
    let ns = targets.ns;
    targets.bed.apply(ns, &podless("brief", 1)).await?;
    targets
        .bed
        .apply(ns, &counting("brief", "all", BRIEF))
        .await?;
    targets
        .bed
        .await_replicas("Deployment", ns, "brief", MINUTE, |n| n == 2)
        .await?;
    let all = targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    let was = all[0].status["cluster"].clone();

    lose(&targets.bed, &all).await?;
    let struck = Timestamp::now();
    // All of them want less now, and remember nothing of what they wanted before.
    targets.no_load().await?;
    let after = targets.bed.settled(COORDINATORS, 3 * MINUTE).await?;
    ensure!(
        after[0].status["cluster"] != was,
        "the same cluster without its disks"
    );
    let began = elected(&targets.bed, struck).await?;
    targets
        .bed
        .await_replicas("Deployment", ns, "brief", 2 * MINUTE, |n| n == 1)
        .await?;
    let writes = targets.bed.audit.scale_writes(ns, "brief", struck)?;
    let down = writes.first().context("brief was not written")?;
    let held = Duration::try_from(down.at.duration_since(began))?;
    println!(
        "figure bed_all_lost_held {:.0} ms",
        held.as_secs_f64() * 1e3
    );
    ensure!(
        held + SECOND >= Duration::from_secs(BRIEF.into()),
        "after {held:?}: {writes:?}"
    );
    // Those with a window of five minutes are as they were.
    for name in (0..TARGETS).map(target).chain(["held".to_owned()]) {
        let writes = targets.bed.audit.scale_writes(ns, &name, struck)?;
        ensure!(writes.is_empty(), "{name}: {writes:?}");
    }
    targets.bed.drop_namespace(ns).await;
    Ok(())
}

/// When the leader that leads now was elected: its Event after `since`.
async fn elected(bed: &Bed, since: Timestamp) -> Result<Timestamp> {
    let events = bed.objects("events.k8s.io/v1", "Event", NEAP)?;
    until("the Event of the election", MINUTE, || async {
        let all = events.list(&Default::default()).await?;
        let times = all
            .items
            .iter()
            .filter(|event| event.data["reason"] == "LeaderElected");
        let first = times
            .filter_map(|event| event.data["eventTime"].as_str()?.parse::<Timestamp>().ok())
            .filter(|at| *at >= since)
            .min();
        within(first, Option::is_some)
    })
    .await?
    .context("no such Event")
}
