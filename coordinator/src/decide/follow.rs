//! What the world says: objects, targets, pods and owners that come, change and go.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::compile::{CompileInput, Invalid, compile};
use super::decider::{Decider, Done};
use super::pods;
use super::references::References;
use super::spool;
use super::target::{SpecState, Target};
use crate::keys::TargetKey;
use crate::poll::{AuthError, PollOutcome, PollSpec};
use crate::signals::SignalSet;
use crate::world::{ChangeSet, Selector, TargetState};

use super::gather::Polled;

/// References that could not be read are read again after this time.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

impl Decider {
    pub(super) fn on_changes(&mut self, changes: Vec<(TargetKey, ChangeSet)>) {
        for (key, what) in changes {
            self.on_change(&key, what);
        }
    }

    fn on_change(&mut self, key: &TargetKey, what: ChangeSet) {
        let Some(entry) = self.parts.world.scaled_object(key) else {
            if what.contains(ChangeSet::GONE) || self.targets.contains_key(key) {
                self.forget(key);
            }
            self.report_unreadable(key);
            return;
        };
        let known = self.targets.contains_key(key);
        // Gone and made anew under the same name: nothing of the old one holds.
        let same = self
            .targets
            .get(key)
            .is_some_and(|target| target.object.uid() == entry.object.uid());
        if known && !same {
            self.forget(key);
        }
        if !known || !same {
            // The very object is back before its record went.
            let gone = self.removed.get(key);
            if gone.is_some_and(|uid| uid.is_none() || *uid == entry.object.uid()) {
                self.removed.remove(key);
            }
            self.targets
                .insert(key.clone(), Target::new(key.clone(), entry.clone()));
            if self.leading.is_some() {
                self.restore(key);
            }
            return self.look_around(key, true);
        }
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        let moved = target.reference != entry.target;
        target.object = entry.object;
        target.reference = entry.target;
        target.unreadable = entry.unreadable;
        if moved {
            target.scale = None;
            target.facts = None;
            target.pods.clear();
            target.pods_seen = false;
        }
        let recompile = moved
            || what.contains(ChangeSet::SPEC)
            || what.contains(ChangeSet::AUTH)
            || matches!(target.spec, SpecState::Pending);
        self.look_around(key, recompile);
    }

    /// Takes in the target, its pods and its owner, and compiles the spec where that changes it.
    fn look_around(&mut self, key: &TargetKey, mut recompile: bool) {
        let now = self.parts.clock.boottime();
        let time = self.time();
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        target.owner = self.parts.world.owner(key);
        match self.parts.world.target(&target.reference) {
            TargetState::Pending => {}
            TargetState::Found(facts) => {
                target.problem = None;
                let template_changed = target
                    .facts
                    .as_ref()
                    .is_none_or(|former| former.template != facts.template);
                recompile |= template_changed;
                let replicas = facts.replicas;
                let first = target.scale.is_none();
                // What a follower sees is another leader's doing.
                let leads = self.leading.is_some();
                if target.see(facts) && leads && !target.count_unanswered() {
                    target.contest.changed_outside(replicas, now);
                }
                self.name_rival(key, now);
                if first && self.leading.is_some() {
                    self.restore(key);
                }
            }
            TargetState::Unavailable(problem) => {
                target.problem = Some(problem.to_string());
                recompile |= target.facts.is_some();
                target.facts = None;
                target.scale = None;
            }
        }
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        let current = self.parts.world.pods_of(&target.reference);
        let first_look = !std::mem::replace(&mut target.pods_seen, true);
        let former = std::mem::take(&mut target.pods);
        target.pods = pods::views(
            &current,
            former,
            first_look,
            &time,
            self.parts.clock.as_ref(),
        );
        let shape = target
            .pods
            .iter()
            .find(|pod| pod.facts.is_current())
            .map(|pod| pod.facts.shape.clone());
        if shape.is_some() && shape != target.shape {
            target.shape = shape;
            recompile = true;
        }
        if recompile {
            self.compile(key);
        } else {
            self.follow_pods(key);
            self.touch(key);
        }
    }

    fn report_unreadable(&mut self, key: &TargetKey) {
        if let Some(fault) = self.parts.world.unreadable(key) {
            tracing::warn!(target = %key, fault = %fault, "the ScaledObject cannot be read; nothing is scaled");
        }
    }

    /// Drops a ScaledObject that is gone. Its record goes with the next entry.
    fn forget(&mut self, key: &TargetKey) {
        let Some(mut target) = self.targets.remove(key) else {
            return;
        };
        target.spec = SpecState::Pending;
        for (pod, signals) in target.watches() {
            self.parts.store.watch(&pod, key, signals);
        }
        self.due.remove(key);
        self.unsaved.remove(key);
        self.wanted.set(key, Default::default());
        self.wanted.set_spools(key, &[]);
        self.parts.store.watch_spools(key, &[]);
        self.parts.poller.remove(key);
        self.parts.desk.forget(key);
        self.parts.explain.forget(key);
        // Whether there is one or not: of one that was in doubt nothing is known here.
        if self.leading.is_some() {
            self.removed.insert(key.clone(), target.object.uid());
        }
        tracing::info!(target = %key, "the ScaledObject is gone");
    }

    /// Compiles the spec: at once where it refers to nothing, else once its references are read.
    fn compile(&mut self, key: &TargetKey) {
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        target.run += 1;
        if let Some(fault) = target.unreadable.clone() {
            return self.set_invalid(key, Invalid::one(fault));
        }
        let template = target
            .facts
            .as_ref()
            .and_then(|facts| facts.template.clone());
        if let Some(none) = References::none(&target.object, template.as_deref()) {
            return self.finish_compile(key, &none);
        }
        let (run, object) = (target.run, target.object.clone());
        let (auth, done, key) = (self.parts.auth.clone(), self.done.clone(), key.clone());
        self.tasks.spawn(async move {
            let result =
                References::read(&auth, &key.namespace, &object, template.as_deref()).await;
            let _ = done.send(Done::Resolved { key, run, result }).await;
        });
    }

    fn on_resolved(&mut self, key: &TargetKey, run: u64, result: Result<References, AuthError>) {
        if self.targets.get(key).is_none_or(|target| target.run != run) {
            return;
        }
        match result {
            Ok(references) => self.finish_compile(key, &references),
            Err(error) => {
                tracing::warn!(target = %key, %error, "what the triggers refer to cannot be read");
                let Some(target) = self.targets.get_mut(key) else {
                    return;
                };
                // What was read before stays in force while the server does not answer.
                if !error.may_pass() || target.compiled().is_none() {
                    self.set_invalid(key, Invalid::one(&error));
                }
                if error.may_pass() {
                    self.resolve_later(key);
                }
            }
        }
    }

    fn resolve_later(&mut self, key: &TargetKey) {
        let (clock, done, stop) = (
            self.parts.clock.clone(),
            self.done.clone(),
            self.stop.clone(),
        );
        let Some(run) = self.targets.get(key).map(|target| target.run) else {
            return;
        };
        let at = clock.boottime() + RESOLVE_AGAIN;
        let key = key.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = clock.sleep_until(at) => {
                    let _ = done.send(Done::ResolveAgain { key, run }).await;
                }
                () = stop.cancelled() => {}
            }
        });
    }

    fn finish_compile(&mut self, key: &TargetKey, references: &References) {
        let time = self.time();
        let clock = self.parts.clock.clone();
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        let pods: Vec<_> = target.pods.iter().map(|pod| pod.facts.clone()).collect();
        let input = CompileInput {
            object: &target.object,
            target: target.facts.as_deref(),
            pods: &pods,
            references,
            context: &self.triggers,
            created_at: target.created_at(&time, clock.as_ref()),
            settings: self.parts.settings.engine,
        };
        let compiled = match compile(&input) {
            Ok(compiled) => Arc::new(compiled),
            Err(invalid) => return self.set_invalid(key, invalid),
        };
        let former = target.compiled().cloned();
        let mut workloads = Vec::new();
        for trigger in &compiled.triggers {
            workloads.push(match &trigger.source {
                neap_triggers::Source::Workload(workload) => {
                    workload.selector.to_string().parse::<Selector>().ok()
                }
                _ => None,
            });
        }
        let selectors: Vec<Selector> = workloads.iter().flatten().cloned().collect();
        // A source that is asked the same as before keeps its last answer.
        let mut polled = Vec::new();
        for (at, trigger) in compiled.triggers.iter().enumerate() {
            let kept = former
                .as_ref()
                .and_then(|former| former.triggers.get(at))
                .filter(|former| match (&former.source, &trigger.source) {
                    (neap_triggers::Source::Polled(a), neap_triggers::Source::Polled(b)) => {
                        a.query_key() == b.query_key()
                    }
                    _ => false,
                });
            polled.push(kept.and_then(|_| target.polled.get(at).cloned().flatten()));
        }
        let specs: Vec<PollSpec> = compiled
            .triggers
            .iter()
            .enumerate()
            .filter_map(|(at, trigger)| {
                let neap_triggers::Source::Polled(source) = &trigger.source else {
                    return None;
                };
                Some(PollSpec {
                    trigger: at,
                    source: source.clone(),
                    interval: compiled.polling_interval,
                    definition: target.object.spec.triggers[at].clone(),
                    resolved: references.triggers[at].clone(),
                    template: target
                        .facts
                        .as_ref()
                        .and_then(|facts| facts.template.clone()),
                    container: target
                        .object
                        .spec
                        .scale_target_ref
                        .env_source_container_name()
                        .map(Into::into),
                })
            })
            .collect();
        for warning in &compiled.warnings {
            if former
                .as_ref()
                .is_none_or(|former| !former.warnings.contains(warning))
            {
                tracing::warn!(target = %key, "{warning}");
            }
        }
        target.polled = polled;
        target.workloads = workloads;
        target.spec = SpecState::Ready(compiled);
        self.parts.world.set_pod_selectors(key, &selectors);
        self.parts.poller.set(key, specs);
        self.follow_pods(key);
        self.touch(key);
    }

    fn set_invalid(&mut self, key: &TargetKey, invalid: Invalid) {
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        if !matches!(&target.spec, SpecState::Invalid(known) if *known == invalid) {
            tracing::warn!(target = %key, faults = %invalid, "the ScaledObject cannot be acted on; nothing is scaled");
        }
        target.spec = SpecState::Invalid(invalid);
        target.polled.clear();
        target.workloads.clear();
        self.parts.poller.remove(key);
        self.follow_pods(key);
        self.touch(key);
    }

    /// Watches the signals of the target's present pods, and asks their agents for them.
    fn follow_pods(&mut self, key: &TargetKey) {
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        for (pod, signals) in target.watches() {
            debug_assert!(signals == SignalSet::EMPTY || target.compiled().is_some());
            self.parts.store.watch(&pod, key, signals);
        }
        let wanted = target.wanted();
        let spools = target
            .compiled()
            .map_or_else(Vec::new, |compiled| spool::wanted(compiled));
        self.wanted.set(key, wanted);
        if self.wanted.set_spools(key, &spools) {
            self.parts.store.watch_spools(key, &spools);
        }
    }

    pub(super) fn on_poll(&mut self, outcome: PollOutcome) {
        let Some(leading) = self.leading else { return };
        let at = leading.time.at(self.parts.clock.boottime());
        match outcome {
            PollOutcome::Answered {
                key,
                trigger,
                asked,
                answer,
            } => {
                let Some(target) = self.targets.get_mut(&key) else {
                    return;
                };
                // An answer to a question that is not asked any more is dropped.
                let asked_still = target.compiled().and_then(|compiled| compiled.triggers.get(trigger)).is_some_and(|built| {
                    matches!(&built.source, neap_triggers::Source::Polled(source) if source.query_key() == asked)
                });
                if !asked_still {
                    return;
                }
                if answer.is_err()
                    && let Some(compiled) = target.compiled()
                {
                    let compat = &self.parts.metrics.compat;
                    compat.failed(&key);
                    for metric in &compiled.triggers[trigger].metrics {
                        compat.reading_failed(&key, &metric.name);
                    }
                }
                if let Some(slot) = target.polled.get_mut(trigger) {
                    let answer = answer.map_err(|error| error.to_string());
                    *slot = Some(Polled { answer, at });
                }
                self.touch(&key);
            }
            PollOutcome::ReferencesChanged { key } => self.compile(&key),
            PollOutcome::Stopped => self.forget_answers(),
        }
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Resolved { key, run, result } => self.on_resolved(&key, run, result),
            Done::ResolveAgain { key, run } => {
                if self
                    .targets
                    .get(&key)
                    .is_some_and(|target| target.run == run)
                {
                    self.compile(&key);
                }
            }
            Done::Written(written) => self.on_written(*written),
            Done::Cleared { key, what, result } => self.on_cleared(&key, what, result),
        }
    }
}
