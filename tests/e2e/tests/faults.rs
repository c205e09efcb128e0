//! Faults on the main path: parts are killed, replicas stay, and work resumes by itself.
//! Each test has the bed to itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use neap_e2e::{Bed, NEAP, Workload, scaled_object, service, until, within};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn batch(replicas: i32) -> Value {
    Workload {
        name: "batch",
        kind: "Deployment",
        args: &["wait"],
        replicas,
        cpu_request: None,
    }
    .object()
}

/// An app scaled to one replica per pod of `batch`, at three.
async fn app_at_three(bed: &Bed, ns: &str) -> Result<()> {
    bed.namespace(ns).await?;
    bed.apply(ns, &batch(3)).await?;
    let app = Workload {
        name: "app",
        kind: "Deployment",
        args: &["wait"],
        replicas: 1,
        cpu_request: None,
    };
    bed.apply(ns, &app.object()).await?;
    let trigger = json!([{"type": "kubernetes-workload", "metadata": {"podSelector": "app=batch", "value": "1"}}]);
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 9, "pollingInterval": 1});
    bed.apply(
        ns,
        &scaled_object("app", "Deployment", "app", trigger, rest),
    )
    .await?;
    bed.await_replicas("Deployment", ns, "app", MINUTE, |n| n == 3)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_agent_killed() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "agent-killed";
    bed.namespace(ns).await?;
    let app = Workload {
        name: "app",
        kind: "Deployment",
        args: &["serve", "--service-ms", "200"],
        replicas: 2,
        cpu_request: None,
    };
    bed.apply(ns, &app.object()).await?;
    bed.apply(ns, &service("app")).await?;
    bed.await_ready("Deployment", ns, "app", MINUTE).await?;
    let trigger =
        json!([{"type": "node-accept-queue", "metadata": {"port": "8080", "value": "3"}}]);
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 6, "advanced": {"horizontalPodAutoscalerConfig":
        {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 20}}}}});
    let agent = bed
        .pods(NEAP, "app.kubernetes.io/name=neap-agent")
        .await?
        .into_iter()
        .next()
        .context("no agent")?;
    bed.kill(&agent, "neap-agent")?;
    let killed = Timestamp::now();
    bed.apply(
        ns,
        &scaled_object("app", "Deployment", "app", trigger, rest),
    )
    .await?;
    // An idle queue votes for one replica only once it is seen: without an agent there is no vote.
    bed.await_replicas("Deployment", ns, "app", 2 * MINUTE, |n| n == 1)
        .await?;
    println!(
        "saw: agent killed: work resumed {:.1} s after",
        Timestamp::now().duration_since(killed).as_secs_f64()
    );
    let load = bed.drive(ns, "app", 15.0, 15 * SECOND).await?;
    let writes = bed.audit.scale_writes(ns, "app", load.began)?;
    ensure!(
        writes.iter().any(|w| w.replicas > 1),
        "no scale-up under load after the agent came back: {writes:?}"
    );
    bed.drop_namespace(ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_api_server_killed_and_back() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "api-killed";
    app_at_three(&bed, ns).await?;
    bed.service("kill", "kube-apiserver")?;
    // Long enough for every watch and lease to notice.
    tokio::time::sleep(12 * SECOND).await;
    bed.service("start", "kube-apiserver")?;
    let back = Timestamp::now();
    until("the API server answering", MINUTE, || async {
        within(bed.replicas("Deployment", ns, "app").await?, |n| *n == 3)
    })
    .await
    .context("replicas did not stay while the API server was away")?;
    bed.apply(ns, &batch(5)).await?;
    bed.await_replicas("Deployment", ns, "app", MINUTE, |n| n == 5)
        .await?;
    println!(
        "saw: API server back: next decision {:.1} s after its start",
        Timestamp::now().duration_since(back).as_secs_f64()
    );
    bed.drop_namespace(ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_replicas_changed_by_hand() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "by-hand";
    app_at_three(&bed, ns).await?;
    for round in 1..=3 {
        let reset = Timestamp::now();
        bed.merge(
            "apps/v1",
            "Deployment",
            ns,
            "app",
            json!({"spec": {"replicas": 1}}),
        )
        .await?;
        bed.await_replicas("Deployment", ns, "app", MINUTE, |n| n == 3)
            .await?;
        let took = Timestamp::now().duration_since(reset).as_secs_f64();
        println!("saw: by hand: put back {took:.1} s after reset {round}");
    }
    let events = until("an Event that names who resets it", 30 * SECOND, || async {
        within(bed.events(ns, "app").await?, |all| {
            all.iter().any(|(reason, _)| reason.contains("Contested"))
        })
    })
    .await?;
    let (_, note) = events
        .iter()
        .find(|(reason, _)| reason.contains("Contested"))
        .context("the Event is there")?;
    println!("saw: by hand: {note}");
    ensure!(note.contains("by e2e-merge"), "it names nobody: {note}");
    bed.drop_namespace(ns).await;
    Ok(())
}
