//! Leaders that are killed, deleted, stopped and cut off on a bed with three coordinators, while the
//! signals of twenty targets cross. The API server's audit log is the witness.
//!
//! `NEAP_FAILOVER=KILLS,HAND_OVERS,STOPS,PARTITIONS` says how many of each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use neap_e2e::{
    Bed, COORDINATOR, Coordinator, Cut, NEAP, ScaleWrite, scaled_object, until, within,
};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NS: &str = "failover";
/// Targets whose signals cross after each fault.
const TARGETS: usize = 20;
const COORDINATORS: usize = 3;
const MAX: i64 = 500;
/// A late write of a leader that was stopped must be put right within this time.
const CORRECTED: Duration = Duration::from_secs(1);

/// A Deployment that makes no pods: paused before its first rollout. Its scale is all there is.
fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "none", "image": "localhost/none:none"}]},
            },
        },
    })
}

/// As many replicas as there are pods with the label `load=LOAD`, up at once and down after
/// `down_after` seconds.
fn counting(name: &str, load: &str, down_after: u32) -> Value {
    let trigger = json!([{"type": "kubernetes-workload",
                          "metadata": {"podSelector": format!("load={load}"), "value": "1"}}]);
    let behavior = json!({
        "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
        "scaleDown": {"stabilizationWindowSeconds": down_after,
                      "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
    });
    let rest = json!({
        "minReplicaCount": 1,
        "maxReplicaCount": MAX,
        "pollingInterval": 1,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
    });
    scaled_object(name, "Deployment", name, trigger, rest)
}

fn target(n: usize) -> String {
    format!("target-{n}")
}

struct Failover {
    bed: Bed,
    pods: Api<Pod>,
    /// Pods of `load=all`, which is what every target asks for.
    load: i64,
    began: Timestamp,
}

/// What one fault came to.
struct Outcome {
    /// From the fault to the first request for any target that crossed after it.
    first: Duration,
    /// To the last target's.
    last: Duration,
}

impl Failover {
    async fn start() -> Result<Self> {
        let bed = Bed::connect().await?;
        bed.settled(COORDINATORS, 3 * MINUTE).await?;
        bed.namespace(NS).await?;
        let mut this = Self {
            pods: Api::namespaced(bed.client.clone(), NS),
            bed,
            load: 0,
            began: Timestamp::now(),
        };
        for n in 0..TARGETS {
            this.bed.apply(NS, &deployment(&target(n), 1)).await?;
            this.bed
                .apply(NS, &counting(&target(n), "all", 300))
                .await?;
        }
        this.more_load().await?;
        this.more_load().await?;
        this.await_targets().await?;
        this.guarded().await?;
        Ok(this)
    }

    /// Two targets that must not be written whatever happens to leaders: one inside its
    /// stabilisation window, one that is paused.
    async fn guarded(&self) -> Result<()> {
        for n in 0..5 {
            self.pod(&format!("held-{n}"), "held").await?;
        }
        self.bed.apply(NS, &deployment("held", 1)).await?;
        self.bed.apply(NS, &counting("held", "held", 3_600)).await?;
        self.bed
            .await_replicas("Deployment", NS, "held", MINUTE, |n| n == 5)
            .await?;
        for n in 1..5 {
            let params = DeleteParams::default().grace_period(0);
            self.pods.delete(&format!("held-{n}"), &params).await?;
        }
        self.bed.apply(NS, &deployment("paused", 2)).await?;
        let mut paused = counting("paused", "all", 0);
        paused["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
        self.bed.apply(NS, &paused).await?;
        self.bed
            .await_condition(NS, "paused", "Paused", "True")
            .await?;
        Ok(())
    }

    /// A pod that no node takes: it is counted, and costs nothing.
    async fn pod(&self, name: &str, load: &str) -> Result<()> {
        let pod = json!({
            "metadata": {"name": name, "labels": {"load": load}},
            "spec": {
                "nodeSelector": {"neap.dev/nowhere": "true"},
                "containers": [{"name": "none", "image": "localhost/none:none"}],
            },
        });
        let pod = serde_json::from_value(pod)?;
        self.pods.create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// Every target's signal crosses: one more replica is wanted of each.
    async fn more_load(&mut self) -> Result<()> {
        self.load += 1;
        self.pod(&format!("load-{}", self.load), "all").await
    }

    async fn await_targets(&self) -> Result<()> {
        for n in 0..TARGETS {
            let wanted = self.load;
            self.bed
                .await_replicas("Deployment", NS, &target(n), MINUTE, |n| n == wanted)
                .await?;
        }
        Ok(())
    }

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
        wrote.with_context(|| format!("{kind} of {} in term {term}", all[0].name()))?;
        let mut times = Vec::new();
        for n in 0..TARGETS {
            let write = self.asked_for(&target(n), struck).await?;
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

    /// The first request that asked for the present number of replicas, whatever became of it: the
    /// API server of a loaded machine may be slower than a lease is long.
    async fn asked_for(&self, name: &str, since: Timestamp) -> Result<ScaleWrite> {
        let what = format!("the write of {name} in the audit log");
        let found = until(&what, 10 * SECOND, || async {
            let mut requests = self.bed.audit.scale_requests(NS, name, since)?;
            requests.retain(|request| request.replicas == self.load);
            within(requests, |requests| !requests.is_empty())
        })
        .await?;
        found.into_iter().next().context(what)
    }

    async fn kill(&mut self) -> Result<Outcome> {
        let strike = async |bed: &Bed, all: &[Coordinator]| bed.kill(&all[0].pod, COORDINATOR);
        self.fault("kill", strike, async |_, _| Ok(())).await
    }

    async fn hand_over(&mut self) -> Result<Outcome> {
        let strike = async |bed: &Bed, all: &[Coordinator]| {
            let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NEAP);
            pods.delete(&all[0].name(), &DeleteParams::default())
                .await?;
            Ok(())
        };
        self.fault("handover", strike, async |_, _| Ok(())).await
    }

    async fn stop(&mut self) -> Result<Outcome> {
        let signal = async |bed: &Bed, all: &[Coordinator], signal: &str| {
            bed.signal(&all[0].pod, COORDINATOR, signal)
        };
        let strike = async |bed: &Bed, all: &[Coordinator]| signal(bed, all, "STOP").await;
        let undo = async |bed: &Bed, all: &[Coordinator]| signal(bed, all, "CONT").await;
        self.fault("stop", strike, undo).await
    }

    async fn partition(&mut self, cut: Cut) -> Result<Outcome> {
        let strike = async |bed: &Bed, all: &[Coordinator]| bed.cut(&all[0], &all[1..], cut);
        let undo = async |bed: &Bed, all: &[Coordinator]| bed.heal(&all[0]);
        self.fault("partition", strike, undo).await
    }

    /// What must hold over all faults together.
    fn check(&self) -> Result<usize> {
        let mut late = 0;
        for n in 0..TARGETS {
            let name = target(n);
            let writes = self.bed.audit.scale_writes(NS, &name, self.began)?;
            ensure!(writes.len() >= 2, "{name}: {writes:?}");
            late += late_writes(&name, &writes)?;
            for write in &writes {
                ensure!((1..=MAX).contains(&write.replicas), "{name}: {write:?}");
                ensure!(write.leader().is_some(), "{name}: someone else: {write:?}");
            }
            // The load has only risen: a step down would be a decision on less than what is known.
            let in_order: Vec<i64> = writes.iter().map(|write| write.replicas).collect();
            ensure!(
                in_order.is_sorted() || late > 0,
                "{name} went down: {in_order:?}"
            );
        }
        let held = self.bed.audit.scale_writes(NS, "held", self.began)?;
        ensure!(
            held.iter().all(|write| write.replicas > 1)
                && held.last().is_some_and(|w| w.replicas == 5),
            "its window was forgotten: {held:?}"
        );
        let paused = self.bed.audit.scale_writes(NS, "paused", self.began)?;
        ensure!(paused.is_empty(), "its pause was forgotten: {paused:?}");
        Ok(late)
    }
}

/// Writes of a smaller leader after one of a larger leader. Each must be put right at once.
fn late_writes(name: &str, writes: &[ScaleWrite]) -> Result<usize> {
    let mut late = 0;
    let mut largest = (0, 0);
    let mut wanted = 0;
    for (at, write) in writes.iter().enumerate() {
        let leader = write.leader().unwrap_or_default();
        if leader >= largest {
            (largest, wanted) = (leader, write.replicas);
            continue;
        }
        late += 1;
        let mended = writes[at + 1..].iter().any(|later| {
            later.leader() >= Some(largest)
                && later.at.duration_since(write.at)
                    <= jiff::SignedDuration::try_from(CORRECTED).unwrap_or_default()
        });
        ensure!(
            write.replicas == wanted || mended,
            "{name}: the late write {write:?} was not put right: {writes:?}"
        );
    }
    Ok(late)
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
    let mut failover = Failover::start().await?;
    let mut outcomes: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    for _ in 0..kills {
        outcomes
            .entry("kill")
            .or_default()
            .push(failover.kill().await?);
    }
    for _ in 0..hand_overs {
        outcomes
            .entry("handover")
            .or_default()
            .push(failover.hand_over().await?);
    }
    for _ in 0..stops {
        outcomes
            .entry("stop")
            .or_default()
            .push(failover.stop().await?);
    }
    for cut in [Cut::Both, Cut::Inbound, Cut::Outbound]
        .into_iter()
        .cycle()
        .take(partitions)
    {
        outcomes
            .entry("partition")
            .or_default()
            .push(failover.partition(cut).await?);
    }
    failover.bed.settled(COORDINATORS, 2 * MINUTE).await?;
    for (kind, outcomes) in &outcomes {
        print(kind, outcomes);
    }
    println!("figure late_writes {} writes", failover.check()?);
    shown(&failover.bed).await?;
    failover.bed.drop_namespace(NS).await;
    Ok(())
}

/// Sets the StatefulSet's replicas, as `kubectl scale` does, and waits until the cluster is so large.
async fn scale(bed: &Bed, replicas: usize) -> Result<Vec<Coordinator>> {
    let patch = json!({"spec": {"replicas": replicas}});
    bed.merge("apps/v1", "StatefulSet", NEAP, COORDINATOR, patch)
        .await?;
    let settled = bed.settled(replicas, 2 * MINUTE).await;
    settled.with_context(|| format!("{replicas} coordinators"))
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
    scale(&bed, COORDINATORS).await?;
    Ok(())
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
