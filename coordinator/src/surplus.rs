//! Members that are gone and not wanted any more. A replica that is told to stop leaves by itself; one
//! whose node died cannot, and would stay a voter that never answers. The leader removes it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, MemberStatus, Status};
use tokio_util::sync::CancellationToken;

use crate::clock::{Boottime, Clock};
use crate::stateful_set::OwnSet;

/// Members are looked at this often, and so, at most, the StatefulSet.
const EVERY: Duration = Duration::from_secs(10);
/// Who has been silent for so long is gone: a restart takes less, and leaves the replica wanted.
const SILENT: Duration = Duration::from_secs(60);

/// Removes members that are gone for good, while this one leads.
pub struct Surplus {
    consensus: Consensus,
    own: OwnSet,
    silent: Duration,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Surplus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surplus")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Surplus {
    /// For the member `consensus` of the pods of `own`.
    pub fn new(consensus: Consensus, own: OwnSet, clock: Arc<dyn Clock>) -> Self {
        Self {
            consensus,
            own,
            silent: SILENT,
            clock,
        }
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.watch() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn watch(&self) {
        let mut leads: Option<(u64, Boottime)> = None;
        let mut said = String::new();
        loop {
            let now = self.clock.boottime();
            let term = self.consensus.lease().map(|lease| lease.term);
            leads = term.map(|term| match leads {
                Some((before, since)) if before == term => (term, since),
                _ => (term, now),
            });
            if let Some((_, since)) = leads
                && let Err(error) = self.look(now.since(since)).await
            {
                if error != said {
                    tracing::warn!(%error, "members that are gone cannot be removed yet");
                    said = error;
                }
            } else {
                said.clear();
            }
            self.clock.sleep_until(now + EVERY).await;
        }
    }

    /// Removes those that are gone and not wanted; `leads_for` is how long this member has led.
    async fn look(&self, leads_for: Duration) -> Result<(), String> {
        let status = self.consensus.status();
        let silent = silent(&status, leads_for, self.silent);
        if silent.is_empty() {
            return Ok(());
        }
        let wanted = self.own.ask().await.map_err(|error| error.to_string())?;
        if wanted.is_deleted {
            return Ok(());
        }
        let ordinal = |name: &str| self.own.ordinal(name);
        for member in surplus(silent, &wanted.ordinals, ordinal) {
            let removed = self.consensus.remove(member.node).await;
            removed.map_err(|error| format!("{}: {error}", member.name))?;
            tracing::warn!(
                id = %member.node,
                name = member.name,
                wanted = ?wanted.ordinals,
                silent_for = ?member.last_ack.unwrap_or(leads_for),
                "a member that is gone and not wanted any more was removed"
            );
        }
        Ok(())
    }
}

/// The other members that the leader has not heard of for so `long`. Where it has not heard of one at
/// all, that counts from when it began to lead.
fn silent(status: &Status, leads_for: Duration, long: Duration) -> Vec<&MemberStatus> {
    let others = status
        .members
        .iter()
        .filter(|member| Some(member.node) != status.node);
    others
        .filter(|member| member.last_ack.unwrap_or(leads_for) >= long)
        .collect()
}

/// Those of `silent` whose pod is not among the `wanted` ones. Whose name is not one of the StatefulSet's
/// is none of its business.
fn surplus<'a>(
    silent: Vec<&'a MemberStatus>,
    wanted: &Range<i32>,
    ordinal: impl Fn(&str) -> Option<i32>,
) -> Vec<&'a MemberStatus> {
    let is_surplus = |member: &&MemberStatus| {
        ordinal(&member.name).is_some_and(|ordinal| !wanted.contains(&ordinal))
    };
    silent.into_iter().filter(is_surplus).collect()
}

#[cfg(test)]
mod tests {
    use neap_consensus::NodeId;
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::stateful_set::tests::{SET, config, set};
    use crate::testing::api_server::ApiServer;
    use crate::testing::replicas::Replicas;

    /// Nothing is asserted about speed.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn member(node: u64, name: &str, silent: Option<u64>) -> MemberStatus {
        MemberStatus {
            node: NodeId(node),
            name: name.into(),
            address: String::new(),
            voter: true,
            lag: None,
            last_ack: silent.map(Duration::from_secs),
        }
    }

    #[test]
    fn who_is_silent_and_not_wanted_is_surplus() {
        let status = Status {
            node: Some(NodeId(1)),
            members: vec![
                member(1, "pod-0", None),
                member(2, "pod-1", Some(3_600)),
                member(3, "pod-2", Some(0)),
                member(4, "pod-3", Some(59)),
                member(5, "pod-4", Some(60)),
                member(6, "pod-5", None),
                member(7, "stranger", Some(3_600)),
            ],
            ..Status::default()
        };
        let ordinal = |name: &str| -> Option<i32> { name.strip_prefix("pod-")?.parse().ok() };
        let found = |wanted: Range<i32>, leads_for: u64| {
            let silent = silent(&status, Duration::from_secs(leads_for), SILENT);
            let found = surplus(silent, &wanted, ordinal);
            found.iter().map(|member| member.node.0).collect::<Vec<_>>()
        };
        assert_eq!(found(0..3, 10), [5]);
        // Of the sixth nothing was heard since this member leads.
        assert_eq!(found(0..3, 60), [5, 6]);
        assert_eq!(found(0..5, 60), [6]);
        assert_eq!(found(2..8, 60), [2]);
        assert_eq!(found(0..1, 10), [2, 5]);
        assert!(found(0..9, 3_600).is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_leader_removes_who_is_gone_and_asks_only_then() {
        let replicas = Replicas::formed(3).await;
        let leader = replicas.leader().await;
        let member = replicas.members()[leader].clone();
        let gone = &replicas.members()[(leader + 1) % 3];
        let gone_id = gone.status().node;
        let (server, client) = ApiServer::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let own = OwnSet::new(client, clock.clone(), &config(0));
        let mut task = Surplus::new(member.clone(), own, clock);
        task.look(Duration::ZERO).await.unwrap();
        assert_eq!(server.count(SET), 0, "all are there");

        gone.shutdown().await;
        task.silent = Duration::from_secs(2);
        server.get(SET, set(json!({"replicas": 3})));
        let asked = async {
            while server.count(SET) == 0 {
                task.look(Duration::ZERO).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let asked = tokio::time::timeout(DEADLINE, asked).await;
        asked.expect("its silence is noticed");
        assert_eq!(member.status().members.len(), 3, "it is wanted");
        // Those of no ordinal are wanted any more; the one that answers stays all the same.
        server.get(SET, set(json!({"replicas": 0})));
        let removed = async {
            while member.status().members.len() == 3 {
                // Leadership may move on a machine that stands still for a while.
                let _ = task.look(Duration::ZERO).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let removed = tokio::time::timeout(DEADLINE, removed).await;
        removed.expect("it is removed");
        let left = member.status().members;
        assert!(left.iter().all(|one| Some(one.node) != gone_id), "{left:?}");
    }
}
