//! Certificates of someone else, in a Secret as cert-manager writes it, their renewal, and the way back
//! to the coordinators' own, while signals cross.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use neap_e2e::{Bed, NEAP, until, within};
use serde_json::json;
use tempfile::TempDir;

use crate::release::{COORDINATOR_PODS, rise_until, upgrade};
use crate::targets::{COORDINATORS, MINUTE, Targets};

const SECRET: &str = "given-tls";

/// An authority, and the certificates that it signs.
struct Issuer {
    folder: TempDir,
}

impl Issuer {
    fn new() -> Result<Self> {
        let this = Self {
            folder: tempfile::tempdir()?,
        };
        let made = this.path("ca.crt").display().to_string();
        let key = this.path("ca.key").display().to_string();
        openssl(&[
            "req",
            "-x509",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=given",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout",
            &key,
            "-out",
            &made,
        ])?;
        let extensions = format!(
            "subjectAltName=DNS:neap-coordinator.{NEAP}.svc,DNS:*.neap-coordinator-peers.{NEAP}.svc\n\
             extendedKeyUsage=serverAuth,clientAuth\n\
             keyUsage=critical,digitalSignature\n\
             basicConstraints=critical,CA:FALSE\n"
        );
        std::fs::write(this.path("extensions"), extensions)?;
        Ok(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a new certificate with this serial number and puts it into the Secret.
    async fn renew(&self, client: &Client, serial: &str) -> Result<()> {
        let path = |name: &str| self.path(name).display().to_string();
        openssl(&[
            "req",
            "-new",
            "-nodes",
            "-subj",
            "/CN=given",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-keyout",
            &path("tls.key"),
            "-out",
            &path("tls.csr"),
        ])?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &path("tls.csr"),
            "-days",
            "20",
            "-CA",
            &path("ca.crt"),
            "-CAkey",
            &path("ca.key"),
            "-set_serial",
            &format!("0x{serial}"),
            "-extfile",
            &path("extensions"),
            "-out",
            &path("tls.crt"),
        ])?;
        let read = |name: &str| std::fs::read_to_string(self.path(name));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET},
            "stringData": {
                "tls.crt": read("tls.crt")?,
                "tls.key": read("tls.key")?,
                "ca.crt": read("ca.crt")?,
            },
        });
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NEAP);
        let params = PatchParams::apply("e2e").force();
        secrets
            .patch(SECRET, &params, &Patch::Apply(&secret))
            .await?;
        Ok(())
    }
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let done = Command::new("openssl")
        .args(arguments)
        .output()
        .context("openssl")?;
    ensure!(
        done.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Serial number of the certificate that a coordinator shows to agents.
fn shown(pod: &Pod) -> Result<String> {
    let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
    let ip = ip.with_context(|| format!("{} has no IP", pod.name_any()))?;
    let done = Command::new("sh")
        .arg("-c")
        .arg("openssl s_client -connect \"$0:9700\" -alpn h2 </dev/null 2>/dev/null | openssl x509 -noout -serial")
        .arg(ip)
        .output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let serial = text.trim().strip_prefix("serial=");
    Ok(serial
        .with_context(|| format!("{}: {text}", pod.name_any()))?
        .to_owned())
}

/// Waits until every coordinator shows agents the certificate with this serial number.
async fn all_show(bed: &Bed, serial: &str) -> Result<()> {
    until(
        "the certificate at the agents' port",
        4 * MINUTE,
        || async {
            let pods = bed.pods(NEAP, COORDINATOR_PODS).await?;
            let shown: Result<Vec<String>> = pods.iter().map(shown).collect();
            within(shown?, |all| {
                all.len() == COORDINATORS && all.iter().all(|one| one == serial)
            })
        },
    )
    .await?;
    Ok(())
}

/// Who runs, and how often each was started.
async fn runs(bed: &Bed) -> Result<Vec<(Option<String>, i32)>> {
    let pods = bed.pods(NEAP, COORDINATOR_PODS).await?;
    let restarts = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        Some(statuses.first()?.restart_count)
    };
    Ok(pods
        .iter()
        .map(|pod| (pod.uid(), restarts(pod).unwrap_or(0)))
        .collect())
}

fn takes_files(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let mut env = spec
        .into_iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.env.iter().flatten());
    env.any(|env| env.name == "NEAP_TLS_DIR")
}

/// Changes where certificates come from, and lets the load rise until every coordinator has followed;
/// gives how often it rose.
async fn change(targets: &mut Targets, secret: &str) -> Result<u32> {
    upgrade(&["--set", &format!("coordinator.tls.secretName={secret}")])?;
    rise_until(targets, COORDINATOR_PODS, |pod| {
        takes_files(pod) != secret.is_empty()
    })
    .await
    .with_context(|| format!("on the way to coordinator.tls.secretName={secret:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn zz_certificates_of_someone_else_come_are_renewed_and_go() -> Result<()> {
    let mut targets = Targets::start("certificates").await?;
    let bed = targets.bed.clone();
    let issuer = Issuer::new()?;
    issuer.renew(&bed.client, "1001").await?;
    let rises = change(&mut targets, SECRET).await?;
    all_show(&bed, "1001").await?;
    println!(
        "saw: all coordinators with given certificates, while all signals crossed {rises} times"
    );

    let before = runs(&bed).await?;
    issuer.renew(&bed.client, "1002").await?;
    all_show(&bed, "1002").await?;
    targets.more_load().await?;
    targets.await_targets().await?;
    let after = runs(&bed).await?;
    ensure!(before == after, "restarted: {before:?}, then {after:?}");
    println!("saw: the renewed certificate at every coordinator, without a restart");

    let rises = change(&mut targets, "").await?;
    for pod in bed.pods(NEAP, COORDINATOR_PODS).await? {
        let serial = shown(&pod)?;
        ensure!(serial != "1002", "{} still shows it", pod.name_any());
    }
    println!(
        "saw: all coordinators with their own certificates, while all signals crossed {rises} times"
    );
    targets.check().await?;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), NEAP);
    secrets.delete(SECRET, &DeleteParams::default()).await?;
    bed.drop_namespace(targets.ns).await;
    Ok(())
}
