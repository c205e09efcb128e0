//! One tick: evaluate what is due, commit once for all, act.

use std::sync::Arc;

use neap_consensus::ProposeError;
use neap_engine::{Evaluation, Observation, SelectorProblem, evaluate};
use neap_units::Timestamp;

use super::decider::{Decider, Done, Leading, WriteDone};
use super::gather::{GatherContext, Gathered, gather};
use super::replicated::{Command, FORMAT, TargetRecord};
use super::target::{SpecState, Target};
use crate::clock::Boottime;
use crate::keys::TargetKey;
use crate::publish::{Report, Verdict};
use crate::scaler::ScaleError;
use crate::world::{Owner, TargetState};

/// A write that was decided on.
pub(super) struct Act {
    key: TargetKey,
    evaluation: Arc<Evaluation>,
    from: i32,
    to: i32,
}

/// One log entry holds at most about so many bytes of records.
const ENTRY_BYTES: usize = 1 << 20;
/// What could not be committed or sent is looked at again after this time.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(100);
/// A leader without a lease looks for one this often.
const LEASE_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);
/// While a target is active, a state that differs from the log in its last activity alone is worth an
/// entry after this time. With the time until the next entry no more than 5 s are at risk.
const ACTIVITY_STEP: std::time::Duration = std::time::Duration::from_secs(4);

impl Decider {
    pub(super) async fn tick(&mut self) {
        let Some(leading) = self.leading else { return };
        let now = self.parts.clock.boottime();
        // Another may lead by now: nothing is decided, and nothing shown of it.
        if !self.holds_lease(&leading) {
            self.lease_from = now + LEASE_AGAIN;
            return;
        }
        let mut acts = Vec::new();
        for key in self.due.take(now) {
            acts.extend(self.look_at(&key, &leading, now));
        }
        let unsaved = !(self.unsaved.is_empty() && self.removed.is_empty());
        let entry_due = now >= self.last_entry + self.parts.settings.time_entry;
        if acts.is_empty() && !(unsaved && now >= self.next_flush) && !entry_due {
            return;
        }
        if !self.holds_lease(&leading) {
            return self.put_off(&acts, now);
        }
        // From zero: the commit and the write go out together; a request waits for this pod.
        let (first, rest): (Vec<Act>, Vec<Act>) = acts.into_iter().partition(|act| act.from == 0);
        for act in &first {
            self.send(act, &leading);
        }
        let committed = self.commit(&leading, now, &first, &rest).await;
        for act in &first {
            self.adopt(act);
        }
        if let Err(error) = committed {
            return self.not_committed(&error, &rest);
        }
        for act in &rest {
            self.adopt(act);
        }
        if rest.is_empty() {
            return;
        }
        // Time has passed since: a lease is checked before each batch of requests.
        let holds = self.holds_lease(&leading);
        for act in &rest {
            if holds {
                self.send(act, &leading);
            } else {
                self.withdraw(act, "the lease ended before the write was sent");
            }
        }
    }

    fn holds_lease(&self, leading: &Leading) -> bool {
        let lease = self.parts.consensus.lease();
        lease.is_some_and(|lease| lease.leader() == leading.id)
    }

    fn put_off(&mut self, acts: &[Act], now: Boottime) {
        for act in acts {
            self.due.no_later_than(&act.key, now + AGAIN);
        }
        self.next_flush = self.next_flush.max(now + AGAIN);
        self.last_entry = self
            .last_entry
            .max((now + AGAIN) - self.parts.settings.time_entry);
    }

    /// Evaluates one target. Gives the write that follows, if one does.
    pub(super) fn look_at(
        &mut self,
        key: &TargetKey,
        leading: &Leading,
        now: Boottime,
    ) -> Option<Act> {
        if self.clear_the_way(key, now) {
            return None;
        }
        let target = self.targets.get_mut(key)?;
        if target.pace.in_flight() {
            // Its end brings the target back.
            return None;
        }
        target.evaluated = Some(now);
        if let Some(entry) = self.parts.world.scaled_object(key) {
            target.show(entry.object);
        }
        if let TargetState::Found(facts) = self.parts.world.target(&target.reference) {
            target.freshen(&facts);
        }
        let compiled = match &target.spec {
            SpecState::Ready(compiled) => compiled.clone(),
            SpecState::Pending => return None,
            SpecState::Invalid(invalid) => {
                let fault = invalid.to_string();
                self.parts.explain.fault(key, &fault);
                let verdict = Verdict::Invalid(fault);
                self.parts
                    .desk
                    .report(report(target, verdict, leading, now));
                return None;
            }
        };
        let (Some(facts), Some(scale), None) = (&target.facts, &target.scale, &target.problem)
        else {
            if let Some(problem) = &target.problem {
                self.parts.explain.fault(key, problem);
                let verdict = Verdict::Invalid(problem.clone());
                self.parts
                    .desk
                    .report(report(target, verdict, leading, now));
            }
            return None;
        };
        let context = GatherContext {
            store: &self.parts.store,
            world: &self.parts.world,
            clock: self.parts.clock.as_ref(),
            time: &leading.time,
            now,
        };
        let gathered = gather(
            &compiled,
            &target.pods,
            scale.replicas,
            &target.polled,
            &target.workloads,
            &key.namespace,
            &context,
        );
        let pods: Vec<&neap_engine::Pod> = target.pods.iter().map(|view| &view.pod).collect();
        let readings = gathered.readings();
        let fault;
        let selector_problem = match &facts.selector {
            Ok(Some(_)) => None,
            Ok(None) => Some(SelectorProblem::Missing),
            Err(error) => {
                fault = error.to_string();
                Some(SelectorProblem::Invalid(&fault))
            }
        };
        let seen = Observation {
            spec_replicas: scale.replicas,
            status_replicas: scale.status_replicas,
            ready_replicas: None,
            pods: &pods,
            selector_problem,
            readings: &readings,
        };
        let started = self.parts.clock.boottime();
        let evaluation = evaluate(&compiled.spec, &target.state, &seen, leading.time.at(now));
        self.parts
            .metrics
            .evaluated(self.parts.clock.boottime().since(started));
        let (from, status_from) = (scale.replicas, scale.status_replicas);
        self.schedule(key, &gathered, evaluation.deadline, leading, now);
        self.settle(
            key,
            evaluation,
            gathered.without_agent,
            (from, status_from),
            leading,
            now,
        )
    }

    /// When the target is due again if nothing happens.
    fn schedule(
        &mut self,
        key: &TargetKey,
        gathered: &Gathered,
        deadline: Option<Timestamp>,
        leading: &Leading,
        now: Boottime,
    ) {
        if let Some(after) = gathered.again {
            self.due.no_later_than(key, now + after);
        }
        if let Some(at) = deadline {
            // A deadline that has passed already would be met again and again.
            self.due
                .no_later_than(key, leading.time.boottime_of(at, now).max(now + AGAIN));
        }
        if let Some(edge) = gathered.next_edge {
            let left = edge.duration_since(self.parts.clock.wall());
            let left = std::time::Duration::try_from(left).unwrap_or(AGAIN);
            // The wall may be set in between: look at it at least each minute.
            self.due.no_later_than(
                key,
                now + left.clamp(AGAIN, std::time::Duration::from_secs(60)),
            );
        }
    }

    /// Decides what becomes of an evaluation: it is written, adopted, or only shown.
    fn settle(
        &mut self,
        key: &TargetKey,
        evaluation: Evaluation,
        without_agent: usize,
        (from, _): (i32, i32),
        leading: &Leading,
        now: Boottime,
    ) -> Option<Act> {
        let target = self.targets.get_mut(key)?;
        let contested = target.contest.is_contested(now);
        let owned = target.owner.is_neap();
        let paced = target.pace.allowed_from(now, contested).into_iter();
        let open_from = self.turns.open_from();
        let wait = paced
            .chain((open_from > now).then_some(open_from))
            .max()
            .filter(|_| owned && evaluation.write.is_some());
        let evaluation = Arc::new(evaluation);
        let verdict = Verdict::Evaluated {
            evaluation: evaluation.clone(),
            conditions: evaluation.conditions.clone(),
            contested: contested.then(|| target.rival()),
            without_agent,
        };
        if !matches!(target.owner, Owner::Keda(_)) {
            self.parts
                .desk
                .report(report(target, verdict, leading, now));
        }
        if let Some(wait) = wait {
            // Decided anew when it may be written: nothing of this decision happens.
            self.due.no_later_than(key, wait);
            return None;
        }
        if let Some(compiled) = target.compiled() {
            let (owner, targets) = (&target.owner, &compiled.targets);
            self.parts.explain.record(key, &evaluation, owner, targets);
        }
        let to = evaluation.write.filter(|_| owned);
        match evaluation.write {
            Some(_) if owned => {}
            Some(_) => target.state = evaluation.refuse("the target is only observed").state,
            None => target.state = evaluation.state.clone(),
        }
        if to.is_none() && owned {
            self.note_unsaved(key, leading.time.at(now));
        }
        to.map(|to| Act {
            key: key.clone(),
            evaluation,
            from,
            to,
        })
    }

    /// Notes that the target's state is to be committed with the next flush.
    pub(super) fn note_unsaved(&mut self, key: &TargetKey, now: Timestamp) {
        let Some(target) = self.targets.get(key) else {
            return;
        };
        let Some(record) = target.record() else {
            return;
        };
        let Some(committed) = &target.committed else {
            self.unsaved.insert(key.clone());
            return;
        };
        if *committed == record {
            self.unsaved.remove(key);
            return;
        }
        // Once the target is active no more, nothing comes that would commit the end of it.
        if committed.replicas == record.replicas
            && let Ok(mut former) = neap_engine::DecisionState::decode(&committed.state)
            && let Some(active) = target.state.last_active()
            && active == now
            && former
                .last_active()
                .is_some_and(|last| now.since(last) < ACTIVITY_STEP)
        {
            former.mark_active(active);
            if former == target.state {
                return;
            }
        }
        self.unsaved.insert(key.clone());
    }

    /// Commits the records of `first`, of `rest` and of all unsaved targets, in as few entries as
    /// their size allows.
    pub(super) async fn commit(
        &mut self,
        leading: &Leading,
        now: Boottime,
        first: &[Act],
        rest: &[Act],
    ) -> Result<(), ProposeError> {
        let removed = std::mem::take(&mut self.removed);
        // First the removals: one of the same name may have come since.
        let mut changes: Vec<(TargetKey, Option<TargetRecord>)> =
            removed.keys().map(|key| (key.clone(), None)).collect();
        for act in first.iter().chain(rest) {
            let record = TargetRecord {
                replicas: act.to,
                state: act.evaluation.state.encode(),
            };
            changes.push((act.key.clone(), Some(record)));
            self.unsaved.remove(&act.key);
        }
        let unsaved = std::mem::take(&mut self.unsaved);
        for key in &unsaved {
            if let Some(record) = self.targets.get(key).and_then(Target::record) {
                changes.push((key.clone(), Some(record)));
            }
        }
        let mut left = changes.as_slice();
        let mut result = Ok(());
        loop {
            let part = entry_part(left);
            let command = Command {
                at: leading.time.at(now),
                wall_micros: self.parts.clock.wall().as_microsecond(),
                changes: left[..part].to_vec(),
            };
            let started = self.parts.clock.boottime();
            result = result.and(
                self.parts
                    .consensus
                    .propose(FORMAT, command.encode())
                    .await
                    .map(|_| ()),
            );
            self.parts
                .metrics
                .committed(self.parts.clock.boottime().since(started), result.is_ok());
            left = &left[part..];
            if left.is_empty() || result.is_err() {
                break;
            }
        }
        let after = self.parts.clock.boottime();
        self.next_flush = after + self.parts.settings.flush;
        match &result {
            Ok(()) => {
                self.last_entry = after;
                for (key, record) in changes {
                    if let Some(target) = self.targets.get_mut(&key) {
                        target.committed = record;
                    }
                }
            }
            // What is in doubt is written whole with the next entry, even where it comes to be as it was
            // committed before: records are never deltas.
            Err(_) => {
                for (key, _) in &changes {
                    if let Some(target) = self.targets.get_mut(key) {
                        target.committed = None;
                    }
                }
                let acts = first.iter().chain(rest);
                self.unsaved.extend(acts.map(|act| act.key.clone()));
                self.unsaved.extend(unsaved);
                self.removed.extend(removed);
            }
        }
        result
    }

    /// Tries again in a while. What else is due stays so: the leadership may go on although the log says
    /// that this member does not lead, for want of its lease at that moment.
    pub(super) fn not_committed(&mut self, error: &ProposeError, rest: &[Act]) {
        tracing::warn!(%error, "decisions could not be committed; nothing is scaled on them");
        self.put_off(rest, self.parts.clock.boottime());
    }

    /// The write is on its way, or about to be: its state is the target's.
    fn adopt(&mut self, act: &Act) {
        if let Some(target) = self.targets.get_mut(&act.key) {
            target.state = act.evaluation.state.clone();
        }
    }

    /// A committed write that was not sent.
    fn withdraw(&mut self, act: &Act, why: &str) {
        let now = self.parts.clock.boottime();
        if let Some(target) = self.targets.get_mut(&act.key) {
            target.state = act.evaluation.refuse(why).state;
            self.unsaved.insert(act.key.clone());
            self.due.no_later_than(&act.key, now + AGAIN);
        }
    }

    fn send(&mut self, act: &Act, leading: &Leading) {
        let Some(target) = self.targets.get_mut(&act.key) else {
            return;
        };
        let Some(scale) = &target.scale else { return };
        target.pace.sent();
        target.contest.sends(act.to);
        let version = scale.resource_version.clone();
        let reference = target.reference.clone();
        let key = act.key.clone();
        let uid = target.object.metadata.uid.clone().unwrap_or_default();
        let evaluation = act.evaluation.clone();
        let to = act.to;
        let leader = leading.id;
        let clock = self.parts.clock.clone();
        let turns = self.turns.clone();
        let scaler = self.parts.scaler.clone();
        let done = self.done.clone();
        tracing::info!(target = %key, from = act.from, to, "scaling");
        self.tasks.spawn(async move {
            let (started, result) = turns.write(&reference, to, &version, leader).await;
            let took = clock.boottime().since(started);
            let fresh = match &result {
                Err(ScaleError::Conflict | ScaleError::Timeout | ScaleError::Unreachable(_)) => {
                    scaler.read(&reference).await.ok()
                }
                _ => None,
            };
            let done_write = WriteDone {
                key,
                leader,
                uid,
                evaluation,
                result,
                fresh,
                sent: started,
                took,
            };
            // The decider outlives its tasks; at the very end nobody needs to know.
            let _ = done.send(Done::Written(Box::new(done_write))).await;
        });
    }
}

/// How many of `changes` go into one entry.
fn entry_part(changes: &[(TargetKey, Option<TargetRecord>)]) -> usize {
    let mut bytes = 0;
    for (at, (key, record)) in changes.iter().enumerate() {
        bytes += key.namespace.len() + key.name.len() + 16;
        bytes += record.as_ref().map_or(0, |record| record.state.len());
        if bytes > ENTRY_BYTES && at > 0 {
            return at;
        }
    }
    changes.len()
}

/// What the desk needs to show a verdict.
pub(super) fn report(
    target: &Target,
    verdict: Verdict,
    leading: &Leading,
    now: Boottime,
) -> Report {
    Report {
        key: target.key.clone(),
        object: target.object.clone(),
        compiled: target.compiled().cloned(),
        resource: target.facts.as_ref().map(|facts| facts.resource.clone()),
        owner: target.owner.clone(),
        leftover: target.leftover.clone(),
        verdict,
        decided: leading.time.at(now),
        replicas: target
            .scale
            .as_ref()
            .map(|scale| (scale.replicas, scale.status_replicas)),
    }
}
