//! A stream that said hello: who leads, what to read, and until when.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::{Ack, AgentMessage, LeaderHint};
use neap_units::{BootId, NodeName};
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::opening::{Opening, review};
use super::samples::{Active, refusal};
use crate::clock::Boottime;
use crate::identity::ReviewOutcome;
use crate::ingest::binding::Bindings;
use crate::ingest::directives::{directives, message};
use crate::ingest::figures::IngestFigures;
use crate::ingest::limits::StreamSlot;
use crate::ingest::spools::{allowed, too_many};
use crate::leading::Leading;
use crate::signals::WantedSignals;

/// Unknown pods, missing addresses and silence are looked at this often.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// A leader that has been without a lease for so long ends the streams that it took samples on: a lease that is only late must
/// not make all agents dial anew.
const WITHOUT_LEASE: Duration = Duration::from_secs(1);
/// Samples are acknowledged at most this often.
const ACK_EACH: Duration = Duration::from_secs(1);
/// A review that could not be made is tried again after this.
const REVIEW_AGAIN: Duration = Duration::from_secs(60);
/// An agent reads its token file anew when its stream ends; the file is renewed long before this.
const AFTER_EXPIRY: Duration = Duration::from_secs(5);

/// What an agent said of itself.
pub(super) struct AgentFacts {
    pub(super) node: NodeName,
    pub(super) boot: BootId,
    /// When it started, in its node's CLOCK_BOOTTIME.
    pub(super) start_ns: u64,
    /// Directories below which it reads spools.
    pub(super) spool_roots: Arc<[Arc<str>]>,
}

/// A stream that said hello.
pub(super) struct Session {
    opening: Opening,
    leading: watch::Receiver<Leading>,
    agent: AgentFacts,
    review: BoxFuture<'static, ReviewOutcome>,
    active: Option<Active>,
    /// Since when it took samples no more and knew nobody who does.
    deposed: Option<Boottime>,
    last_hint: Option<LeaderHint>,
    /// Generation of the last directives of this stream.
    generation: u64,
    _slot: StreamSlot,
}

impl Session {
    /// Begins after the hello of `opening`.
    pub(super) fn new(opening: Opening, agent: AgentFacts, slot: StreamSlot) -> Self {
        Self {
            review: review(&opening, Duration::ZERO),
            leading: opening.parts.leading.clone(),
            opening,
            agent,
            active: None,
            deposed: None,
            last_hint: None,
            generation: 0,
            _slot: slot,
        }
    }

    /// Runs until the agent goes (`Ok`) or the stream must end (`Err`).
    pub(super) async fn run(
        &mut self,
        inbound: &mut Streaming<AgentMessage>,
    ) -> Result<(), Status> {
        let parts = self.opening.parts.clone();
        let mut wanted = parts.wanted.clone();
        wanted.mark_unchanged();
        self.leading.mark_unchanged();
        self.follow_leader().await?;
        let life = parts
            .clock
            .wall()
            .duration_until(self.opening.caller.expires);
        let life = Duration::try_from(life).unwrap_or(Duration::ZERO) + AFTER_EXPIRY;
        let mut expiry = parts.clock.sleep_until(parts.clock.boottime() + life);
        let mut look = parts.clock.sleep_until(parts.clock.boottime() + LOOK_EACH);
        loop {
            tokio::select! {
                biased;
                () = parts.stop.cancelled() => return Err(Status::unavailable("the coordinator is stopping")),
                changed = self.leading.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the coordinator is stopping"));
                    }
                    self.follow_leader().await?;
                }
                Ok(()) = wanted.changed() => self.direct().await?,
                outcome = &mut self.review => self.reviewed(outcome)?,
                () = &mut expiry => {
                    let expires = self.opening.caller.expires;
                    return Err(Status::unauthenticated(format!("token: expired at {expires}")));
                }
                () = &mut look => {
                    look = parts.clock.sleep_until(parts.clock.boottime() + LOOK_EACH);
                    self.look().await?;
                }
                message = inbound.message() => match message? {
                    Some(AgentMessage { message: Some(message) }) => self.take(message).await?,
                    // A case of a newer agent.
                    Some(AgentMessage { message: None }) => {}
                    None => return Ok(()),
                },
            }
        }
    }

    fn reviewed(&mut self, outcome: ReviewOutcome) -> Result<(), Status> {
        let wait = match outcome {
            ReviewOutcome::Valid => self.opening.parts.limits.review_each,
            ReviewOutcome::Unknown(reason) => {
                tracing::debug!(node = %self.agent.node, reason, "an agent's token could not be reviewed");
                REVIEW_AGAIN
            }
            ReviewOutcome::Invalid(reason) => {
                IngestFigures::add(&self.opening.parts.figures.review_failed, 1);
                tracing::warn!(node = %self.agent.node, pod = self.opening.caller.pod, reason, "the API server refuses an agent's token: its stream is ended");
                return Err(Status::unauthenticated(format!("token: {reason}")));
            }
        };
        self.review = review(&self.opening, wait);
        Ok(())
    }

    /// Tells the agent who leads, and begins or ends taking samples.
    async fn follow_leader(&mut self) -> Result<(), Status> {
        let Leading {
            leadership,
            members,
        } = self.leading.borrow_and_update().clone();
        let parts = self.opening.parts.clone();
        let hint = LeaderHint {
            is_leader: leadership.is_self,
            leader_address: leadership
                .leader
                .as_ref()
                .map(|leader| (parts.addresses.of)(&leader.name))
                .unwrap_or_default(),
            term: leadership.term,
            replicas: parts.addresses.all(&members),
            address: parts.addresses.own.clone(),
        };
        if leadership.leader.is_some() {
            self.deposed = None;
        } else if self.active.is_some() {
            self.deposed = Some(parts.clock.boottime());
        }
        if !leadership.is_self {
            self.active = None;
        }
        if self.last_hint.as_ref() != Some(&hint) {
            self.last_hint = Some(hint.clone());
            self.opening.send(Down::Leader(hint)).await?;
        }
        if !leadership.is_self {
            return Ok(());
        }
        match &mut self.active {
            Some(active) if active.term == leadership.term => return Ok(()),
            Some(active) => {
                active.term = leadership.term;
                active.directed = None;
            }
            None => {
                let now = parts.clock.boottime();
                let mut writer = parts
                    .store
                    .connect(
                        self.agent.node.clone(),
                        self.agent.boot.clone(),
                        self.agent.start_ns,
                        now,
                    )
                    .map_err(|error| refusal(&error))?;
                writer
                    .batch()
                    .map_err(|error| refusal(&error))?
                    .spool_roots(self.agent.spool_roots.clone());
                self.active = Some(Active {
                    writer,
                    bindings: Bindings::new(self.agent.node.clone()),
                    term: leadership.term,
                    directed: None,
                    lacks_addresses: false,
                    heard: now,
                    acked: None,
                });
            }
        }
        self.direct().await
    }

    /// Sends directives if they differ from those sent last.
    async fn direct(&mut self) -> Result<(), Status> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let parts = &self.opening.parts;
        let wanted: Arc<WantedSignals> = parts.wanted.borrow().clone();
        let of_pods = wanted
            .by_node
            .get(&self.agent.node)
            .map(|list| list.as_ref())
            .unwrap_or_default();
        let made = directives(of_pods, &parts.world);
        active.lacks_addresses = made.lacks_addresses;
        let (asked, beyond) = allowed(&wanted.spools, &self.agent.spool_roots);
        if !beyond.is_empty() {
            let mut batch = active.writer.batch().map_err(|error| refusal(&error))?;
            for spool in beyond {
                batch.spool_problem(spool, Some(too_many()));
            }
        }
        let directed = (made.pods, asked);
        if active.directed.as_ref() == Some(&directed) {
            return Ok(());
        }
        active.directed = Some(directed.clone());
        self.generation += 1;
        let directives = message(directed.0, directed.1, self.generation);
        self.opening.send(Down::Directives(directives)).await
    }

    /// What is due now and then.
    async fn look(&mut self) -> Result<(), Status> {
        let parts = self.opening.parts.clone();
        let now = parts.clock.boottime();
        if self
            .deposed
            .is_some_and(|since| now.since(since) >= WITHOUT_LEASE)
        {
            return Err(Status::unavailable(
                "this coordinator led, its lease has ended, and it knows no other leader",
            ));
        }
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if now.since(active.heard) >= parts.limits.silent_for {
            return Err(Status::deadline_exceeded(format!(
                "nothing was heard for {} s",
                parts.limits.silent_for.as_secs()
            )));
        }
        active.found(&parts, now)?;
        if active.lacks_addresses {
            self.direct().await
        } else {
            Ok(())
        }
    }

    async fn take(&mut self, message: Up) -> Result<(), Status> {
        let parts = self.opening.parts.clone();
        let now = parts.clock.boottime();
        // Samples that were on their way when leadership ended are of no use here.
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        active.heard = now;
        IngestFigures::add(&parts.figures.messages, 1);
        match message {
            Up::Hello(_) => Err(Status::invalid_argument("hello is said once")),
            Up::Replay(replay) => active.replay(&parts, &replay, now),
            Up::Samples(samples) => {
                let sequence = samples.sequence;
                active.samples(&parts, samples, now)?;
                if active
                    .acked
                    .is_some_and(|acked| now.since(acked) < ACK_EACH)
                {
                    return Ok(());
                }
                active.acked = Some(now);
                self.opening.send(Down::Ack(Ack { sequence })).await
            }
        }
    }
}
