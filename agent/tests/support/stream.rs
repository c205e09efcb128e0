//! What the coordinator says to an agent, and waits to hear from it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use neap_proto::node::agent_message::Message;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::{self, CoordinatorMessage, Directives, Hello, LeaderHint, SeriesKind};
use tokio::sync::mpsc;
use tonic::Status;

/// One stream of an agent, as the coordinator sees it.
pub(crate) struct AgentStream {
    pub(crate) authorization: String,
    pub(crate) hello: Hello,
    pub(super) address: String,
    pub(super) down: mpsc::UnboundedSender<Result<CoordinatorMessage, Status>>,
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    pub(super) values: HashMap<u32, (SeriesKind, Option<u64>)>,
    pub(super) definitions: Vec<node::SeriesDefinition>,
    pub(crate) problems: Vec<node::SpoolProblem>,
}

impl AgentStream {
    pub(crate) fn hint(&self, hint: LeaderHint) {
        let _ = self.down.send(Ok(CoordinatorMessage {
            message: Some(Down::Leader(hint)),
        }));
    }

    pub(crate) fn lead(&self, term: u64, replicas: &[&str]) {
        self.hint(LeaderHint {
            is_leader: true,
            leader_address: self.address.clone(),
            term,
            replicas: replicas
                .iter()
                .map(|replica| (*replica).to_owned())
                .collect(),
            address: self.address.clone(),
        });
    }

    pub(crate) fn direct(&self, directives: Directives) {
        let _ = self.down.send(Ok(CoordinatorMessage {
            message: Some(Down::Directives(directives)),
        }));
    }

    /// The next message; what it defines is remembered.
    pub(crate) async fn next(&mut self, patience: Duration) -> Message {
        let next = tokio::time::timeout(patience, self.messages.recv());
        let message = next
            .await
            .expect("no message came")
            .expect("the stream ended");
        let defined = match &message {
            Message::Samples(samples) => &samples.defined,
            Message::Replay(replay) => &replay.defined,
            Message::Hello(_) => panic!("a second hello"),
        };
        for defined in defined {
            self.values.insert(defined.id, (defined.kind(), None));
        }
        self.definitions.extend(defined.iter().cloned());
        if let Message::Samples(samples) = &message {
            self.problems.extend(samples.spool_problems.iter().cloned());
        }
        let points: Vec<(u32, u64)> = match &message {
            Message::Samples(samples) => {
                let counters = samples
                    .counters
                    .iter()
                    .map(|point| (point.series, point.value));
                counters
                    .chain(
                        samples
                            .gauges
                            .iter()
                            .map(|point| (point.series, point.last)),
                    )
                    .collect()
            }
            Message::Replay(replay) => {
                let last =
                    |series: &node::ReplaySeries| Some((series.series, *series.values.last()?));
                replay.series.iter().filter_map(last).collect()
            }
            Message::Hello(_) => Vec::new(),
        };
        for (id, value) in points {
            self.values
                .get_mut(&id)
                .expect("a point of a series that was not defined")
                .1 = Some(value);
        }
        message
    }

    pub(crate) fn received_nothing(&mut self) -> bool {
        self.messages.try_recv().is_err()
    }

    pub(crate) async fn samples(&mut self, patience: Duration) -> node::Samples {
        loop {
            if let Message::Samples(samples) = self.next(patience).await {
                return samples;
            }
        }
    }

    /// Waits for a point of this value, in samples or in the history.
    pub(crate) async fn point(&mut self, kind: SeriesKind, value: u64, patience: Duration) {
        self.value(kind, patience, |found| found == value).await;
    }

    /// Waits until the last value of a series of this kind is as wanted.
    pub(crate) async fn value(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
        wanted: impl Fn(u64) -> bool,
    ) {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(patience, async {
            loop {
                let of_kind = self.values.values().filter(|(found, _)| *found == kind);
                seen = of_kind.filter_map(|(_, value)| *value).collect();
                if seen.iter().copied().any(&wanted) {
                    return;
                }
                self.next(patience).await;
            }
        });
        assert!(
            found.await.is_ok(),
            "no {kind:?} as wanted within {patience:?}, but {seen:?}"
        );
    }

    /// Waits for a definition that has not been returned yet.
    pub(crate) async fn defined(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
    ) -> node::SeriesDefinition {
        let found = tokio::time::timeout(patience, async {
            loop {
                if let Some(at) = self
                    .definitions
                    .iter()
                    .position(|defined| defined.kind() == kind)
                {
                    return self.definitions.remove(at);
                }
                self.next(patience).await;
            }
        });
        found.await.expect("no such series was defined")
    }

    /// Waits for a problem of a spool that was not returned yet.
    pub(crate) async fn problem(&mut self, patience: Duration, text: &str) {
        let found = tokio::time::timeout(patience, async {
            loop {
                let at = self
                    .problems
                    .iter()
                    .position(|problem| problem.problem.contains(text));
                if let Some(at) = at {
                    return self.problems.remove(at);
                }
                self.next(patience).await;
            }
        });
        found.await.expect("no such problem was told");
    }

    /// Waits for a listener to be reported.
    pub(crate) async fn listening(&mut self, patience: Duration) -> node::PortListening {
        loop {
            if let Some(listening) = self.samples(patience).await.listening.pop() {
                return listening;
            }
        }
    }

    /// Takes what has come, and gives the pods that have a series of this kind by now.
    pub(crate) async fn pods_with(
        &mut self,
        kind: SeriesKind,
        patience: Duration,
    ) -> HashSet<String> {
        while !self.messages.is_empty() {
            self.next(patience).await;
        }
        let of_kind = self
            .definitions
            .iter()
            .filter(|defined| defined.kind() == kind);
        of_kind.map(|defined| defined.pod_uid.clone()).collect()
    }

    pub(crate) async fn ended(&mut self, patience: Duration) {
        let ended = tokio::time::timeout(patience, async {
            while self.messages.recv().await.is_some() {}
        });
        assert!(ended.await.is_ok(), "the stream goes on");
    }
}
