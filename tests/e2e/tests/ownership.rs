//! Show 7: one owner per target. Runs alone: a living KEDA would own every ScaledObject.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use neap_e2e::{Bed, Workload, scaled_object, until, within};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn workload_trigger() -> Value {
    json!([{"type": "kubernetes-workload", "metadata": {"podSelector": "app=batch", "value": "1"}}])
}

async fn prepare(bed: &Bed, ns: &str) -> Result<()> {
    bed.namespace(ns).await?;
    for (name, replicas) in [("batch", 3), ("app", 1)] {
        let app = Workload {
            name,
            kind: "Deployment",
            args: &["wait"],
            replicas,
            cpu_request: Some("5m"),
        };
        bed.apply(ns, &app.object()).await?;
    }
    bed.await_ready("Deployment", ns, "batch", 60 * SECOND)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_show_7_hpa_owned_is_observed() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "hpa-owned";
    prepare(&bed, ns).await?;
    bed.apply(ns, &json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "plain"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "minReplicas": 1, "maxReplicas": 5, "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
    })).await?;
    let since = Timestamp::now();
    bed.apply(
        ns,
        &scaled_object(
            "app",
            "Deployment",
            "app",
            workload_trigger(),
            json!({"minReplicaCount": 1}),
        ),
    )
    .await?;
    let why = until(
        "an explanation of what Neap would do",
        30 * SECOND,
        || async {
            within(
                bed.explain(ns, "app").await?["latest"]["evaluation"]["why"].clone(),
                |why| why["desired"] == 3,
            )
        },
    )
    .await?;
    println!("saw: HPA-owned: {why}");
    let so = bed.objects("keda.sh/v1alpha1", "ScaledObject", ns)?;
    let status = until("a condition that names the HPA", 30 * SECOND, || async {
        within(so.get("app").await?.data["status"].to_string(), |text| {
            text.contains("plain")
        })
    })
    .await?;
    println!("saw: HPA-owned: {status}");
    let neap: Vec<_> = bed
        .audit
        .scale_writes(ns, "app", since)?
        .into_iter()
        .filter(|w| w.user_agent.starts_with("neap/"))
        .collect();
    ensure!(
        neap.is_empty(),
        "written by Neap while an HPA owns it: {neap:?}"
    );
    bed.drop_namespace(ns).await;
    Ok(())
}

/// Renews KEDA's operator lease, as a living KEDA does.
async fn renew(bed: &Bed) -> Result<()> {
    let now = Timestamp::now();
    bed.apply("keda", &json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "operator.keda.sh"},
        "spec": {"holderIdentity": "keda-operator-0", "leaseDurationSeconds": 15,
            "renewTime": format!("{now:.6}"), "acquireTime": format!("{now:.6}")},
    })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed to itself: tests/run main-path"]
async fn zz_show_7_keda_owned_then_taken_over() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "keda-owned";
    bed.namespace("keda").await?;
    renew(&bed).await?;
    prepare(&bed, ns).await?;
    let since = Timestamp::now();
    let mut so = scaled_object(
        "app",
        "Deployment",
        "app",
        workload_trigger(),
        json!({"minReplicaCount": 1}),
    );
    so["metadata"]["finalizers"] = json!(["finalizer.keda.sh"]);
    bed.apply(ns, &so).await?;
    let api = bed.objects("keda.sh/v1alpha1", "ScaledObject", ns)?;
    let uid = api.get("app").await?.metadata.uid.context("no uid")?;
    let hpa = |name: &str, owner: &str| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject", "name": "app", "uid": owner, "controller": true}]},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
                "minReplicas": 1, "maxReplicas": 100, "metrics": [{"type": "External", "external":
                    {"metric": {"name": "s0-workload-keda-owned"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]},
        })
    };
    bed.apply(ns, &hpa("keda-hpa-app", &uid)).await?;
    // Watched for longer than KEDA's lease would last without renewal.
    let watch = tokio::time::Instant::now() + 20 * SECOND;
    while tokio::time::Instant::now() < watch {
        renew(&bed).await?;
        let seen = api.get("app").await?;
        ensure!(
            seen.data["status"].is_null(),
            "status written while KEDA lives: {}",
            seen.data["status"]
        );
        tokio::time::sleep(2 * SECOND).await;
    }
    let why = bed.explain(ns, "app").await?;
    println!("saw: KEDA-owned: {why}");
    ensure!(
        why["latest"]["evaluation"]["why"]["desired"] == 3,
        "what Neap would do is not shown: {why}"
    );
    ensure!(
        bed.audit
            .scale_writes(ns, "app", since)?
            .iter()
            .all(|w| !w.user_agent.starts_with("neap/")),
        "scaled while KEDA lives"
    );

    // KEDA goes: its lease runs out, its HPA for this object is removed, scaling goes on.
    let gone = Timestamp::now();
    let hpas = bed.objects("autoscaling/v2", "HorizontalPodAutoscaler", ns)?;
    until("KEDA's HPA being removed", 60 * SECOND, || async {
        within(hpas.get_opt("keda-hpa-app").await?.is_none(), |removed| {
            *removed
        })
    })
    .await?;
    bed.await_replicas("Deployment", ns, "app", 60 * SECOND, |n| n == 3)
        .await?;
    println!(
        "saw: KEDA gone: taken over {:.1} s after its last renewal",
        Timestamp::now().duration_since(gone).as_secs_f64()
    );
    // The finalizer KEDA left does not hang the object.
    api.delete("app", &kube::api::DeleteParams::default())
        .await?;
    until("the ScaledObject going", 30 * SECOND, || async {
        within(api.get_opt("app").await?.is_none(), |gone| *gone)
    })
    .await?;
    bed.drop_namespace(ns).await;
    bed.drop_namespace("keda").await;
    Ok(())
}
