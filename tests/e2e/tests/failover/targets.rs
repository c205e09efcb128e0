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
use neap_e2e::{Bed, Probe, ScaleWrite, podless, scaled_object, until, within};
use serde_json::{Value, json};

use crate::late::{Stop, order};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Targets whose signals cross after each fault.
pub(crate) const TARGETS: usize = 100;
pub(crate) const COORDINATORS: usize = 3;
const MAX: i64 = 500;

/// Waits until the leader hears the agent of the one node.
pub(crate) async fn agents_are_there(bed: &Bed) -> Result<()> {
    until("an agent of each node", 3 * MINUTE, || async {
        let status: Value = serde_json::from_str(&bed.get("/api/v1/status").await?)?;
        let nodes = (
            status["nodes"]["known"].clone(),
            status["nodes"]["fresh"].clone(),
        );
        within(nodes, |(all, fresh)| *all == 1 && fresh == all)
    })
    .await?;
    Ok(())
}

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
    pub(crate) pods: Api<Pod>,
    /// Pods of `load=all`, which is what every target asks for.
    pub(crate) load: i64,
    began: Timestamp,
    /// Coordinators that were stopped meanwhile.
    pub(crate) stops: Vec<Stop>,
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
            stops: Vec::new(),
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

    /// A pod that no node takes: it is counted, and costs nothing.
    pub(crate) async fn pod(&self, name: &str, load: &str) -> Result<()> {
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

    /// What must hold over all faults together. Gives the number of late writes.
    pub(crate) async fn check(&self) -> Result<usize> {
        // The last answers may still be on their way: what was asked for in vain is asked for again.
        let mut of = until("a write of every target taken", MINUTE, || async {
            let mut of: BTreeMap<String, Vec<ScaleWrite>> = BTreeMap::new();
            for request in self.bed.audit.scale_requests_in(self.ns, self.began)? {
                of.entry(request.name.clone()).or_default().push(request);
            }
            let taken = |name: &String| {
                of.get(name)
                    .is_some_and(|all| all.iter().any(ScaleWrite::taken))
            };
            let without = (0..TARGETS).map(target).find(|name| !taken(name));
            Ok(match without {
                None => Probe::Is(of),
                Some(name) => Probe::NotYet(format!("none of {name}")),
            })
        })
        .await?;
        let taken = |asked: &[ScaleWrite]| -> Vec<ScaleWrite> {
            asked.iter().filter(|one| one.taken()).cloned().collect()
        };
        let mut late = 0;
        for n in 0..TARGETS {
            let name = target(n);
            let asked = of.remove(&name).unwrap_or_default();
            let writes = taken(&asked);
            for write in &writes {
                ensure!((1..=MAX).contains(&write.replicas), "{name}: {write:?}");
            }
            let order = order(&name, &writes, &asked, &self.stops)?;
            late += order.late;
            // The load has only risen: a step down would be a decision on less than what is known.
            let timely = order.timely.iter();
            let in_order: Vec<i64> = timely.map(|write| write.replicas).collect();
            ensure!(in_order.is_sorted(), "{name} went down: {in_order:?}");
        }
        for writes in of.values_mut() {
            writes.retain(ScaleWrite::taken);
        }
        self.check_guarded(&mut of).await?;
        Ok(late)
    }
}
