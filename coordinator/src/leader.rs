//! Who leads, for people and their tools: the Lease `neap-coordinator`, the label
//! `neap.dev/role=leader` on the leader's pod, and an Event when leadership moves.
//!
//! None of it decides anything: leadership is consensus's own. A failed write is tried again with
//! the next renewal.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use neap_consensus::LeaderId;

use crate::clock::Clock;
use crate::kube_api::{About, EventForm, FIELD_MANAGER};
use crate::leading::Leading;

/// Name of the Lease.
pub const LEASE: &str = "neap-coordinator";
/// The label of the leader's pod.
pub const ROLE: &str = "neap.dev/role";
/// Term and node of the leadership, on the Lease.
const LEADER_ID: &str = "neap.dev/leader-id";
/// What the Lease says it is good for. Renewed at a third of it: one write in twenty seconds.
const LEASE_SECONDS: i32 = 60;
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// A write that failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Shows this coordinator's leadership on the API server.
pub struct LeaderSign {
    leases: Api<Lease>,
    pods: Api<Pod>,
    client: Client,
    clock: Arc<dyn Clock>,
    namespace: String,
    pod_name: String,
}

impl std::fmt::Debug for LeaderSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaderSign")
            .field("pod_name", &self.pod_name)
            .finish_non_exhaustive()
    }
}

impl LeaderSign {
    /// A sign for the pod `pod_name` of Neap's own `namespace`.
    pub fn new(client: Client, clock: Arc<dyn Clock>, namespace: &str, pod_name: &str) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            client,
            clock,
            namespace: namespace.to_owned(),
            pod_name: pod_name.to_owned(),
        }
    }

    /// Follows `leading` until `stop` is cancelled, then takes the sign down.
    pub async fn run(self, mut leading: watch::Receiver<Leading>, stop: CancellationToken) {
        let mut shown: Option<LeaderId> = None;
        let mut complained = false;
        loop {
            let leads = {
                let now = &leading.borrow_and_update().leadership;
                now.leader
                    .as_ref()
                    .filter(|_| now.is_self)
                    .map(|leader| leader.id)
            };
            let result = match leads {
                Some(id) => self.show(id, shown != Some(id)).await,
                None if shown.is_some() => self.label(&self.pod_name, None).await,
                None => Ok(()),
            };
            let pause = match result {
                Ok(()) => {
                    shown = leads;
                    complained = false;
                    RENEW_EVERY
                }
                Err(error) => {
                    if !complained {
                        tracing::warn!(%error, "cannot show who leads; trying again");
                        complained = true;
                    }
                    RETRY_AFTER
                }
            };
            let due = self.clock.boottime() + pause;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = leading.changed() => if changed.is_err() { break },
                () = self.clock.sleep_until(due) => {}
            }
        }
        if shown.is_some() {
            // At best effort: the next leader does the same for a pod that died.
            let _ = self.label(&self.pod_name, None).await;
        }
    }

    async fn show(&self, id: LeaderId, is_new: bool) -> Result<(), kube::Error> {
        let moved = self.renew(id).await?;
        if is_new {
            let marked = self
                .pods
                .list_metadata(&ListParams::default().labels(&format!("{ROLE}=leader")))
                .await?;
            for pod in marked
                .items
                .iter()
                .filter(|pod| pod.name_any() != self.pod_name)
            {
                self.label(&pod.name_any(), None).await?;
            }
            self.label(&self.pod_name, Some("leader")).await?;
        }
        if let Some(former) = moved {
            self.announce(id, former.as_deref()).await?;
        }
        Ok(())
    }

    /// Writes the Lease. `Some(former holder)` when leadership moved with this write.
    async fn renew(&self, id: LeaderId) -> Result<Option<Option<String>>, kube::Error> {
        let now = MicroTime(self.clock.wall());
        let Some(old) = self.leases.get_opt(LEASE).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    annotations: Some([(LEADER_ID.to_owned(), id.to_string())].into()),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(self.pod_name.clone()),
                    lease_duration_seconds: Some(LEASE_SECONDS),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    lease_transitions: Some(0),
                    ..LeaseSpec::default()
                }),
            };
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            self.leases.create(&params, &lease).await?;
            return Ok(Some(None));
        };
        let same = old
            .annotations()
            .get(LEADER_ID)
            .is_some_and(|known| *known == id.to_string());
        let spec = old.spec.unwrap_or_default();
        let mut patch = json!({
            "metadata": {"annotations": {LEADER_ID: id.to_string()}},
            "spec": {"holderIdentity": self.pod_name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
        });
        if !same {
            patch["spec"]["acquireTime"] = json!(now);
            patch["spec"]["leaseTransitions"] = json!(spec.lease_transitions.unwrap_or(0) + 1);
        }
        self.leases
            .patch(LEASE, &params(), &Patch::Merge(patch))
            .await?;
        Ok((!same).then_some(spec.holder_identity))
    }

    async fn label(&self, pod: &str, role: Option<&str>) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"labels": {ROLE: role}}});
        match self
            .pods
            .patch_metadata(pod, &params(), &Patch::Merge(patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn announce(&self, id: LeaderId, former: Option<&str>) -> Result<(), kube::Error> {
        let note = match former {
            Some(former) if former != self.pod_name => {
                format!("{} leads as {id}, after {former}", self.pod_name)
            }
            _ => format!("{} leads as {id}", self.pod_name),
        };
        let form = EventForm {
            about: About {
                api_version: "coordination.k8s.io/v1",
                kind: "Lease",
                namespace: &self.namespace,
                name: LEASE,
                uid: None,
            },
            pod_name: &self.pod_name,
            at: self.clock.wall(),
            action: "Leading",
            reason: "LeaderElected",
            note: &note,
            warning: false,
        };
        let request = axum::http::Request::post(form.path())
            .header("content-type", "application/json")
            .body(form.body().to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await?;
        Ok(())
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

#[cfg(test)]
#[path = "leader_test.rs"]
mod tests;
