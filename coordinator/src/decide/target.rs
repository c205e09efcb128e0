//! One target as the decider holds it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::ResourceExt;
use neap_api::ScaledObject;
use neap_engine::DecisionState;
use neap_units::{NodeName, PodUid, Timestamp};

use super::compile::{Compiled, Invalid};
use super::gather::Polled;
use super::node_local;
use super::pods::PodView;
use super::replicated::TargetRecord;
use super::time::{DecisionClock, boottime_of_wall};
use super::writes::{Contest, WritePace};
use crate::clock::{Boottime, Clock};
use crate::keys::{TargetKey, TargetRef};
use crate::signals::{SignalSet, WantedSignal};
use crate::world::{Owner, PodShape, ScaledObjectEntry, Selector, TargetFacts, is_older_version};

/// What is known of the spec.
#[derive(Debug, Clone)]
pub(super) enum SpecState {
    /// It has not been compiled yet.
    Pending,
    /// It can be acted on.
    Ready(Arc<Compiled>),
    /// It cannot: nothing is scaled until it is mended.
    Invalid(Invalid),
}

/// The scale as last seen or written, whichever is newer.
#[derive(Debug, Clone)]
pub(super) struct ScaleView {
    pub(super) replicas: i32,
    pub(super) status_replicas: i32,
    pub(super) resource_version: Arc<str>,
}

/// A write of unknown fate.
#[derive(Debug, Clone)]
pub(super) struct Unanswered {
    /// What it asked for.
    pub(super) replicas: i32,
    /// The state that counts its change.
    pub(super) state: DecisionState,
}

/// One ScaledObject and all that deciding keeps about it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) key: TargetKey,
    pub(super) object: Arc<ScaledObject>,
    pub(super) reference: TargetRef,
    /// Why the newest version of the object cannot be read.
    pub(super) unreadable: Option<Arc<str>>,
    pub(super) spec: SpecState,
    /// Counts the compilations asked for: a result of an earlier one is dropped.
    pub(super) run: u64,
    pub(super) facts: Option<Arc<TargetFacts>>,
    /// Why the target cannot be scaled.
    pub(super) problem: Option<String>,
    pub(super) scale: Option<ScaleView>,
    pub(super) owner: Owner,
    pub(super) pods: Vec<PodView>,
    pub(super) pods_seen: bool,
    /// What the spec was compiled against.
    pub(super) shape: Option<Arc<PodShape>>,
    pub(super) polled: Vec<Option<Polled>>,
    pub(super) workloads: Vec<Option<Selector>>,
    /// Pods whose signals are watched for this target, and which.
    watched: HashMap<PodUid, SignalSet>,
    pub(super) state: DecisionState,
    /// What the log holds.
    pub(super) committed: Option<TargetRecord>,
    pub(super) evaluated: Option<Boottime>,
    pub(super) pace: WritePace,
    pub(super) contest: Contest,
    /// A write of which it is not known whether it was done, and after which none was: it may still arrive.
    pub(super) unanswered: Option<Unanswered>,
    /// Removal of what stands in the way is on its way, or waits until then.
    pub(super) clearing: Option<Boottime>,
    /// Why the HPA that KEDA left behind could not be removed.
    pub(super) leftover: Option<String>,
}

impl Target {
    pub(super) fn new(key: TargetKey, entry: ScaledObjectEntry) -> Self {
        Self {
            key,
            object: entry.object,
            reference: entry.target,
            unreadable: entry.unreadable,
            spec: SpecState::Pending,
            run: 0,
            facts: None,
            problem: None,
            scale: None,
            owner: Owner::Neap,
            pods: Vec::new(),
            pods_seen: false,
            shape: None,
            polled: Vec::new(),
            workloads: Vec::new(),
            watched: HashMap::new(),
            state: DecisionState::default(),
            committed: None,
            evaluated: None,
            pace: WritePace::default(),
            contest: Contest::default(),
            unanswered: None,
            clearing: None,
            leftover: None,
        }
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn has_finalizer(&self) -> bool {
        self.object
            .finalizers()
            .iter()
            .any(|name| name == neap_api::keys::FINALIZER)
    }

    pub(super) fn compiled(&self) -> Option<&Arc<Compiled>> {
        match &self.spec {
            SpecState::Ready(compiled) => Some(compiled),
            SpecState::Pending | SpecState::Invalid(_) => None,
        }
    }

    /// Takes in what the world knows of the scale. Returns whether someone else changed the
    /// replicas.
    pub(super) fn see(&mut self, facts: Arc<TargetFacts>) -> bool {
        let seen = ScaleView {
            replicas: facts.replicas,
            status_replicas: facts.status_replicas,
            resource_version: facts.resource_version.clone(),
        };
        self.facts = Some(facts);
        match &mut self.scale {
            // The answer to a write may overtake the watch.
            Some(known) if is_older_version(&seen.resource_version, &known.resource_version) => {
                known.status_replicas = seen.status_replicas;
                false
            }
            Some(known) => {
                let changed = known.replicas != seen.replicas;
                *known = seen;
                changed
            }
            None => {
                self.scale = Some(seen);
                false
            }
        }
    }

    /// As restored, the state may count a change to `replicas` that its leader committed and did not live
    /// to write. Where the scale does not show it, it is counted once it does.
    pub(super) fn set_apart_undone(&mut self, replicas: i32) {
        let Some(scale) = &self.scale else {
            return;
        };
        if let Some(before) = self.state.without_change(replicas, scale.replicas) {
            let state = std::mem::replace(&mut self.state, before);
            self.unanswered = Some(Unanswered { replicas, state });
        }
    }

    /// Where the scale shows what an unanswered write asked for, that write was done, late or not: its
    /// change counts, once it is known what became of the next write. Returns whether it was done.
    pub(super) fn count_unanswered(&mut self) -> bool {
        let seen = self.scale.as_ref().map(|scale| scale.replicas);
        let shown = self.unanswered.as_ref();
        let Some(write) = shown.filter(|write| Some(write.replicas) == seen) else {
            return false;
        };
        self.contest.wrote(write.replicas);
        if !self.pace.in_flight() {
            self.state.take_change(&write.state);
            self.unanswered = None;
        }
        true
    }

    /// When the object was made; now where it does not say.
    pub(super) fn created_at(&self, time: &DecisionClock, clock: &dyn Clock) -> Timestamp {
        let created = self.object.metadata.creation_timestamp.as_ref();
        time.at(created.map_or_else(
            || clock.boottime(),
            |created| boottime_of_wall(created.0, clock),
        ))
    }

    /// Says by `time` when the object was made and its pods started. What a replica saw before it
    /// leads, it may have seen before the log told it the time.
    pub(super) fn place(&mut self, time: &DecisionClock, clock: &dyn Clock) {
        for pod in &mut self.pods {
            pod.place(time);
        }
        let created_at = self.created_at(time, clock);
        if let SpecState::Ready(compiled) = &mut self.spec
            && compiled.spec.created_at != created_at
        {
            Arc::make_mut(compiled).spec.created_at = created_at;
        }
    }

    /// Who keeps resetting the replicas, in words.
    pub(super) fn rival(&self) -> String {
        let named = self
            .facts
            .as_ref()
            .and_then(|facts| facts.last_writer.as_deref());
        named
            .unwrap_or("a client that the object does not name")
            .to_owned()
    }

    /// Takes in the object as last read: a status that someone else wrote is not told as a change.
    pub(super) fn show(&mut self, object: Arc<ScaledObject>) {
        if self.object.uid() == object.uid() {
            self.object = object;
        }
    }

    /// Takes in a newer version of the target, where nothing else of its scale is new: the world does
    /// not tell of those, and a write has to carry the latest.
    pub(super) fn freshen(&mut self, facts: &TargetFacts) {
        let same = self
            .facts
            .as_ref()
            .is_some_and(|known| known.uid == facts.uid);
        if let Some(scale) = self.scale.as_mut().filter(|_| same)
            && scale.replicas == facts.replicas
            && !is_older_version(&facts.resource_version, &scale.resource_version)
        {
            scale.resource_version = facts.resource_version.clone();
        }
    }

    /// The pods whose signals this target lives on, under the UIDs of their cgroups, and on which.
    /// Gives what changed since the last call: the empty set ends a watch.
    pub(super) fn watches(&mut self) -> Vec<(PodUid, SignalSet)> {
        let signals = self.compiled().map_or(SignalSet::EMPTY, |compiled| {
            compiled
                .triggers
                .iter()
                .fold(SignalSet::EMPTY, |all, trigger| {
                    all | node_local::signals(&trigger.source)
                })
        });
        let now: HashMap<PodUid, SignalSet> = if signals == SignalSet::EMPTY {
            HashMap::new()
        } else {
            self.pods
                .iter()
                .filter(|pod| pod.facts.is_current())
                .map(|pod| (pod.facts.cgroup_uid.clone(), signals))
                .collect()
        };
        let mut changes: Vec<(PodUid, SignalSet)> = self
            .watched
            .keys()
            .filter(|pod| !now.contains_key(*pod))
            .map(|pod| (pod.clone(), SignalSet::EMPTY))
            .collect();
        changes.extend(
            now.iter()
                .filter(|(pod, signals)| self.watched.get(*pod) != Some(signals))
                .map(|(pod, signals)| (pod.clone(), *signals)),
        );
        self.watched = now;
        changes
    }

    /// What the agents have to read for this target, by node.
    pub(super) fn wanted(&self) -> BTreeMap<NodeName, Vec<WantedSignal>> {
        let mut wanted: BTreeMap<NodeName, Vec<WantedSignal>> = BTreeMap::new();
        let Some(compiled) = self.compiled() else {
            return wanted;
        };
        let what: Vec<_> = compiled
            .triggers
            .iter()
            .flat_map(|trigger| node_local::wanted(&trigger.source))
            .collect();
        if what.is_empty() {
            return wanted;
        }
        for pod in self.pods.iter().filter(|pod| pod.facts.is_current()) {
            let Some(node) = &pod.facts.node else {
                continue;
            };
            let signals = what.iter().map(|(what, every)| WantedSignal {
                pod: pod.facts.cgroup_uid.clone(),
                what: what.clone(),
                every: *every,
            });
            wanted.entry(node.clone()).or_default().extend(signals);
        }
        wanted
    }

    /// The record that the log should hold. A change that may yet turn out to be made stays in it: this
    /// replica may not live to see it.
    pub(super) fn record(&self) -> Option<TargetRecord> {
        let scale = self.scale.as_ref()?;
        let Some(write) = &self.unanswered else {
            return Some(TargetRecord {
                replicas: scale.replicas,
                state: self.state.encode(),
            });
        };
        let mut state = self.state.clone();
        state.take_change(&write.state);
        Some(TargetRecord {
            replicas: write.replicas,
            state: state.encode(),
        })
    }
}
