//! The leader is killed, and at that moment more replicas are wanted: how long until the next leader
//! asks for them. Neap's coordinators and kube-controller-manager's HPA controller, each with its own
//! default election, in one run on one bed. Run by tests/load/failover-vs-hpa.
//!
//! Both are asked in the same way, by a higher minimum, so that no metrics adapter stands between.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::ResourceExt;
use neap_e2e::{Bed, COORDINATOR, Probe, ScaleWrite, podless, scaled_object, until};
use neap_load::{figure, percentile};
use serde_json::{Value, json};

const ROUNDS: usize = 5;
const COORDINATORS: usize = 3;
const NAMESPACE: &str = "failover-vs-hpa";
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
const MINUTE: Duration = Duration::from_secs(60);
const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-controller-manager-2"];

#[tokio::main]
async fn main() -> Result<()> {
    let bed = Bed::connect().await?;
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    bed.namespace(NAMESPACE).await?;
    for name in [OURS, THEIRS] {
        bed.apply(NAMESPACE, &podless(name, 1)).await?;
    }
    let mut wanted = 2;
    bed.apply(NAMESPACE, &neap(wanted)).await?;
    bed.apply(NAMESPACE, &hpa(wanted)).await?;
    for name in [OURS, THEIRS] {
        bed.await_replicas("Deployment", NAMESPACE, name, 2 * MINUTE, |n| n == wanted)
            .await?;
    }

    // The first leads, the second stands by; each round they change places.
    let [mut leader, mut standby] = CONTROLLERS;
    bed.service("kill", standby)?;
    led(&bed, Timestamp::now()).await?;
    bed.service("start", standby)?;

    let (mut neap_ms, mut hpa_ms) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        wanted += 1;
        let coordinators = bed.settled(COORDINATORS, 2 * MINUTE).await?;
        let struck = Timestamp::now();
        bed.kill(&coordinators[0].pod, COORDINATOR)?;
        bed.apply(NAMESPACE, &neap(wanted)).await?;
        let ours = next_scale(&bed, OURS, wanted, struck).await?;

        let struck_theirs = Timestamp::now();
        bed.service("kill", leader)?;
        bed.apply(NAMESPACE, &hpa(wanted)).await?;
        let theirs = next_scale(&bed, THEIRS, wanted, struck_theirs).await?;
        bed.service("start", leader)?;
        (leader, standby) = (standby, leader);

        let millis = |write: &ScaleWrite, since| write.at.duration_since(since).as_secs_f64() * 1e3;
        neap_ms.push(millis(&ours, struck));
        hpa_ms.push(millis(&theirs, struck_theirs));
        println!(
            "round {round}: {} killed, next scale after {:.0} ms; {standby} killed, next scale after {:.0} ms",
            coordinators[0].pod.name_any(),
            neap_ms[round - 1],
            hpa_ms[round - 1]
        );
    }
    let figures = |name: &str, values: &[f64]| -> Result<f64> {
        let median = percentile(values, 0.5).context("no rounds")?;
        figure(&format!("{name}_p50"), median, "ms");
        figure(
            &format!("{name}_max"),
            percentile(values, 1.0).context("no rounds")?,
            "ms",
        );
        Ok(median)
    };
    let (ours, theirs) = (
        figures("neap_failover", &neap_ms)?,
        figures("hpa_failover", &hpa_ms)?,
    );
    figure("failover_vs_hpa", theirs / ours, "times");
    bed.drop_namespace(NAMESPACE).await;
    Ok(())
}

fn neap(min: i64) -> Value {
    let trigger = json!([{"type": "kubernetes-workload",
                          "metadata": {"podSelector": "app=nothing", "value": "1"}}]);
    let rest = json!({"minReplicaCount": min, "maxReplicaCount": 50});
    scaled_object(OURS, "Deployment", OURS, trigger, rest)
}

fn hpa(min: i64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": THEIRS},
        "spec": {
            "minReplicas": min,
            "maxReplicas": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": THEIRS},
            "metrics": [{"type": "Resource",
                         "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    })
}

/// The first request for `wanted` replicas at or after `since`.
async fn next_scale(bed: &Bed, name: &str, wanted: i64, since: Timestamp) -> Result<ScaleWrite> {
    until(&format!("{name} at {wanted}"), 2 * MINUTE, || async {
        let mut writes = bed.audit.scale_requests(NAMESPACE, name, since)?;
        writes.retain(|write| write.replicas == wanted);
        Ok(match writes.into_iter().next() {
            Some(write) => Probe::Is(write),
            None => Probe::NotYet("no such request".to_owned()),
        })
    })
    .await
}

/// Waits until some kube-controller-manager has renewed its lease after `since`.
async fn led(bed: &Bed, since: Timestamp) -> Result<()> {
    let leases = bed.objects("coordination.k8s.io/v1", "Lease", "kube-system")?;
    until("kube-controller-manager's lease", MINUTE, || async {
        let lease = leases.get(CONTROLLERS[0]).await?;
        let Some(renewed) = lease.data["spec"]["renewTime"].as_str() else {
            bail!("a lease without renewTime");
        };
        let renewed: Timestamp = renewed.parse()?;
        Ok(if renewed > since {
            Probe::Is(())
        } else {
            Probe::NotYet(format!("renewed at {renewed}"))
        })
    })
    .await
}
