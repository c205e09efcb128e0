//! Going for good. A pod is told to stop in the same way whether it is restarted, moved or not
//! wanted any more: only its StatefulSet knows which. One that is not wanted leaves the cluster of
//! coordinators before it ends, so that those which stay need no answer of it.

use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, LeaveError};

use crate::clock::Clock;
use crate::config::Config;
use crate::stateful_set::{AskError, OwnSet};

/// Bound of leaving and of finding out whether to, well below the pod's time to end.
const LEAVE: Duration = Duration::from_secs(20);
/// Bound of finding out: a voter that ends without a word may take the majority along.
const ASK: Duration = Duration::from_secs(8);
/// Wait before the next question.
const PAUSE: Duration = Duration::from_millis(300);

/// What a replica looks at when it is told to stop.
pub struct ScaleDown {
    own: OwnSet,
    ordinal: i32,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ScaleDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScaleDown")
            .field("ordinal", &self.ordinal)
            .finish_non_exhaustive()
    }
}

impl ScaleDown {
    /// For the pod that `config` names, of the set `own`.
    pub fn new(own: OwnSet, config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            own,
            ordinal: config.ordinal(),
            clock,
        }
    }

    /// Whether the StatefulSet wants no pod of this ordinal any more. A set that is being deleted, or
    /// is gone, takes its cluster with it: nobody leaves then. Without an answer for 8 s the pod counts as
    /// restarted: where it does not come back the leader removes it after a minute ([`crate::surplus`]),
    /// and one that left for nothing would have to be taken in again.
    pub async fn is_final(&self) -> bool {
        let until = self.clock.boottime() + ASK;
        loop {
            let error = match self.own.ask().await {
                Ok(wanted) => {
                    return !wanted.is_deleted && !wanted.ordinals.contains(&self.ordinal);
                }
                Err(AskError::Gone) => return false,
                Err(error) => error,
            };
            let again = self.clock.boottime() + PAUSE;
            if again >= until {
                tracing::warn!(%error, "cannot tell whether this replica is still wanted");
                return false;
            }
            self.clock.sleep_until(again).await;
        }
    }

    /// Leaves the cluster if this replica is not wanted any more.
    pub async fn run(self, consensus: Consensus) {
        let began = self.clock.boottime();
        if !self.is_final().await {
            return;
        }
        tracing::info!(
            ordinal = self.ordinal,
            "not wanted any more: leaving the cluster"
        );
        let left = LEAVE.saturating_sub(self.clock.boottime().since(began));
        match consensus.leave(left).await {
            Ok(()) => tracing::info!("left the cluster"),
            // The last one takes its state with it, as whoever scaled to zero asked for.
            Err(LeaveError::LastVoter) => {}
            Err(error) => tracing::warn!(%error, "still in the cluster at the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::{Boottime, ManualClock, SystemClock};
    use crate::stateful_set::tests::{SET, config, set};
    use crate::testing::api_server::ApiServer;

    fn of_ordinal(ordinal: u32, clock: Arc<dyn Clock>) -> (ApiServer, ScaleDown) {
        let (server, client) = ApiServer::new();
        let config = config(ordinal);
        let own = OwnSet::new(client, clock.clone(), &config);
        (server, ScaleDown::new(own, &config, clock))
    }

    /// Lets time pass until it is known, slowly enough for the answers.
    async fn passing(asking: JoinHandle<bool>, clock: &ManualClock) -> bool {
        while !asking.is_finished() {
            clock.advance(PAUSE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        asking.await.unwrap()
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
            let (server, leaving) = of_ordinal(ordinal, Arc::new(SystemClock));
            server.get(SET, set(spec.clone()));
            assert_eq!(leaving.is_final().await, is_final, "{ordinal} of {spec}");
        }
    }

    #[tokio::test]
    async fn without_an_answer_it_is_a_restart() {
        let (server, leaving) = of_ordinal(9, Arc::new(SystemClock));
        assert!(!leaving.is_final().await, "the set is gone");
        let mut deleted = set(json!({"replicas": 3}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        server.get(SET, deleted);
        assert!(!leaving.is_final().await, "the set is being deleted");

        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let (server, leaving) = of_ordinal(9, Arc::new(clock.clone()));
        server.fail(SET, 500);
        let asking = tokio::spawn(async move { leaving.is_final().await });
        assert!(!passing(asking, &clock).await, "the server fails");
        assert!(clock.boottime() + PAUSE * 2 >= Boottime::from_micros(0) + ASK);
    }

    #[tokio::test]
    async fn one_answer_that_fails_is_not_the_last_word() {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let (server, leaving) = of_ordinal(9, Arc::new(clock.clone()));
        server.fail(SET, 429);
        let asking = tokio::spawn(async move { leaving.is_final().await });
        server.asked(SET, 1).await;
        server.get(SET, set(json!({"replicas": 3})));
        assert!(passing(asking, &clock).await);
    }
}
