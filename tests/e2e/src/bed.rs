//! The bed a test runs against, and what a user would do to it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::wait::{until, within};
use crate::{Audit, drive};

/// A running bed with Neap installed in namespace `neap-system`.
#[derive(Clone)]
pub struct Bed {
    /// A client with the rights of a cluster's owner.
    pub client: Client,
    /// The API server's audit log.
    pub audit: Audit,
    http: reqwest::Client,
}

/// The namespace Neap is installed in.
pub const NEAP: &str = "neap-system";

impl Bed {
    /// Connects to the bed that `KUBECONFIG` and `NEAP_BED_AUDIT` name.
    ///
    /// # Errors
    /// When either is not set, or the API server does not answer.
    pub async fn connect() -> Result<Self> {
        // A second call finds the provider installed, which is as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let audit = std::env::var_os("NEAP_BED_AUDIT")
            .context("NEAP_BED_AUDIT is not set: run tests/run main-path")?;
        let client = Client::try_default()
            .await
            .context("connecting to the bed")?;
        Ok(Self {
            client,
            audit: Audit::new(PathBuf::from(audit)),
            http: reqwest::Client::new(),
        })
    }

    /// Kills or starts (`action`) a daemon of the control plane: what `tests/bed/service` does, which
    /// `NEAP_BED_SERVICE` names.
    ///
    /// # Errors
    /// When it is not set, or what the command says.
    pub fn service(&self, action: &str, service: &str) -> Result<()> {
        let command = std::env::var("NEAP_BED_SERVICE")
            .context("NEAP_BED_SERVICE is not set: run tests/run main-path")?;
        let done = Command::new("sh")
            .arg("-c")
            .arg(format!("{command} {action} control {service}"))
            .output()?;
        if !done.status.success() {
            bail!(
                "{action} {service}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(())
    }

    /// Makes a new namespace, deleting one of the same name that an earlier run left.
    ///
    /// # Errors
    /// When it cannot be made within a minute.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if api.get_opt(name).await?.is_some() {
            let _ = api.delete(name, &DeleteParams::default()).await;
            until(
                "the old namespace going",
                Duration::from_secs(60),
                || async { within(api.get_opt(name).await?.map(|n| n.status), Option::is_none) },
            )
            .await?;
        }
        let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// Deletes a namespace without waiting.
    pub async fn drop_namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let _ = api.delete(name, &DeleteParams::default()).await;
    }

    /// An API for objects of `kind` in `namespace`.
    ///
    /// # Errors
    /// For a kind that no test uses.
    pub fn objects(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<Api<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let plural = format!("{}s", kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, version, kind),
            &plural,
        );
        Ok(Api::namespaced_with(
            self.client.clone(),
            namespace,
            &resource,
        ))
    }

    /// Applies an object as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn apply(&self, namespace: &str, object: &Value) -> Result<()> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .context(pointer.to_owned())
        };
        let api = self.objects(text("/apiVersion")?, text("/kind")?, namespace)?;
        let name = text("/metadata/name")?;
        let params = PatchParams::apply("e2e").force();
        api.patch(name, &params, &Patch::Apply(object))
            .await
            .with_context(|| format!("applying {name}"))?;
        Ok(())
    }

    /// Merges `patch` into an object, as the field manager `e2e-merge`.
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn merge(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<()> {
        let api = self.objects(api_version, kind, namespace)?;
        let params = PatchParams {
            field_manager: Some("e2e-merge".to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The replicas that an object of apps/v1 asks for.
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn replicas(&self, kind: &str, namespace: &str, name: &str) -> Result<i64> {
        let object = self.objects("apps/v1", kind, namespace)?.get(name).await?;
        object.data["spec"]["replicas"]
            .as_i64()
            .ok_or_else(|| anyhow!("{kind} {name} has no spec.replicas"))
    }

    /// Waits until an object of apps/v1 asks for replicas that satisfy `ok`.
    ///
    /// # Errors
    /// When the time is over, with the last number seen and what Neap says of the target.
    pub async fn await_replicas(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        limit: Duration,
        ok: impl Fn(i64) -> bool + Copy,
    ) -> Result<i64> {
        let seen = until(
            &format!("replicas of {namespace}/{name}"),
            limit,
            || async { within(self.replicas(kind, namespace, name).await?, |n| ok(*n)) },
        )
        .await;
        match seen {
            Ok(replicas) => Ok(replicas),
            Err(error) => {
                let so = self
                    .objects("keda.sh/v1alpha1", "ScaledObject", namespace)?
                    .get(name)
                    .await;
                let status = so
                    .map(|o| o.data["status"].to_string())
                    .unwrap_or_else(|e| e.to_string());
                let why = self.explain(namespace, name).await.map(|v| v.to_string());
                Err(error.context(format!("status: {status}; explained: {why:?}")))
            }
        }
    }

    /// Waits until all of a Deployment's or StatefulSet's pods are ready.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn await_ready(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        limit: Duration,
    ) -> Result<()> {
        until(
            &format!("pods of {namespace}/{name} ready"),
            limit,
            || async {
                let object = self.objects("apps/v1", kind, namespace)?.get(name).await?;
                let want = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
                within(
                    object.data["status"]["readyReplicas"].as_i64().unwrap_or(0),
                    |ready| *ready == want,
                )
            },
        )
        .await?;
        Ok(())
    }

    /// The condition `type` of a ScaledObject: (status, reason, message).
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
    ) -> Result<Option<(String, String, String)>> {
        let so = self
            .objects("keda.sh/v1alpha1", "ScaledObject", namespace)?
            .get(name)
            .await?;
        let conditions = so.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
        Ok(conditions
            .iter()
            .find(|c| c["type"] == kind)
            .map(|c| (text(c, "status"), text(c, "reason"), text(c, "message"))))
    }

    /// Waits until the condition `type` of a ScaledObject has `status`, and gives its reason and message.
    ///
    /// # Errors
    /// When the time is over, with the last one seen.
    pub async fn await_condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
    ) -> Result<(String, String)> {
        let what = format!("condition {kind}={status} of {namespace}/{name}");
        let found = until(&what, Duration::from_secs(30), || async {
            let seen = self.condition(namespace, name, kind).await?;
            within(seen, |c| c.as_ref().is_some_and(|(s, _, _)| s == status))
        })
        .await?;
        found
            .map(|(_, reason, message)| (reason, message))
            .context(what)
    }

    /// Events about a ScaledObject: (reason, message).
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn events(&self, namespace: &str, name: &str) -> Result<Vec<(String, String)>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let selector = format!("involvedObject.name={name},involvedObject.kind=ScaledObject");
        let list = api.list(&ListParams::default().fields(&selector)).await?;
        Ok(list
            .items
            .into_iter()
            .map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
            .collect())
    }

    /// Pods with `labels` in `namespace`.
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.list(&ListParams::default().labels(labels)).await?.items)
    }

    /// The cluster IP of a Service, with its port 80.
    ///
    /// # Errors
    /// The API server's answer.
    pub async fn cluster_address(
        &self,
        namespace: &str,
        service: &str,
    ) -> Result<std::net::SocketAddr> {
        let object = self
            .objects("v1", "Service", namespace)?
            .get(service)
            .await?;
        let ip: IpAddr = object.data["spec"]["clusterIP"]
            .as_str()
            .context("no clusterIP")?
            .parse()?;
        Ok((ip, 80).into())
    }

    /// What the coordinator says of a target at `/api/v1/targets/NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When no coordinator answers.
    pub async fn explain(&self, namespace: &str, name: &str) -> Result<Value> {
        self.get(&format!("/api/v1/targets/{namespace}/{name}"))
            .await
            .and_then(|t| Ok(serde_json::from_str(&t)?))
    }

    /// The coordinator's answer to a GET of `path` on its HTTP port.
    ///
    /// # Errors
    /// When no coordinator answers with success.
    pub async fn get(&self, path: &str) -> Result<String> {
        let pods = self
            .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
            .await?;
        let ip = pods
            .iter()
            .find_map(|p| p.status.as_ref()?.pod_ip.clone())
            .context("no coordinator with an IP")?;
        self.get_from(&ip, path).await
    }

    /// The answer of the coordinator at `ip` to a GET of `path`.
    ///
    /// # Errors
    /// When it does not answer with success.
    pub async fn get_from(&self, ip: &str, path: &str) -> Result<String> {
        let answer = self
            .http
            .get(format!("http://{ip}:9702{path}"))
            .timeout(Duration::from_secs(5))
            .send()
            .await?;
        let answer = answer.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// The id, on this machine, of the process `program` of a pod.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn process(&self, pod: &Pod, program: &str) -> Result<u32> {
        let uid = pod.metadata.uid.as_deref().context("the pod has no uid")?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            // The kernel keeps the first 15 characters of a program's name.
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if groups.contains(uid) && !name.trim().is_empty() && program.starts_with(name.trim()) {
                return Ok(id);
            }
        }
        bail!("no process {program} of pod {uid} on this machine")
    }

    /// Sends `signal` (as `STOP`) to the process `program` of a pod that runs on this machine.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn signal(&self, pod: &Pod, program: &str, signal: &str) -> Result<()> {
        let id = self.process(pod, program)?;
        let done = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &id.to_string()])
            .status()?;
        if !done.success() {
            bail!("kill -{signal} {id}: {done}");
        }
        Ok(())
    }

    /// Kills, with SIGKILL, the process `program` of a pod that runs on this machine.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn kill(&self, pod: &Pod, program: &str) -> Result<()> {
        self.signal(pod, program, "KILL")
    }

    /// Drives a load at a Service.
    ///
    /// # Errors
    /// When the Service has no address.
    pub async fn drive(
        &self,
        namespace: &str,
        service: &str,
        rate: f64,
        time: Duration,
    ) -> Result<crate::LoadReport> {
        let to = self.cluster_address(namespace, service).await?;
        Ok(drive(crate::Load { to, rate, time }).await)
    }
}
