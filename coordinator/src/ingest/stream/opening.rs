//! Before a stream is let in: its hello, checked against the token that came with it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::{AgentMessage, CoordinatorMessage, Hello, PROTOCOL_VERSION};
use neap_units::{BootId, NodeName};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::session::{AgentFacts, Session};
use crate::identity::{Caller, ReviewOutcome};
use crate::ingest::figures::IngestFigures;
use crate::ingest::serve::IngestParts;
use crate::ingest::spools::roots;

/// A stream whose token was verified and which has not said hello yet.
pub(in crate::ingest) struct Opening {
    pub(in crate::ingest) parts: Arc<IngestParts>,
    pub(in crate::ingest) caller: Caller,
    pub(in crate::ingest) token: Arc<str>,
    pub(in crate::ingest) outbox: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

impl Opening {
    /// Runs the stream to its end.
    pub(in crate::ingest) async fn run(self, mut inbound: Streaming<AgentMessage>) {
        let (parts, outbox) = (self.parts.clone(), self.outbox.clone());
        let ended = match self.hello(&mut inbound).await {
            Ok(mut session) => session.run(&mut inbound).await,
            Err(status) => Err(status),
        };
        if let Err(status) = ended {
            // Fails when the agent is gone, and then nobody wants the reason.
            let _ = outbox
                .send_timeout(Err(status), parts.limits.send_within)
                .await;
        }
    }

    async fn hello(self, inbound: &mut Streaming<AgentMessage>) -> Result<Session, Status> {
        let within = self.parts.limits.hello_within;
        let first = tokio::time::timeout(within, inbound.message())
            .await
            .map_err(|_| {
                Status::deadline_exceeded(format!("no hello within {} s", within.as_secs()))
            })??;
        let Some(AgentMessage {
            message: Some(Up::Hello(hello)),
        }) = first
        else {
            return Err(Status::invalid_argument(
                "the first message of a stream must be hello",
            ));
        };
        let node = self.check(&hello)?;
        let boot = BootId::new(&hello.boot_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let slot = self
            .parts
            .slots
            .take(&node, self.parts.limits.streams_per_node)
            .ok_or_else(|| {
                Status::resource_exhausted(format!(
                    "node {node} has {} streams already, at most that many are allowed",
                    self.parts.limits.streams_per_node
                ))
            })?;
        tracing::info!(
            %node,
            pod = self.caller.pod,
            version = hello.agent_version,
            capabilities = ?hello.capabilities.clone().unwrap_or_default(),
            "agent connected"
        );
        let agent = AgentFacts {
            node,
            boot,
            start_ns: hello.agent_start_boottime_ns,
            spool_roots: roots(hello.capabilities.unwrap_or_default()),
        };
        Ok(Session::new(self, agent, slot))
    }

    pub(super) async fn send(&self, message: Down) -> Result<(), Status> {
        let message = CoordinatorMessage {
            message: Some(message),
        };
        let within = self.parts.limits.send_within;
        self.outbox
            .send_timeout(Ok(message), within)
            .await
            .map_err(|_| {
                Status::deadline_exceeded(format!(
                    "a message was not taken within {} s",
                    within.as_secs()
                ))
            })
    }

    fn check(&self, hello: &Hello) -> Result<NodeName, Status> {
        let speaks = PROTOCOL_VERSION.saturating_sub(1).max(1)..=PROTOCOL_VERSION + 1;
        if !speaks.contains(&hello.protocol_version) {
            return Err(Status::failed_precondition(format!(
                "protocol_version {}: this coordinator speaks {PROTOCOL_VERSION} and works with {} to {}",
                hello.protocol_version,
                speaks.start(),
                speaks.end()
            )));
        }
        if hello.node_name != self.caller.node_name {
            IngestFigures::add(&self.parts.figures.wrong_node, 1);
            tracing::warn!(
                claimed = hello.node_name,
                node = self.caller.node_name,
                pod = self.caller.pod,
                "an agent speaks for another node than its token: its stream is refused"
            );
            return Err(Status::permission_denied(format!(
                "node_name {:?}: the token is of node {:?}",
                hello.node_name, self.caller.node_name
            )));
        }
        NodeName::new(&hello.node_name).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// Asks the API server about the token, after `wait`.
pub(super) fn review(opening: &Opening, wait: Duration) -> BoxFuture<'static, ReviewOutcome> {
    let (parts, token, caller) = (
        opening.parts.clone(),
        opening.token.clone(),
        opening.caller.clone(),
    );
    Box::pin(async move {
        if !wait.is_zero() {
            parts.clock.sleep_until(parts.clock.boottime() + wait).await;
        }
        parts.identity.review(&token, &caller).await
    })
}
