//! What an operator asks the command on a real cluster: why, and a way back without Neap.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use neap_e2e::{Bed, NEAP, Workload, scaled_object, until, within};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn waiting(name: &str, replicas: i32) -> Value {
    Workload {
        name,
        kind: "Deployment",
        args: &["wait"],
        replicas,
        cpu_request: None,
    }
    .object()
}

fn one_per_pod_of(label: &str) -> Value {
    json!([{"type": "kubernetes-workload", "metadata": {"podSelector": format!("app={label}"), "value": "1"}}])
}

/// What the command prints, whatever it ends with.
async fn neap(args: &[&str]) -> Result<String> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(|deps| deps.parent());
    let program = folder.context("the test has no folder")?.join("neap");
    let done = tokio::process::Command::new(&program)
        .args(args)
        .output()
        .await
        .with_context(|| program.display().to_string())?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr))
}

/// Waits until `neap explain` of a target says all of `parts`.
async fn explained(ns: &str, name: &str, parts: &[&str]) -> Result<()> {
    let target = format!("scaledobject/{name}");
    let text = until(&format!("{name} explained"), MINUTE, || async {
        let text = neap(&["explain", &target, "-n", ns]).await?;
        within(text, |text| parts.iter().all(|part| text.contains(part)))
    })
    .await?;
    println!("saw: neap explain {target}:");
    for line in text.lines().take(14) {
        println!("saw:   {line}");
    }
    Ok(())
}

async fn scaled(bed: &Bed, ns: &str, name: &str, triggers: Value, rest: Value) -> Result<()> {
    bed.apply(ns, &waiting(name, 1)).await?;
    let object = scaled_object(name, "Deployment", name, triggers, rest);
    bed.apply(ns, &object).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn explain_says_what_holds_a_number() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "explained";
    bed.namespace(ns).await?;
    bed.apply(ns, &waiting("batch", 4)).await?;
    bed.apply(ns, &waiting("many", 5)).await?;
    let (min, max) = (1, 9);
    let bounds = || json!({"minReplicaCount": min, "maxReplicaCount": max, "pollingInterval": 1});

    scaled(&bed, ns, "held", one_per_pod_of("batch"), bounds()).await?;
    let mut slow = bounds();
    slow["advanced"] = json!({"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp":
        {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}]}}}});
    scaled(&bed, ns, "slow", one_per_pod_of("many"), slow).await?;
    scaled(&bed, ns, "paused", one_per_pod_of("batch"), bounds()).await?;
    let unreachable = json!([{"type": "prometheus", "metadata":
        {"serverAddress": "http://127.0.0.1:1", "query": "load", "threshold": "5"}}]);
    let mut fallback = bounds();
    fallback["fallback"] = json!({"failureThreshold": 1, "replicas": 3});
    scaled(&bed, ns, "fallback", unreachable.clone(), fallback).await?;
    scaled(&bed, ns, "failing", unreachable, bounds()).await?;
    let unknown = json!([{"type": "prometeus", "metadata": {}}]);
    scaled(&bed, ns, "wrong", unknown, bounds()).await?;

    bed.await_replicas("Deployment", ns, "held", MINUTE, |n| n == 4)
        .await?;
    let paused = json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}});
    bed.merge("keda.sh/v1alpha1", "ScaledObject", ns, "paused", paused)
        .await?;
    let fewer = json!({"spec": {"replicas": 2}});
    bed.merge("apps/v1", "Deployment", ns, "batch", fewer)
        .await?;

    explained(
        ns,
        "held",
        &["stays at 4 replicas", "stabilisation holds 4 instead of 2"],
    )
    .await?;
    explained(ns, "slow", &["policy for up allows 2 instead of", "; +1 "]).await?;
    explained(ns, "paused", &["paused", "ScaledObjectPaused"]).await?;
    explained(ns, "fallback", &["the fallback of 3 stands in"]).await?;
    explained(
        ns,
        "failing",
        &["failed", "Connection refused", "nothing is changed"],
    )
    .await?;
    explained(
        ns,
        "wrong",
        &["Fault:", "spec.triggers[0]", "prometeus", "must be one of"],
    )
    .await?;
    let nobody = neap(&["explain", "scaledobject/nobody", "-n", ns]).await?;
    ensure!(nobody.contains("nobody"), "{nobody}");
    bed.drop_namespace(ns).await;
    Ok(())
}

/// Sets how many coordinators run, and waits until so many do.
async fn coordinators(bed: &Bed, replicas: i32) -> Result<()> {
    let sets = bed.objects("apps/v1", "StatefulSet", NEAP)?;
    let patch = json!({"spec": {"replicas": replicas}});
    sets.patch(
        "neap-coordinator",
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await?;
    let wanted = usize::try_from(replicas)?;
    until("the coordinators", 2 * MINUTE, || async {
        let pods = bed
            .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
            .await?;
        let ready = pods.iter().filter(|pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|c| c.type_ == "Ready" && c.status == "True")
        });
        let counts = (pods.len(), ready.count());
        within(counts, |(all, ready)| *all == wanted && *ready == wanted)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_handback_and_takeback() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "handed-back";
    bed.namespace(ns).await?;
    bed.apply(ns, &waiting("batch", 3)).await?;
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 9});
    scaled(&bed, ns, "app", one_per_pod_of("batch"), rest).await?;
    bed.await_replicas("Deployment", ns, "app", MINUTE, |n| n == 3)
        .await?;

    coordinators(&bed, 0).await?;
    let said = neap(&["handback", "-n", ns]).await?;
    println!("saw: neap handback: {}", said.trim());
    let hpas = bed.objects("autoscaling/v2", "HorizontalPodAutoscaler", ns)?;
    let made = hpas.list(&ListParams::default()).await?.items;
    ensure!(made.len() == 1, "HPAs made: {made:?}; {said}");
    ensure!(
        made[0].data["spec"]["minReplicas"] == 3,
        "{:?}",
        made[0].data
    );
    // kube-controller-manager scales on: what falls below the floor is put back.
    let reset = Timestamp::now();
    let one = json!({"spec": {"replicas": 1}});
    bed.merge("apps/v1", "Deployment", ns, "app", one).await?;
    until("the HPA's floor", 2 * MINUTE, || async {
        within(bed.replicas("Deployment", ns, "app").await?, |n| *n == 3)
    })
    .await?;
    let took = Timestamp::now().duration_since(reset).as_secs_f64();
    println!("saw: handed back: the HPA put 3 replicas back after {took:.1} s");

    let refused = neap(&["takeback", "-n", ns]).await?;
    ensure!(
        refused.contains("--force"),
        "taken back with nobody to take it: {refused}"
    );
    coordinators(&bed, 1).await?;
    let since = Timestamp::now();
    until("a coordinator that takes it", MINUTE, || async {
        let said = neap(&["takeback", "-n", ns]).await?;
        let left = hpas.list(&ListParams::default()).await?.items;
        within((said, left.len()), |(_, left)| *left == 0)
    })
    .await?;
    // Neap decides again, and on no other number.
    let more = json!({"spec": {"replicas": 4}});
    bed.merge("apps/v1", "Deployment", ns, "batch", more)
        .await?;
    bed.await_replicas("Deployment", ns, "app", MINUTE, |n| n == 4)
        .await?;
    let writes = bed.audit.scale_writes(ns, "app", since)?;
    let numbers: Vec<i64> = writes.iter().map(|write| write.replicas).collect();
    ensure!(numbers == [4], "writes since the takeback: {writes:?}");
    bed.drop_namespace(ns).await;
    Ok(())
}
