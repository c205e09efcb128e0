//! One agent's stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use neap_consensus::Leadership;
use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::{
    Ack, AgentMessage, CoordinatorMessage, Hello, LeaderHint, PROTOCOL_VERSION, PodDirective,
    Replay, ReplaySeries, Samples, SeriesDefinition, Spool,
};
use neap_units::{BootId, NodeName};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::binding::{Bindings, Bound, LastPoint, Skip, Waiting};
use super::directives::{directives, message};
use super::figures::IngestFigures;
use super::limits::StreamSlot;
use super::series::series_key;
use super::serve::IngestParts;
use super::spools::{allowed, problem, roots, spool, too_many};
use crate::clock::Boottime;
use crate::identity::{Caller, ReviewOutcome};
use crate::signals::{
    Batch, NodeTime, ReplayPoint, SeriesKey, SignalError, StreamWriter, WantedSignals,
};

/// Unknown pods, missing addresses and silence are looked at this often.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// Every so many looks the list of replicas is looked at.
const HINT_EACH_LOOKS: u32 = 10;
/// Samples are acknowledged at most this often.
const ACK_EACH: Duration = Duration::from_secs(1);
/// A review that could not be made is tried again after this.
const REVIEW_AGAIN: Duration = Duration::from_secs(60);
/// An agent reads its token file anew when its stream ends; the file is renewed long before this.
const AFTER_EXPIRY: Duration = Duration::from_secs(5);

/// A stream whose token was verified and which has not said hello yet.
pub(super) struct Opening {
    pub(super) parts: Arc<IngestParts>,
    pub(super) caller: Caller,
    pub(super) token: Arc<str>,
    pub(super) outbox: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

impl Opening {
    /// Runs the stream to its end.
    pub(super) async fn run(self, mut inbound: Streaming<AgentMessage>) {
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
        Ok(Session {
            review: review(&self, Duration::ZERO),
            leadership: self.parts.leadership.clone(),
            opening: self,
            node,
            boot,
            agent_start_ns: hello.agent_start_boottime_ns,
            spool_roots: roots(hello.capabilities.unwrap_or_default()),
            _slot: slot,
            active: None,
            last_hint: None,
            generation: 0,
            looks: 0,
        })
    }

    async fn send(&self, message: Down) -> Result<(), Status> {
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
fn review(opening: &Opening, wait: Duration) -> BoxFuture<'static, ReviewOutcome> {
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

/// A stream that said hello.
struct Session {
    opening: Opening,
    leadership: watch::Receiver<Leadership>,
    node: NodeName,
    boot: BootId,
    agent_start_ns: u64,
    spool_roots: Arc<[Arc<str>]>,
    review: BoxFuture<'static, ReviewOutcome>,
    active: Option<Active>,
    last_hint: Option<LeaderHint>,
    /// Generation of the last directives of this stream.
    generation: u64,
    looks: u32,
    _slot: StreamSlot,
}

/// What a stream to the leader has besides.
struct Active {
    writer: StreamWriter,
    bindings: Bindings,
    term: u64,
    directed: Option<(Vec<PodDirective>, Vec<Spool>)>,
    lacks_addresses: bool,
    heard: Boottime,
    acked: Option<Boottime>,
}

impl Session {
    /// Runs until the agent goes (`Ok`) or the stream must end (`Err`).
    async fn run(&mut self, inbound: &mut Streaming<AgentMessage>) -> Result<(), Status> {
        let parts = self.opening.parts.clone();
        let mut wanted = parts.wanted.clone();
        wanted.mark_unchanged();
        self.leadership.mark_unchanged();
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
                changed = self.leadership.changed() => {
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
                tracing::debug!(node = %self.node, reason, "an agent's token could not be reviewed");
                REVIEW_AGAIN
            }
            ReviewOutcome::Invalid(reason) => {
                IngestFigures::add(&self.opening.parts.figures.review_failed, 1);
                tracing::warn!(node = %self.node, pod = self.opening.caller.pod, reason, "the API server refuses an agent's token: its stream is ended");
                return Err(Status::unauthenticated(format!("token: {reason}")));
            }
        };
        self.review = review(&self.opening, wait);
        Ok(())
    }

    /// Tells the agent who leads, and begins or ends taking samples.
    async fn follow_leader(&mut self) -> Result<(), Status> {
        let leadership = self.leadership.borrow_and_update().clone();
        let parts = self.opening.parts.clone();
        let hint = LeaderHint {
            is_leader: leadership.is_self,
            leader_address: leadership
                .leader
                .as_ref()
                .map(|leader| parts.addresses.of(&leader.name))
                .unwrap_or_default(),
            term: leadership.term,
            replicas: parts.addresses.all(),
            address: parts.addresses.own(),
        };
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
                        self.node.clone(),
                        self.boot.clone(),
                        self.agent_start_ns,
                        now,
                    )
                    .map_err(|error| refusal(&error))?;
                writer
                    .batch()
                    .map_err(|error| refusal(&error))?
                    .spool_roots(self.spool_roots.clone());
                self.active = Some(Active {
                    writer,
                    bindings: Bindings::new(self.node.clone()),
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
            .get(&self.node)
            .map(|list| list.as_ref())
            .unwrap_or_default();
        let made = directives(of_pods, &parts.world);
        active.lacks_addresses = made.lacks_addresses;
        let (asked, beyond) = allowed(&wanted.spools, &self.spool_roots);
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
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(HINT_EACH_LOOKS) {
            // A member that came or went changes no leadership.
            self.follow_leader().await?;
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

fn refusal(error: &SignalError) -> Status {
    match error {
        SignalError::TooManyNodes { .. } | SignalError::TooManySeries { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        SignalError::Superseded => Status::aborted(error.to_string()),
    }
}

/// What becomes of a definition.
enum Fate {
    Keep(SeriesKey),
    Wait(neap_units::PodUid),
    Leave(Skip),
}

impl Active {
    /// Decides what becomes of each definition. Asks the world, so not while a batch is open.
    fn fates(&self, parts: &IngestParts, defined: &[SeriesDefinition]) -> Vec<Fate> {
        let mut known: HashMap<&str, Bound> = HashMap::new();
        defined
            .iter()
            .map(|definition| {
                let key = match series_key(definition, self.bindings.node()) {
                    Ok(key) => key,
                    Err(error) => {
                        IngestFigures::add(&parts.figures.unknown_series, 1);
                        tracing::debug!(node = %self.bindings.node(), %error, "a series is left out");
                        return Fate::Leave(Skip::Unused);
                    }
                };
                let Some(pod) = key.subject.pod() else { return Fate::Keep(key) };
                let bound = *known
                    .entry(&definition.pod_uid)
                    .or_insert_with(|| self.bindings.check(&parts.world, pod));
                match bound {
                    Bound::Here => Fate::Keep(key),
                    Bound::Elsewhere => Fate::Leave(Skip::Foreign),
                    Bound::Unknown => Fate::Wait(pod.clone()),
                }
            })
            .collect()
    }

    fn samples(
        &mut self,
        parts: &IngestParts,
        samples: Samples,
        now: Boottime,
    ) -> Result<(), Status> {
        let fates = self.fates(parts, &samples.defined);
        self.found(parts, now)?;
        let closed = NodeTime::from_nanos(samples.boottime_ns);
        let mut foreign = 0;
        let Self {
            writer, bindings, ..
        } = self;
        let mut batch = writer.batch().map_err(|error| refusal(&error))?;
        for id in samples.gone {
            bindings.forget(id);
            batch.gone(id);
        }
        define(&mut batch, bindings, samples.defined, fates, now)?;
        for point in &samples.counters {
            match bindings.skips(point.series) {
                Some(Skip::Foreign) => foreign += 1,
                Some(Skip::Unused) => {}
                None => {
                    let at = closed.before(u64::from(point.age_us));
                    if !bindings.holds_counter(at, point) {
                        batch.counter(point.series, at, point.value, point.unchanged_us);
                    }
                }
            }
        }
        for point in &samples.gauges {
            match bindings.skips(point.series) {
                Some(Skip::Foreign) => foreign += 1,
                Some(Skip::Unused) => {}
                None => {
                    let at = closed.before(u64::from(point.age_us));
                    if !bindings.holds_gauge(at, point) {
                        batch.gauge(point.series, at, point.integral, point.last, point.peak);
                    }
                }
            }
        }
        for told in samples.spool_problems {
            if let Some(spool) = spool(&told.path, told.max_age_ms) {
                batch.spool_problem(spool, problem(&told.problem));
            }
        }
        batch.heartbeat(closed, now);
        drop(batch);
        IngestFigures::add(&parts.figures.foreign_samples, foreign);
        self.check_size(parts)
    }

    fn replay(
        &mut self,
        parts: &IngestParts,
        replay: &Replay,
        now: Boottime,
    ) -> Result<(), Status> {
        let fates = self.fates(parts, &replay.defined);
        let end = NodeTime::from_nanos(replay.boottime_ns);
        let mut foreign = 0;
        let Self {
            writer, bindings, ..
        } = self;
        let mut batch = writer.batch().map_err(|error| refusal(&error))?;
        define(&mut batch, bindings, replay.defined.clone(), fates, now)?;
        for series in &replay.series {
            match bindings.skips(series.series) {
                Some(Skip::Foreign) => foreign += series.values.len(),
                Some(Skip::Unused) => {}
                None => {
                    let Some((points, last)) = history(series, end) else {
                        return Err(Status::invalid_argument(
                            "replay: the columns of a series differ in length",
                        ));
                    };
                    if !bindings.holds_history(series, end) {
                        batch.replay(series.series, &points, last);
                    }
                }
            }
        }
        drop(batch);
        IngestFigures::add(&parts.figures.foreign_samples, foreign);
        self.check_size(parts)
    }

    /// Takes in what waited for pods that have turned up.
    fn found(&mut self, parts: &IngestParts, now: Boottime) -> Result<(), Status> {
        let found = self.bindings.look(&parts.world, now);
        if found.is_empty() {
            return Ok(());
        }
        let mut batch = self.writer.batch().map_err(|error| refusal(&error))?;
        for Waiting { definition, last } in found {
            let Ok(key) = series_key(&definition, self.bindings.node()) else {
                continue;
            };
            let interval = Duration::from_millis(u64::from(definition.interval_ms));
            batch
                .define(definition.id, key, interval, definition.since_agent_start)
                .map_err(|error| refusal(&error))?;
            match last {
                LastPoint::None => {}
                LastPoint::Counter(at, point) => batch.counter(definition.id, at, point.value, 0),
                LastPoint::Gauge(at, point) => {
                    batch.gauge(definition.id, at, point.integral, point.last, point.peak);
                }
            }
        }
        Ok(())
    }

    fn check_size(&self, parts: &IngestParts) -> Result<(), Status> {
        let limit = parts.limits.series_per_stream;
        if self.bindings.len() > limit {
            return Err(Status::resource_exhausted(format!(
                "the stream has more than {limit} series"
            )));
        }
        Ok(())
    }
}

fn define(
    batch: &mut Batch<'_>,
    bindings: &mut Bindings,
    defined: Vec<SeriesDefinition>,
    fates: Vec<Fate>,
    now: Boottime,
) -> Result<(), Status> {
    for (definition, fate) in defined.into_iter().zip(fates) {
        match fate {
            Fate::Keep(key) => {
                bindings.forget(definition.id);
                let interval = Duration::from_millis(u64::from(definition.interval_ms));
                batch
                    .define(definition.id, key, interval, definition.since_agent_start)
                    .map_err(|error| refusal(&error))?;
            }
            Fate::Wait(pod) => {
                batch.gone(definition.id);
                bindings.set_waiting(pod, definition, now);
            }
            Fate::Leave(why) => {
                batch.gone(definition.id);
                bindings.skip(definition.id, why);
            }
        }
    }
    Ok(())
}

/// The points of a replayed series and its last value; `None` when its columns do not fit together.
fn history(series: &ReplaySeries, end: NodeTime) -> Option<(Vec<ReplayPoint>, u64)> {
    let count = series.ages_us.len();
    let is_gauge = !series.integrals.is_empty();
    if series.values.len() != count || (is_gauge && series.integrals.len() != count) {
        return None;
    }
    let points = series.ages_us.iter().enumerate().filter_map(|(at, age)| {
        // Counters below 2^53 are exact in a double; those above are centuries of microseconds.
        let total = if is_gauge {
            *series.integrals.get(at)?
        } else {
            *series.values.get(at)? as f64
        };
        Some(ReplayPoint {
            at: end.before(*age),
            total,
        })
    });
    Some((points.collect(), series.values.last().copied().unwrap_or(0)))
}
