//! Another version, and back, while signals cross.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use neap_e2e::{Bed, NEAP, until, within};

use crate::targets::{COORDINATORS, MINUTE, Targets};

/// `helm upgrade` of the installed chart with what it was given before and these arguments. Does not
/// wait for the pods.
pub(crate) fn helm(arguments: &[&str]) -> Result<()> {
    let command = std::env::var("NEAP_BED_HELM")
        .context("NEAP_BED_HELM is not set: run tests/run failover")?;
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().context("NEAP_BED_HELM is empty")?)
        .args(words)
        .args([
            "upgrade",
            "neap",
            "../../charts/neap",
            "--namespace",
            NEAP,
            "--reuse-values",
        ])
        .args(arguments)
        .output()?;
    ensure!(
        done.status.success(),
        "helm upgrade {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// The images that the pods of Neap run.
async fn images(bed: &Bed) -> Result<Vec<String>> {
    let pods = bed.pods(NEAP, "app.kubernetes.io/instance=neap").await?;
    let image = |pod: Pod| pod.spec?.containers.into_iter().next()?.image;
    Ok(pods.into_iter().filter_map(image).collect())
}

/// Rolls every pod to `tag` while the load rises once a second, and gives how often it rose.
pub(crate) async fn roll(targets: &mut Targets, tag: &str) -> Result<u32> {
    helm(&["--set", &format!("image.tag={tag}")])?;
    let mut rises = 0;
    loop {
        targets.more_load().await?;
        rises += 1;
        targets
            .await_targets()
            .await
            .with_context(|| format!("on the way to {tag}"))?;
        let images = images(&targets.bed).await?;
        if images
            .iter()
            .all(|image| image.ends_with(&format!(":{tag}")))
        {
            break;
        }
    }
    let bed = &targets.bed;
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    until("an agent of each node", 2 * MINUTE, || async {
        let status: serde_json::Value = serde_json::from_str(&bed.get("/api/v1/status").await?)?;
        let nodes = (
            status["nodes"]["known"].clone(),
            status["nodes"]["fresh"].clone(),
        );
        within(nodes, |(all, fresh)| *all == 1 && fresh == all)
    })
    .await?;
    Ok(rises)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators and images of another version: tests/run failover"]
async fn zz_to_the_version_before_and_back() -> Result<()> {
    let mut targets = Targets::start("upgrade").await?;
    for tag in ["previous", "test"] {
        let rises = roll(&mut targets, tag).await?;
        println!("saw: all pods at {tag}, while the signals of all targets crossed {rises} times");
    }
    targets.check().await?;
    targets.bed.drop_namespace(targets.ns).await;
    Ok(())
}
