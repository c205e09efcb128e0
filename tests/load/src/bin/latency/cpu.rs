//! CPU: from the first request of a steady load to the PATCH. The budget is the trigger's own
//! window of 15 s and 1.2 s.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use neap_e2e::{Bed, Workload, scaled_object, service};
use serde_json::json;

const TARGETS: usize = 20;
/// Targets that burn at the same time: 100 m each leaves the machine room.
const AT_ONCE: usize = 4;
const NAMESPACE: &str = "latency-cpu";

/// Measures one change on each target; milliseconds.
pub(crate) async fn measure(bed: &Bed) -> Result<Vec<f64>> {
    bed.namespace(NAMESPACE).await?;
    println!("starting {TARGETS} servers");
    try_join_all((0..TARGETS).map(|i| start(bed, i))).await?;
    let mut latencies = Vec::new();
    for batch in (0..TARGETS).collect::<Vec<_>>().chunks(AT_ONCE) {
        latencies.extend(try_join_all(batch.iter().map(|i| burn(bed, *i))).await?);
        println!("{} changes seen", latencies.len());
    }
    bed.drop_namespace(NAMESPACE).await;
    Ok(latencies)
}

async fn start(bed: &Bed, index: usize) -> Result<()> {
    let name = format!("burner-{index}");
    let app = Workload {
        name: &name,
        kind: "Deployment",
        args: &["serve", "--cpu-ms", "10"],
        replicas: 1,
        cpu_request: Some("10m"),
    };
    bed.apply(NAMESPACE, &app.object()).await?;
    bed.apply(NAMESPACE, &service(&name)).await?;
    bed.await_ready("Deployment", NAMESPACE, &name, Duration::from_secs(120))
        .await?;
    let trigger =
        json!([{"type": "cpu", "metricType": "AverageValue", "metadata": {"value": "50m"}}]);
    let so = scaled_object(
        &name,
        "Deployment",
        &name,
        trigger,
        json!({"minReplicaCount": 1, "maxReplicaCount": 2}),
    );
    bed.apply(NAMESPACE, &so).await?;
    bed.await_condition(NAMESPACE, &name, "Ready", "True")
        .await?;
    Ok(())
}

/// Ten requests a second of 10 ms of CPU each, until the window is full.
async fn burn(bed: &Bed, index: usize) -> Result<f64> {
    let name = format!("burner-{index}");
    let load = bed
        .drive(NAMESPACE, &name, 10.0, Duration::from_secs(18))
        .await?;
    let writes = bed.audit.scale_writes(NAMESPACE, &name, load.began)?;
    let first = writes
        .first()
        .with_context(|| format!("no PATCH of {name} within 18 s"))?;
    Ok(first.at.duration_since(load.began).as_secs_f64() * 1000.0)
}
