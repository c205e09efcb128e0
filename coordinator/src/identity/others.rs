//! The other coordinators of this StatefulSet, as far as certificates care.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

/// More replicas than a StatefulSet of coordinators has.
const MAX_PODS: u32 = 100;

/// Looks for them.
pub(super) struct Others {
    pods: Api<Pod>,
    own: String,
}

impl Others {
    pub(super) fn new(client: kube::Client, namespace: &str, own: &str) -> Self {
        Self {
            pods: Api::namespaced(client, namespace),
            own: own.to_owned(),
        }
    }

    /// Whether another one is ready, so that agents need not reach this one. Also where that cannot be
    /// found out: then nothing is hurried.
    pub(super) async fn serve(&self) -> bool {
        let labels = "app.kubernetes.io/name=neap-coordinator";
        let params = ListParams::default().labels(labels).limit(MAX_PODS);
        match self.pods.list(&params).await {
            Ok(pods) => pods
                .iter()
                .any(|pod| pod.name_any() != self.own && is_ready(pod)),
            Err(error) => {
                tracing::debug!(%error, "the other coordinators cannot be looked at");
                true
            }
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
