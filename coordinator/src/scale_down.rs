//! Going for good. A pod is told to stop in the same way whether it is restarted, moved or not
//! wanted any more: only its StatefulSet knows which. One that is not wanted leaves the cluster of
//! coordinators before it ends, so that those which stay need no answer of it.

use std::time::Duration;

use neap_consensus::{Consensus, LeaveError};

use crate::config::Config;
use crate::stateful_set::{AskError, OwnSet};

/// Bound of leaving, well below the pod's time to end.
const LEAVE: Duration = Duration::from_secs(15);

/// What a replica looks at when it is told to stop.
#[derive(Debug)]
pub struct ScaleDown {
    own: OwnSet,
    ordinal: i32,
}

impl ScaleDown {
    /// For the pod that `config` names, of the set `own`.
    pub fn new(own: OwnSet, config: &Config) -> Self {
        Self {
            own,
            ordinal: config.ordinal(),
        }
    }

    /// Whether the StatefulSet wants no pod of this ordinal any more. A set that is being deleted, or
    /// is gone, takes its cluster with it: nobody leaves then. Without an answer the pod counts as
    /// restarted: where it does not come back the leader removes it after a minute ([`crate::surplus`]),
    /// and one that left for nothing would have to be taken in again.
    pub async fn is_final(&self) -> bool {
        match self.own.ask().await {
            Ok(wanted) => !wanted.is_deleted && !wanted.ordinals.contains(&self.ordinal),
            Err(AskError::Gone) => false,
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
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::stateful_set::tests::{SET, config, set};
    use crate::testing::api_server::ApiServer;

    fn of_ordinal(ordinal: u32) -> (ApiServer, ScaleDown) {
        let (server, client) = ApiServer::new();
        let config = config(ordinal);
        let own = OwnSet::new(client, Arc::new(SystemClock), &config);
        (server, ScaleDown::new(own, &config))
    }

    #[tokio::test]
    async fn only_an_ordinal_that_is_not_wanted_is_final() {
        for (ordinal, spec, is_final) in [
            (2, json!({"replicas": 3}), false),
            (3, json!({"replicas": 3}), true),
            (0, json!({"replicas": 0}), true),
            (0, json!({}), false),
            (4, json!({"replicas": 3, "ordinals": {"start": 2}}), false),
            (5, json!({"replicas": 3, "ordinals": {"start": 2}}), true),
            (1, json!({"replicas": 3, "ordinals": {"start": 2}}), true),
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
