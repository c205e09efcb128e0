//! Each alert of the chart, seen firing in a real Prometheus for what it is for.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use neap_e2e::{Bed, COORDINATOR, NEAP, podless, scaled_object, until, within};
use serde_json::{Value, json};

use crate::targets::{COORDINATORS, MINUTE, Targets, agents_are_there, counting};

const NS: &str = "alerts";
/// In the network namespace of the bed.
const ADDRESS: &str = "127.0.0.1:9790";
/// Where Prometheus reads whom to scrape.
const COORDINATORS_FILE: &str = "coordinators.json";

/// A Prometheus that scrapes the coordinators and knows the chart's alerts. Their `for` is left out:
/// how long it waits is Prometheus's own matter.
struct Prometheus {
    process: Child,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Prometheus {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let rules = std::fs::read_to_string("../../charts/neap/files/alerts.yaml")?;
        let at_once: Vec<&str> = rules
            .lines()
            .filter(|line| !line.trim_start().starts_with("for: "))
            .collect();
        std::fs::write(folder.path().join("alerts.yaml"), at_once.join("\n"))?;
        let config = folder.path().join("prometheus.json");
        // JSON is YAML.
        std::fs::write(&config, scraping().to_string())?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stderr(Stdio::null())
            .spawn()
            .context("prometheus")?;
        Ok(Self {
            process,
            folder,
            http: reqwest::Client::new(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .http
            .get(format!("http://{ADDRESS}{path}"))
            .timeout(Duration::from_secs(5))
            .send()
            .await?
            .error_for_status()?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    /// Tells it where the coordinators are, and waits until all are scraped.
    async fn scrapes(&self, bed: &Bed) -> Result<()> {
        until("every coordinator scraped", MINUTE, || async {
            let pods = bed
                .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
                .await?;
            let addresses: Vec<String> = pods
                .iter()
                .filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref())
                .map(|ip| format!("{ip}:9702"))
                .collect();
            let list = json!([{"targets": addresses}]);
            std::fs::write(self.folder.path().join(COORDINATORS_FILE), list.to_string())?;
            let targets = self.get("/api/v1/targets?state=active").await?;
            let targets = targets["data"]["activeTargets"].as_array().cloned();
            let mut up: Vec<String> = targets
                .unwrap_or_default()
                .iter()
                .filter(|target| target["health"] == "up")
                .filter_map(|target| Some(target["labels"]["instance"].as_str()?.to_owned()))
                .collect();
            up.sort();
            within((up, addresses), |(up, addresses)| {
                up.len() == COORDINATORS && addresses.iter().all(|one| up.contains(one))
            })
        })
        .await?;
        Ok(())
    }

    /// The names of the alerts that fire now.
    async fn firing(&self) -> Result<Vec<String>> {
        let all = self.get("/api/v1/alerts").await?;
        let all = all["data"]["alerts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(all
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned()))
            .collect())
    }

    async fn fires(&self, alert: &str) -> Result<()> {
        let since = Timestamp::now();
        let what = format!("{alert} firing");
        until(&what, 2 * MINUTE, || async {
            within(self.firing().await?, |all| {
                all.iter().any(|one| one == alert)
            })
        })
        .await?;
        let after = Timestamp::now().duration_since(since).as_secs_f64();
        println!("saw: {alert} fires after {after:.1} s");
        Ok(())
    }

    async fn rests(&self, alert: &str) -> Result<()> {
        let what = format!("{alert} no longer firing");
        until(&what, 2 * MINUTE, || async {
            within(self.firing().await?, |all| {
                all.iter().all(|one| one != alert)
            })
        })
        .await?;
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scraping() -> Value {
    json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{
            "job_name": "neap",
            "file_sd_configs": [{"files": [COORDINATORS_FILE]}],
        }],
    })
}

/// Two of three members stop.
async fn no_majority(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    let all = bed.settled(COORDINATORS, 2 * MINUTE).await?;
    for one in &all[..2] {
        bed.signal(&one.pod, COORDINATOR, "STOP")?;
    }
    let seen = async {
        prometheus.fires("NeapNoLeader").await?;
        prometheus.fires("NeapNoQuorum").await
    };
    let seen = seen.await;
    for one in &all[..2] {
        // The kubelet may have ended it by now.
        let _ = bed.signal(&one.pod, COORDINATOR, "CONT");
    }
    seen?;
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    prometheus.rests("NeapNoQuorum").await?;
    prometheus.rests("NeapNoLeader").await
}

/// An agent stops.
async fn no_agent(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    // The leader is a new one, which misses only whom it has heard.
    agents_are_there(bed).await?;
    let agents = bed.pods(NEAP, "app.kubernetes.io/name=neap-agent").await?;
    let agent = agents.first().context("no agent")?;
    bed.signal(agent, "neap-agent", "STOP")?;
    let seen = prometheus.fires("NeapAgentsMissing").await;
    let _ = bed.signal(agent, "neap-agent", "CONT");
    seen?;
    prometheus.rests("NeapAgentsMissing").await
}

/// A trigger asks a server that is not there.
async fn no_signal(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    bed.apply(NS, &podless("mute", 1)).await?;
    let trigger = json!([{"type": "prometheus", "metadata": {
        "serverAddress": "http://127.0.0.1:9", "query": "up", "threshold": "1"}}]);
    let rest = json!({"minReplicaCount": 1, "pollingInterval": 1});
    bed.apply(
        NS,
        &scaled_object("mute", "Deployment", "mute", trigger, rest),
    )
    .await?;
    prometheus.fires("NeapSignalsStale").await?;
    let objects = bed.objects("keda.sh/v1alpha1", "ScaledObject", NS)?;
    objects.delete("mute", &DeleteParams::default()).await?;
    prometheus.rests("NeapSignalsStale").await
}

/// More is wanted than the maximum allows.
async fn at_max(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    bed.apply(NS, &podless("small", 1)).await?;
    let mut small = counting("small", "all", 0);
    small["spec"]["maxReplicaCount"] = json!(2);
    bed.apply(NS, &small).await?;
    prometheus.fires("NeapAtMax").await
}

/// Someone else sets the replicas again and again.
async fn contested(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    bed.apply(NS, &podless("fought", 1)).await?;
    bed.apply(NS, &counting("fought", "all", 300)).await?;
    for _ in 0..4 {
        bed.await_replicas("Deployment", NS, "fought", MINUTE, |n| n == 3)
            .await?;
        bed.merge(
            "apps/v1",
            "Deployment",
            NS,
            "fought",
            json!({"spec": {"replicas": 9}}),
        )
        .await?;
    }
    prometheus.fires("NeapTargetContested").await
}

/// The API server has no room for scale writes.
async fn throttled(targets: &mut Targets, prometheus: &Prometheus) -> Result<()> {
    let bed = targets.bed.clone();
    let cluster_wide = |kind: &str, plural: &str| -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("flowcontrol.apiserver.k8s.io", "v1", kind);
        Api::all_with(
            bed.client.clone(),
            &ApiResource::from_gvk_with_plural(&kind, plural),
        )
    };
    let levels = cluster_wide("PriorityLevelConfiguration", "prioritylevelconfigurations");
    let schemas = cluster_wide("FlowSchema", "flowschemas");
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "no-scales"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"}}},
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "no-scales"},
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": "no-scales"},
            "rules": [{
                "subjects": [{"kind": "ServiceAccount",
                              "serviceAccount": {"name": COORDINATOR, "namespace": NEAP}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["apps"],
                                   "resources": ["deployments/scale"], "namespaces": [NS]}],
            }],
        },
    });
    let params = PatchParams::apply("e2e").force();
    levels
        .patch("no-scales", &params, &Patch::Apply(&level))
        .await?;
    schemas
        .patch("no-scales", &params, &Patch::Apply(&schema))
        .await?;
    targets.more_load().await?;
    let seen = prometheus.fires("NeapApiThrottled").await;
    schemas
        .delete("no-scales", &DeleteParams::default())
        .await?;
    levels.delete("no-scales", &DeleteParams::default()).await?;
    seen?;
    targets.await_targets().await
}

/// An authority that ends in three days signs certificates that end with it.
async fn certificate(bed: &Bed, prometheus: &Prometheus) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "3", "-subj", "/CN=neap"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .args(["-keyout", &path("tls.key"), "-out", &path("tls.crt")])
        .output()
        .context("openssl")?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), NEAP);
    let read = |name: &str| std::fs::read_to_string(Path::new(&path(name)));
    let data = json!({"stringData": {"tls.crt": read("tls.crt")?, "tls.key": read("tls.key")?}});
    secrets
        .patch("neap-ca", &PatchParams::default(), &Patch::Merge(&data))
        .await?;
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NEAP);
    for pod in bed
        .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
        .await?
    {
        pods.delete(&pod.name_any(), &DeleteParams::default())
            .await?;
    }
    bed.settled(COORDINATORS, 3 * MINUTE).await?;
    prometheus.scrapes(bed).await?;
    prometheus.fires("NeapCertificateExpires").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed with three coordinators: tests/run failover"]
async fn zz_each_alert_fires_for_what_it_is_for() -> Result<()> {
    let mut targets = Targets::start(NS).await?;
    targets.without_failing().await?;
    targets.more_load().await?;
    targets.await_targets().await?;
    let bed = targets.bed.clone();
    let prometheus = Prometheus::start()?;
    prometheus.scrapes(&bed).await?;
    // Before its first scrape it knows of no leader.
    until("nothing firing while all is well", MINUTE, || async {
        within(prometheus.firing().await?, Vec::is_empty)
    })
    .await?;
    no_majority(&bed, &prometheus).await?;
    no_agent(&bed, &prometheus).await?;
    no_signal(&bed, &prometheus).await?;
    at_max(&bed, &prometheus).await?;
    contested(&bed, &prometheus).await?;
    throttled(&mut targets, &prometheus).await?;
    certificate(&bed, &prometheus).await?;
    bed.drop_namespace(NS).await;
    Ok(())
}
