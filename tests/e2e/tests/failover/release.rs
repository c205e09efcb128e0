//! Changes of the installed release by helm, and the load that rises while pods follow.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use neap_e2e::NEAP;

use crate::targets::{COORDINATORS, MINUTE, SECOND, Targets, agents_are_there};

/// All pods of Neap.
pub(crate) const ALL: &str = "app.kubernetes.io/instance=neap";
/// The coordinators'.
pub(crate) const COORDINATOR_PODS: &str = "app.kubernetes.io/name=neap-coordinator";
/// Between two rises of the load, so that a roll of minutes does not end at the targets' maximum.
const RISE_EACH: u32 = 2;

/// Upgrades the release to the chart of this checkout, with the values that it was given before and
/// these arguments. Does not wait for the pods.
pub(crate) fn upgrade(arguments: &[&str]) -> Result<()> {
    let chart = ["../../charts/neap", "--reuse-values"];
    helm("upgrade", &[&chart[..], arguments].concat())
}

/// Takes the release back to what it was before its last change. Does not wait for the pods.
pub(crate) fn rollback() -> Result<()> {
    helm("rollback", &[])
}

fn helm(verb: &str, arguments: &[&str]) -> Result<()> {
    let command = std::env::var("NEAP_BED_HELM")
        .context("NEAP_BED_HELM is not set: run tests/run failover")?;
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().context("NEAP_BED_HELM is empty")?)
        .args(words)
        .args([verb, "neap", "--namespace", NEAP])
        .args(arguments)
        .output()?;
    ensure!(
        done.status.success(),
        "helm {verb} {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Lets the load rise until each pod of `selector` is as `follows` asks, and the coordinators and agents
/// are in touch again; gives how often it rose.
pub(crate) async fn rise_until(
    targets: &mut Targets,
    selector: &str,
    follows: impl Fn(&Pod) -> bool,
) -> Result<u32> {
    let bed = targets.bed.clone();
    let mut rises = 0;
    loop {
        targets.more_load().await?;
        rises += 1;
        targets
            .await_targets()
            .await
            .with_context(|| format!("after {rises} rises, on the way to another release"))?;
        let pods = bed.pods(NEAP, selector).await?;
        // A roll takes one coordinator at a time, and there are as many again before it goes on.
        if pods.len() >= COORDINATORS && pods.iter().all(&follows) {
            break;
        }
        tokio::time::sleep(RISE_EACH * SECOND).await;
    }
    bed.settled(COORDINATORS, 4 * MINUTE).await?;
    agents_are_there(&bed).await?;
    targets.more_load().await?;
    targets.await_targets().await?;
    Ok(rises + 1)
}

/// The same, until all pods run images of `tag`.
pub(crate) async fn rise_until_at(targets: &mut Targets, tag: &str) -> Result<u32> {
    let end = format!(":{tag}");
    rise_until(targets, ALL, |pod| {
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.all(|one| {
            one.image
                .as_ref()
                .is_some_and(|image| image.ends_with(&end))
        })
    })
    .await
}
