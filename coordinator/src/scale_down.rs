//! Going for good. A pod is told to stop in the same way whether it is restarted, moved or not
//! wanted any more: only its StatefulSet knows which. One that is not wanted leaves the cluster of
//! coordinators before it ends, so that those which stay need no answer of it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Api, Client};
use neap_consensus::{Consensus, LeaveError};

use crate::clock::Clock;
use crate::config::Config;

/// Bound of asking for the StatefulSet. Without an answer the pod counts as restarted: a member that
/// stays in the cluster can be removed later, one that left for nothing has to come back.
const ASK: Duration = Duration::from_secs(3);
/// Bound of leaving, well below the pod's time to end.
const LEAVE: Duration = Duration::from_secs(15);

/// What a replica looks at when it is told to stop.
pub struct ScaleDown {
    sets: Api<StatefulSet>,
    set: String,
    ordinal: i32,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ScaleDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScaleDown")
            .field("set", &self.set)
            .field("ordinal", &self.ordinal)
            .finish_non_exhaustive()
    }
}

impl ScaleDown {
    /// For the pod that `config` names.
    pub fn new(client: Client, clock: Arc<dyn Clock>, config: &Config) -> Self {
        Self {
            sets: Api::namespaced(client, &config.namespace),
            set: config.stateful_set().to_owned(),
            ordinal: config.ordinal(),
            clock,
        }
    }

    /// Whether the StatefulSet wants no pod of this ordinal any more. A set that is being deleted, or
    /// is gone, takes its cluster with it: nobody leaves then.
    pub async fn is_final(&self) -> bool {
        let asked = tokio::select! {
            asked = self.sets.get_opt(&self.set) => asked,
            () = self.clock.sleep_until(self.clock.boottime() + ASK) => {
                tracing::warn!(within = ?ASK, "the API server does not say whether this replica is still wanted");
                return false;
            }
        };
        match asked {
            Ok(Some(set)) if set.metadata.deletion_timestamp.is_none() => {
                let Some(spec) = set.spec else { return false };
                let first = spec.ordinals.and_then(|from| from.start).unwrap_or(0);
                let end = first.saturating_add(spec.replicas.unwrap_or(1));
                self.ordinal >= end
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether this replica is still wanted");
                false
            }
        }
    }

    /// Leaves the cluster if this replica is not wanted any more.
    pub async fn run(self, consensus: Consensus) {
        if !self.is_final().await {
            return;
        }
        tracing::info!(
            ordinal = self.ordinal,
            "not wanted any more: leaving the cluster"
        );
        match consensus.leave(LEAVE).await {
            Ok(()) => tracing::info!("left the cluster"),
            // The last one takes its state with it, as whoever scaled to zero asked for.
            Err(LeaveError::LastVoter) => {}
            Err(error) => tracing::warn!(%error, "still in the cluster at the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::SystemClock;
    use crate::testing::api_server::ApiServer;

    const SET: &str = "/apis/apps/v1/namespaces/neap/statefulsets/neap-coordinator";

    fn of_ordinal(ordinal: u32) -> (ApiServer, ScaleDown) {
        let (server, client) = ApiServer::new();
        let pod = format!("neap-coordinator-{ordinal}");
        let config = ["x", "--namespace", "neap", "--pod-name", &pod];
        let config = Config::try_parse_from(config).unwrap();
        (
            server,
            ScaleDown::new(client, Arc::new(SystemClock), &config),
        )
    }

    fn set(spec: Value) -> Value {
        json!({"metadata": {"name": "neap-coordinator"}, "spec": spec})
    }

    #[tokio::test]
    async fn only_an_ordinal_beyond_the_replicas_is_final() {
        for (ordinal, spec, is_final) in [
            (2, json!({"replicas": 3}), false),
            (3, json!({"replicas": 3}), true),
            (0, json!({"replicas": 0}), true),
            (0, json!({}), false),
            (4, json!({"replicas": 3, "ordinals": {"start": 2}}), false),
            (5, json!({"replicas": 3, "ordinals": {"start": 2}}), true),
        ] {
            let (server, leaving) = of_ordinal(ordinal);
            server.get(SET, set(spec.clone()));
            assert_eq!(leaving.is_final().await, is_final, "{ordinal} of {spec}");
        }
    }

    #[tokio::test]
    async fn without_an_answer_it_is_a_restart() {
        let (server, leaving) = of_ordinal(9);
        assert!(!leaving.is_final().await, "the set is gone");
        server.fail(SET, 500);
        assert!(!leaving.is_final().await, "the server fails");
        let mut deleted = set(json!({"replicas": 3}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        server.get(SET, deleted);
        assert!(!leaving.is_final().await, "the set is being deleted");
    }
}
