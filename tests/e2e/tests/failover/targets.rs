//! What the tests of failover share: targets whose signals cross, and what must hold of their writes
//! whatever happens to leaders. The API server's audit log is the witness.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use neap_e2e::{Bed, ScaleWrite, podless, scaled_object, until, within};
use serde_json::{Value, json};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Targets whose signals cross after each fault.
pub(crate) const TARGETS: usize = 100;
pub(crate) const COORDINATORS: usize = 3;
const MAX: i64 = 500;
/// A late write of a leader that was stopped must be put right within this time.
const CORRECTED: Duration = Duration::from_secs(1);

/// As many replicas as there are pods with the label `load=LOAD`, up at once and down after
/// `down_after` seconds.
pub(crate) fn counting(name: &str, load: &str, down_after: u32) -> Value {
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

pub(crate) fn target(n: usize) -> String {
    format!("target-{n}")
}

/// Targets in a namespace of their own.
pub(crate) struct Targets {
    pub(crate) bed: Bed,
    pub(crate) ns: &'static str,
    pods: Api<Pod>,
    /// Pods of `load=all`, which is what every target asks for.
    load: i64,
    began: Timestamp,
}

impl Targets {
    pub(crate) async fn start(ns: &'static str) -> Result<Self> {
        let bed = Bed::connect().await?;
        bed.settled(COORDINATORS, 3 * MINUTE).await?;
        bed.namespace(ns).await?;
        let mut this = Self {
            pods: Api::namespaced(bed.client.clone(), ns),
            bed: bed.clone(),
            ns,
            load: 0,
            began: Timestamp::now(),
        };
        let bed = &bed;
        stream::iter(0..TARGETS)
            .map(|n| async move {
                bed.apply(ns, &podless(&target(n), 1)).await?;
                bed.apply(ns, &counting(&target(n), "all", 300)).await
            })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
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
        self.bed.apply(self.ns, &podless("held", 1)).await?;
        self.bed
            .apply(self.ns, &counting("held", "held", 3_600))
            .await?;
        self.bed
            .await_replicas("Deployment", self.ns, "held", MINUTE, |n| n == 5)
            .await?;
        for n in 1..5 {
            let params = DeleteParams::default().grace_period(0);
            self.pods.delete(&format!("held-{n}"), &params).await?;
        }
        self.bed.apply(self.ns, &podless("paused", 2)).await?;
        let mut paused = counting("paused", "all", 0);
        paused["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
        self.bed.apply(self.ns, &paused).await?;
        self.bed
            .await_condition(self.ns, "paused", "Paused", "True")
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
    pub(crate) async fn more_load(&mut self) -> Result<()> {
        self.load += 1;
        self.pod(&format!("load-{}", self.load), "all").await
    }

    /// Less load: one replica of each target is asked for, once its window is over.
    pub(crate) async fn no_load(&mut self) -> Result<()> {
        let params = DeleteParams::default().grace_period(0);
        for n in 2..=self.load {
            self.pods.delete(&format!("load-{n}"), &params).await?;
        }
        self.load = 1;
        Ok(())
    }

    /// Waits until every target has the replicas that the load asks for.
    pub(crate) async fn await_targets(&self) -> Result<()> {
        let deployments = self.bed.objects("apps/v1", "Deployment", self.ns)?;
        until("every target at its replicas", MINUTE, || async {
            let all = deployments.list(&ListParams::default()).await?;
            let others: Vec<String> = all
                .iter()
                .filter(|one| one.name_any().starts_with("target-"))
                .filter(|one| one.data["spec"]["replicas"] != self.load)
                .map(|one| format!("{}: {}", one.name_any(), one.data["spec"]["replicas"]))
                .collect();
            within(others, Vec::is_empty)
        })
        .await?;
        Ok(())
    }

    /// Each target's first request for the present number of replicas, whatever became of it: the
    /// API server of a loaded machine may be slower than a lease is long.
    pub(crate) async fn asked_for(&self, since: Timestamp) -> Result<Vec<ScaleWrite>> {
        until("the writes in the audit log", 20 * SECOND, || async {
            let requests = self.bed.audit.scale_requests_in(self.ns, since)?;
            let mut first: BTreeMap<String, ScaleWrite> = BTreeMap::new();
            for request in requests {
                if request.replicas == self.load && request.name.starts_with("target-") {
                    first.entry(request.name.clone()).or_insert(request);
                }
            }
            let first: Vec<ScaleWrite> = first.into_values().collect();
            within(first, |first| first.len() == TARGETS)
        })
        .await
    }

    /// What must hold over all faults together.
    pub(crate) fn check(&self) -> Result<usize> {
        let mut late = 0;
        let mut of: BTreeMap<String, Vec<ScaleWrite>> = BTreeMap::new();
        for request in self.bed.audit.scale_requests_in(self.ns, self.began)? {
            if request.taken() {
                of.entry(request.name.clone()).or_default().push(request);
            }
        }
        for n in 0..TARGETS {
            let name = target(n);
            let writes = of.remove(&name).unwrap_or_default();
            ensure!(!writes.is_empty(), "{name} was not written");
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
        let held = of.remove("held").unwrap_or_default();
        ensure!(
            held.iter().all(|write| write.replicas > 1)
                && held.last().is_some_and(|w| w.replicas == 5),
            "its window was forgotten: {held:?}"
        );
        let paused = of.remove("paused").unwrap_or_default();
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
