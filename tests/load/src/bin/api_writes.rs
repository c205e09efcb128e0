//! What Neap writes to the API server, and what a small cluster costs. Run by
//! tests/load/api-writes, on a bed with fake nodes, so that a thousand workloads have pods.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use neap_e2e::{Bed, NEAP, Workload, scaled_object, until, within};
use neap_load::{figure, usage};
use serde_json::{Value, json};
use tokio::time::sleep;

const SMALL: usize = 20;
const MANY: usize = 1000;
const NAMESPACE: &str = "writes";

#[tokio::main]
async fn main() -> Result<()> {
    let bed = Bed::connect().await?;
    bed.namespace(NAMESPACE).await?;
    bed.apply(
        NAMESPACE,
        &on_fake_nodes(
            Workload {
                name: "batch",
                kind: "Deployment",
                args: &["wait"],
                replicas: 2,
                cpu_request: None,
            }
            .object(),
        ),
    )
    .await?;

    make(&bed, 0..SMALL).await?;
    settle(&bed, SMALL).await?;
    let pod = bed
        .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
        .await?
        .into_iter()
        .next()
        .context("no coordinator")?;
    let process = bed.process(&pod, "neap-coordinator")?;
    sleep(Duration::from_secs(20)).await;
    let (before, began) = (usage(process)?, Timestamp::now());
    sleep(Duration::from_secs(60)).await;
    let after = usage(process)?;
    let spent = Timestamp::now().duration_since(began).as_secs_f64();
    figure("small_rss", after.rss as f64 / 1_048_576.0, "MiB");
    figure(
        "small_cpu",
        100.0 * (after.cpu - before.cpu).as_secs_f64() / spent,
        "percent",
    );

    println!("making {MANY} ScaledObjects");
    make(&bed, SMALL..MANY).await?;
    settle(&bed, MANY).await?;
    // Past the first minute, in which every object's status is new.
    sleep(Duration::from_secs(75)).await;
    let steady = count(&bed, Duration::from_secs(120)).await?;
    println!("{MANY} ScaledObjects under steady load, over 120 s");
    figure("scale_writes", steady.scale, "per_s");
    figure("status_writes", steady.status, "per_s");
    figure("event_writes", steady.events, "per_s");

    println!("every target moves once");
    let moved = Timestamp::now();
    bed.merge(
        "apps/v1",
        "Deployment",
        NAMESPACE,
        "batch",
        json!({"spec": {"replicas": 4}}),
    )
    .await?;
    let moving = count(&bed, Duration::from_secs(60)).await?;
    figure(
        "scale_writes_moving",
        moving.scale * 60.0 / MANY as f64,
        "per_target",
    );
    figure(
        "status_writes_moving",
        moving.status * 60.0 / MANY as f64,
        "per_target",
    );
    figure(
        "event_writes_moving",
        moving.events * 60.0 / MANY as f64,
        "per_target",
    );
    until(
        "every target at its new size",
        Duration::from_secs(120),
        || async {
            let writes = bed
                .audit
                .neap_writes(moved)?
                .iter()
                .filter(|w| w.resource == "scale")
                .count();
            within(writes, |n| *n >= MANY)
        },
    )
    .await?;
    figure("many_rss", usage(process)?.rss as f64 / 1_048_576.0, "MiB");
    bed.drop_namespace(NAMESPACE).await;
    Ok(())
}

fn on_fake_nodes(mut app: Value) -> Value {
    let pods = &mut app["spec"]["template"]["spec"];
    pods["nodeSelector"] = json!({"type": "kwok"});
    pods["tolerations"] = json!([{"operator": "Exists"}]);
    app
}

async fn make(bed: &Bed, range: std::ops::Range<usize>) -> Result<()> {
    stream::iter(range)
        .map(|i| async move {
            let name = format!("app-{i}");
            let app = Workload { name: &name, kind: "Deployment", args: &["wait"], replicas: 1, cpu_request: None };
            bed.apply(NAMESPACE, &on_fake_nodes(app.object())).await?;
            let trigger = json!([{"type": "kubernetes-workload", "metadata": {"podSelector": "app=batch", "value": "2"}}]);
            bed.apply(NAMESPACE, &scaled_object(&name, "Deployment", &name, trigger, json!({"minReplicaCount": 1}))).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Waits until `count` ScaledObjects are Ready.
async fn settle(bed: &Bed, count: usize) -> Result<()> {
    let api = bed.objects("keda.sh/v1alpha1", "ScaledObject", NAMESPACE)?;
    until(
        "every ScaledObject Ready",
        Duration::from_secs(300),
        || async {
            let list = api.list(&kube::api::ListParams::default()).await?;
            let ready = |o: &Value| {
                o["status"]["conditions"].as_array().is_some_and(|c| {
                    c.iter()
                        .any(|c| c["type"] == "Ready" && c["status"] == "True")
                })
            };
            within(list.items.iter().filter(|o| ready(&o.data)).count(), |n| {
                *n >= count
            })
        },
    )
    .await?;
    Ok(())
}

/// Writes per second by Neap.
struct Rates {
    scale: f64,
    status: f64,
    events: f64,
}

async fn count(bed: &Bed, time: Duration) -> Result<Rates> {
    let since = Timestamp::now();
    sleep(time).await;
    let writes = bed.audit.neap_writes(since)?;
    let rate = |resource: &str| {
        writes.iter().filter(|w| w.resource == resource).count() as f64 / time.as_secs_f64()
    };
    Ok(Rates {
        scale: rate("scale"),
        status: rate("status"),
        events: rate("events"),
    })
}
