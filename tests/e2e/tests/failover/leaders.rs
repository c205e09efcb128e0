//! Leaders that are killed, deleted, stopped and cut off on a bed with three coordinators, while the
//! signals of a hundred targets cross.
//!
//! `NEAP_FAILOVER=KILLS,HAND_OVERS,STOPS,PARTITIONS` says how many of each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::DeleteParams;
use neap_e2e::{Bed, COORDINATOR, Coordinator, Cut, NEAP, until, within};
use serde_json::json;

use crate::late::Stop;
use crate::release::{COORDINATOR_PODS, upgrade};
use crate::targets::{COORDINATORS, MINUTE, SECOND, TARGETS, Targets};

/// What one fault came to.
struct Outcome {
    /// From the fault to the first request for any target that crossed after it.
    first: Duration,
    /// To the last target's.
    last: Duration,
}

impl Targets {
    /// One fault of the leader, with what it takes to undo it.
    async fn fault(
        &mut self,
        kind: &str,
        strike: impl AsyncFn(&Bed, &[Coordinator]) -> Result<()>,
        undo: impl AsyncFn(&Bed, &[Coordinator]) -> Result<()>,
    ) -> Result<Outcome> {
        let settled = self.bed.settled(COORDINATORS, 2 * MINUTE).await;
        let all = settled.with_context(|| format!("before {kind}"))?;
        let term = all[0].status["term"].as_u64().unwrap_or_default();
        let struck = Timestamp::now();
        strike(&self.bed, &all).await?;
        self.more_load().await?;
        let wrote = self.await_targets().await;
        undo(&self.bed, &all).await?;
        if kind == "stop" {
            self.stops.push(Stop {
                pod: all[0].name(),
                from: struck,
                until: Timestamp::now(),
            });
        }
        wrote.with_context(|| format!("{kind} of {} in term {term}", all[0].name()))?;
        let mut times = Vec::new();
        for write in self.asked_for(struck).await? {
            // One that is told to stop decides until it has handed over.
            ensure!(
                kind == "handover" || write.leader().is_some_and(|leader| leader.0 > term),
                "{kind}: written by the leader that was struck: {write:?}"
            );
            times.push(Duration::try_from(write.at.duration_since(struck))?);
        }
        times.sort_unstable();
        let outcome = Outcome {
            first: times[0],
            last: times[TARGETS - 1],
        };
        println!(
            "saw: {kind} of {}: first write after {:.0} ms, the last target's after {:.0} ms",
            all[0].name(),
            outcome.first.as_secs_f64() * 1e3,
            outcome.last.as_secs_f64() * 1e3
        );
        Ok(outcome)
    }
}

async fn kill(targets: &mut Targets) -> Result<Outcome> {
    let strike = async |bed: &Bed, all: &[Coordinator]| bed.kill(&all[0].pod, COORDINATOR);
    targets.fault("kill", strike, async |_, _| Ok(())).await
}

async fn hand_over(targets: &mut Targets) -> Result<Outcome> {
    let strike = async |bed: &Bed, all: &[Coordinator]| {
        let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NEAP);
        pods.delete(&all[0].name(), &DeleteParams::default())
            .await?;
        Ok(())
    };
    targets.fault("handover", strike, async |_, _| Ok(())).await
}

async fn stop(targets: &mut Targets) -> Result<Outcome> {
    let signal = async |bed: &Bed, all: &[Coordinator], signal: &str| {
        bed.signal(&all[0].pod, COORDINATOR, signal)
    };
    let strike = async |bed: &Bed, all: &[Coordinator]| signal(bed, all, "STOP").await;
    let undo = async |bed: &Bed, all: &[Coordinator]| signal(bed, all, "CONT").await;
    targets.fault("stop", strike, undo).await
}

async fn partition(targets: &mut Targets, cut: Cut) -> Result<Outcome> {
    let strike = async |bed: &Bed, all: &[Coordinator]| bed.cut(&all[0], &all[1..], cut);
    let undo = async |bed: &Bed, all: &[Coordinator]| bed.heal(&all[0]);
    targets.fault("partition", strike, undo).await
}

fn print(kind: &str, outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        return;
    }
    let mut first: Vec<Duration> = outcomes.iter().map(|one| one.first).collect();
    let mut last: Vec<Duration> = outcomes.iter().map(|one| one.last).collect();
    first.sort_unstable();
    last.sort_unstable();
    let figure = |name: &str, value: Duration| {
        println!(
            "figure bed_{kind}_{name} {:.0} ms",
            value.as_secs_f64() * 1e3
        );
    };
    figure("p50", first[(first.len() - 1) / 2]);
    figure("max", first[first.len() - 1]);
    figure("all_max", last[last.len() - 1]);
}

fn counts() -> Result<[usize; 4]> {
    let text = std::env::var("NEAP_FAILOVER").unwrap_or_else(|_| "3,2,1,3".into());
    let parsed: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    match parsed.ok().and_then(|counts| counts.try_into().ok()) {
        Some(counts) => Ok(counts),
        None => bail!("NEAP_FAILOVER is {text:?}: four numbers are wanted, as 20,6,3,4"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn leaders_fail_and_nothing_is_lost() -> Result<()> {
    let [kills, hand_overs, stops, partitions] = counts()?;
    let mut failover = Targets::start("failover").await?;
    let passing = failover.passing().await?;
    let mut outcomes: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    for _ in 0..kills {
        outcomes
            .entry("kill")
            .or_default()
            .push(kill(&mut failover).await?);
    }
    for _ in 0..hand_overs {
        outcomes
            .entry("handover")
            .or_default()
            .push(hand_over(&mut failover).await?);
    }
    for _ in 0..stops {
        outcomes
            .entry("stop")
            .or_default()
            .push(stop(&mut failover).await?);
    }
    for cut in [Cut::Both, Cut::Inbound, Cut::Outbound]
        .into_iter()
        .cycle()
        .take(partitions)
    {
        outcomes
            .entry("partition")
            .or_default()
            .push(partition(&mut failover, cut).await?);
    }
    failover.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    for (kind, outcomes) in &outcomes {
        print(kind, outcomes);
    }
    failover.passed(&passing).await?;
    failover.loaded()?;
    println!("figure late_writes {} writes", failover.check().await?);
    shown(&failover.bed).await?;
    failover.bed.drop_namespace(failover.ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn zz_a_leader_without_the_api_server_hands_over() -> Result<()> {
    let mut targets = Targets::start("unreached").await?;
    let strike = async |bed: &Bed, all: &[Coordinator]| bed.cut_from_api_server(&all[0]).await;
    let undo = async |bed: &Bed, all: &[Coordinator]| bed.heal(&all[0]);
    let outcome = targets.fault("unreached", strike, undo).await?;
    print("unreached", &[outcome]);
    targets.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}

/// Asks helm for so many replicas, and waits until the cluster is so large. The pods that stay must be the same.
async fn scale(bed: &Bed, replicas: usize) -> Result<()> {
    let before = pods(bed).await?;
    upgrade(&["--set", &format!("coordinator.replicas={replicas}")])?;
    let settled = bed.settled(replicas, 2 * MINUTE).await;
    settled.with_context(|| format!("{replicas} coordinators"))?;
    let after = pods(bed).await?;
    let stay = before.len().min(replicas);
    ensure!(
        after.len() == replicas && after[..stay] == before[..stay],
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// Name and UID of each coordinator's pod that is not going, in order.
async fn pods(bed: &Bed) -> Result<Vec<(String, Option<String>)>> {
    let pods = bed.pods(NEAP, COORDINATOR_PODS);
    let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    let mut pods: Vec<_> = pods.await?.into_iter().filter(stays).collect();
    pods.sort_by_key(ResourceExt::name_any);
    let seen = pods.iter().map(|pod| (pod.name_any(), pod.uid()));
    Ok(seen.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn zz_coordinators_come_and_go() -> Result<()> {
    let bed = Bed::connect().await?;
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    scale(&bed, 5).await?;
    // Those beyond the replicas leave, the leader too if it is one of them: the cluster that stays
    // has no member that is gone.
    scale(&bed, COORDINATORS).await?;
    // Down to one and back: two leave one after the other, and no quorum is lost.
    scale(&bed, 1).await?;
    scale(&bed, COORDINATORS).await
}

/// Lease, label and Event name the leader.
async fn shown(bed: &Bed) -> Result<()> {
    let all = bed.settled(COORDINATORS, MINUTE).await?;
    let (leader, id) = (all[0].name(), all[0].status["leader"]["id"].clone());
    until("the Lease names the leader", 30 * SECOND, || async {
        let leases = bed.objects("coordination.k8s.io/v1", "Lease", NEAP)?;
        let lease = leases.get(COORDINATOR).await?;
        let held = (
            lease.data["spec"]["holderIdentity"].clone(),
            json!(lease.annotations().get("neap.dev/leader-id")),
        );
        within(held, |held| *held == (json!(leader), id.clone()))
    })
    .await?;
    let labelled = bed.pods(NEAP, "neap.dev/role=leader").await?;
    let names: Vec<String> = labelled.iter().map(ResourceExt::name_any).collect();
    ensure!(names == [leader.clone()], "labelled: {names:?}");
    let events = bed.objects("events.k8s.io/v1", "Event", NEAP)?;
    let events = events.list(&Default::default()).await?;
    let told = events.items.iter().any(|event| {
        let note = event.data["note"].as_str().unwrap_or_default();
        event.data["reason"] == "LeaderElected" && note.starts_with(&leader)
    });
    ensure!(told, "no Event names {leader}");
    Ok(())
}
