//! Filling a [`World`]: for object sources.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, MutexGuard};

use kube::ResourceExt;
use neap_api::{
    AuthenticationKind, ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication,
};
use neap_units::PodUid;

use super::changes::ChangeSet;
use super::freshness::{Freshness, ObjectKind};
use super::owner::{HpaFacts, KedaPresence};
use super::pod::PodFacts;
use super::store::{Group, ScaledObjectEntry, State, Target, World};
use super::target::{TargetFacts, TargetId, TargetProblem, TargetState, is_older_version};
use crate::clock::Boottime;
use crate::keys::{TargetKey, TargetRef};

impl World {
    /// Adds or replaces a ScaledObject.
    pub fn apply_scaled_object(&self, mut object: ScaledObject) {
        object.metadata.managed_fields = None;
        let Some(key) = key_of(&object) else { return };
        let target_kind = object.spec.scale_target_ref.group_version_kind();
        let target = TargetRef::new(
            &key.namespace,
            &target_kind.api_version(),
            &target_kind.kind,
            &object.spec.scale_target_ref.name,
        );
        let entry = ScaledObjectEntry {
            object: Arc::new(object),
            target,
            unreadable: None,
        };
        let mut state = self.state();
        state.unreadable.remove(&key);
        let id = TargetId::from(&entry.target);
        let former = state.scaled_objects.insert(key.clone(), entry.clone());
        let mut targets_changed = false;
        match &former {
            Some(former) if TargetId::from(&former.target) == id => {}
            Some(former) => targets_changed |= state.unclaim(&key, &TargetId::from(&former.target)),
            None => {}
        }
        targets_changed |= state.claim(&key, id.clone(), &entry.target);
        let replaced = former
            .as_ref()
            .is_some_and(|former| former.object.uid() != entry.object.uid());
        if replaced {
            state.feed.send(&key, ChangeSet::GONE | ChangeSet::SPEC);
        } else if former.is_none_or(|former| {
            former.unreadable.is_some() || speaks_differently(&former.object, &entry.object)
        }) {
            state.feed.send(&key, ChangeSet::SPEC);
        }
        if targets_changed || replaced {
            state.tell_claims(&id, ChangeSet::OWNER);
        }
        self.publish_wanted(state, targets_changed);
    }

    /// Notes that the newest version of a ScaledObject cannot be read. The last good one stays.
    pub fn apply_unreadable_scaled_object(&self, key: &TargetKey, why: &str) {
        let mut state = self.state();
        let why: Arc<str> = why.into();
        let known = match state.scaled_objects.get_mut(key) {
            Some(entry) => entry.unreadable.replace(why.clone()),
            None => state.unreadable.insert(key.clone(), why.clone()),
        };
        if known.as_ref() != Some(&why) {
            state.feed.send(key, ChangeSet::SPEC);
        }
    }

    /// Removes a ScaledObject.
    pub fn remove_scaled_object(&self, key: &TargetKey) {
        let mut state = self.state();
        let unreadable = state.unreadable.remove(key).is_some();
        let former = state.scaled_objects.remove(key);
        state.drop_extra_groups(key, 0);
        let mut targets_changed = false;
        if let Some(former) = &former {
            let id = TargetId::from(&former.target);
            targets_changed = state.unclaim(key, &id);
            state.tell_claims(&id, ChangeSet::OWNER);
        }
        if former.is_some() || unreadable {
            state.feed.send(key, ChangeSet::GONE);
        }
        self.publish_wanted(state, targets_changed);
    }

    /// Removes every ScaledObject that is not in `kept`, and ends the listing of that kind.
    pub fn keep_scaled_objects(&self, kept: &HashSet<TargetKey>, within: &dyn Fn(&str) -> bool) {
        let gone: Vec<TargetKey> = {
            let state = self.state();
            let known = state.scaled_objects.keys().chain(state.unreadable.keys());
            known
                .filter(|key| within(&key.namespace) && !kept.contains(*key))
                .cloned()
                .collect()
        };
        for key in gone {
            self.remove_scaled_object(&key);
        }
    }

    /// Adds or replaces a TriggerAuthentication.
    pub fn apply_authentication(&self, mut object: TriggerAuthentication) {
        object.metadata.managed_fields = None;
        let Some(key) = key_of(&object) else { return };
        let mut state = self.state();
        let former = state.authentications.insert(key.clone(), Arc::new(object));
        let same = former.is_some_and(|former| {
            state
                .authentications
                .get(&key)
                .is_some_and(|new| new.spec == former.spec)
        });
        if !same {
            state.tell_authentication(
                AuthenticationKind::TriggerAuthentication,
                Some(&key.namespace),
                &key.name,
            );
        }
    }

    /// Removes a TriggerAuthentication.
    pub fn remove_authentication(&self, key: &TargetKey) {
        let mut state = self.state();
        if state.authentications.remove(key).is_some() {
            state.tell_authentication(
                AuthenticationKind::TriggerAuthentication,
                Some(&key.namespace),
                &key.name,
            );
        }
    }

    /// Removes every TriggerAuthentication that is not in `kept`.
    pub fn keep_authentications(&self, kept: &HashSet<TargetKey>, within: &dyn Fn(&str) -> bool) {
        let gone: Vec<TargetKey> = self
            .state()
            .authentications
            .keys()
            .filter(|key| within(&key.namespace) && !kept.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.remove_authentication(&key);
        }
    }

    /// Adds or replaces a ClusterTriggerAuthentication.
    pub fn apply_cluster_authentication(&self, mut object: ClusterTriggerAuthentication) {
        object.metadata.managed_fields = None;
        let name: Arc<str> = object.name_any().into();
        let mut state = self.state();
        let former = state
            .cluster_authentications
            .insert(name.clone(), Arc::new(object));
        let same = former.is_some_and(|former| {
            state
                .cluster_authentications
                .get(&name)
                .is_some_and(|new| new.spec == former.spec)
        });
        if !same {
            state.tell_authentication(
                AuthenticationKind::ClusterTriggerAuthentication,
                None,
                &name,
            );
        }
    }

    /// Removes every ClusterTriggerAuthentication that `kept` does not hold.
    pub fn keep_cluster_authentications(&self, kept: &HashSet<TargetKey>) {
        let gone: Vec<Arc<str>> = self
            .state()
            .cluster_authentications
            .keys()
            .filter(|name| !kept.contains(&TargetKey::new("", (*name).clone())))
            .cloned()
            .collect();
        for name in gone {
            self.remove_cluster_authentication(&name);
        }
    }

    /// Removes a ClusterTriggerAuthentication.
    pub fn remove_cluster_authentication(&self, name: &str) {
        let mut state = self.state();
        if state.cluster_authentications.remove(name).is_some() {
            state.tell_authentication(AuthenticationKind::ClusterTriggerAuthentication, None, name);
        }
    }

    /// Adds or replaces a pod.
    pub fn apply_pod(&self, pod: Arc<PodFacts>) {
        let mut state = self.state();
        let groups = state.pods.apply(pod);
        state.tell_groups(&groups);
    }

    /// Removes a pod.
    pub fn remove_pod(&self, namespace: &str, name: &str) {
        let mut state = self.state();
        let groups = state.pods.remove(namespace, name);
        state.tell_groups(&groups);
    }

    /// Removes every pod of the namespaces that `within` accepts and whose UID `kept` lacks.
    pub fn keep_pods(&self, kept: &HashSet<PodUid>, within: &dyn Fn(&str) -> bool) {
        let mut state = self.state();
        let gone: Vec<Arc<PodFacts>> = state
            .pods
            .iter()
            .filter(|pod| within(&pod.namespace) && !kept.contains(&pod.uid))
            .cloned()
            .collect();
        for pod in gone {
            let groups = state.pods.remove(&pod.namespace, &pod.name);
            state.tell_groups(&groups);
        }
    }

    /// Sets what is known of a wanted target; ignored when no ScaledObject names it (any more),
    /// and when it is surely older than what is known already.
    pub fn apply_target(&self, id: &TargetId, seen: TargetState) {
        let mut state = self.state();
        let Some(target) = state.targets.get_mut(id) else {
            return;
        };
        let same = match (&target.state, &seen) {
            (TargetState::Found(known), TargetState::Found(new)) => {
                if known.uid == new.uid
                    && is_older_version(&new.resource_version, &known.resource_version)
                {
                    return;
                }
                known.same_but_version(new)
            }
            (known, new) => known == new,
        };
        let selector = match &seen {
            TargetState::Found(facts) => facts.selector.clone().ok().flatten(),
            TargetState::Pending | TargetState::Unavailable(_) => None,
        };
        target.state = seen;
        if same {
            return;
        }
        let group = Group::Target(id.clone());
        match selector {
            Some(selector) => {
                if state.pods.set_group(group, id.namespace.clone(), selector) {
                    state.tell_claims(id, ChangeSet::PODS);
                }
            }
            None => state.pods.remove_group(&group),
        }
        state.tell_claims(id, ChangeSet::TARGET);
    }

    /// Notes that a target was found with these facts.
    pub fn apply_target_facts(&self, id: &TargetId, facts: TargetFacts) {
        self.apply_target(id, TargetState::Found(Arc::new(facts)));
    }

    /// Notes why a target cannot be scaled.
    pub fn apply_target_problem(&self, id: &TargetId, problem: TargetProblem) {
        self.apply_target(id, TargetState::Unavailable(Arc::new(problem)));
    }

    /// Adds or replaces an HPA.
    pub fn apply_hpa(&self, hpa: HpaFacts) {
        let key = TargetKey {
            namespace: hpa.namespace.clone(),
            name: hpa.name.clone(),
        };
        let mut state = self.state();
        let former = state.hpas.get(&key).cloned();
        if let Some(former) = &former {
            if former.same_but_version(&hpa) {
                state.hpas.insert(key, hpa);
                return;
            }
            state.forget_hpa(&key);
        }
        state
            .hpas_by_target
            .entry(hpa.target.clone())
            .or_default()
            .insert(key.clone());
        let target = hpa.target.clone();
        state.hpas.insert(key, hpa);
        state.tell_claims(&target, ChangeSet::OWNER);
        if let Some(former) = former.filter(|former| former.target != target) {
            state.tell_claims(&former.target, ChangeSet::OWNER);
        }
    }

    /// Removes an HPA.
    pub fn remove_hpa(&self, key: &TargetKey) {
        let mut state = self.state();
        if let Some(removed) = state.forget_hpa(key) {
            state.tell_claims(&removed.target, ChangeSet::OWNER);
        }
    }

    /// Removes every HPA of the namespaces that `within` accepts and that `kept` lacks.
    pub fn keep_hpas(&self, kept: &HashSet<TargetKey>, within: &dyn Fn(&str) -> bool) {
        let gone: Vec<TargetKey> = self
            .state()
            .hpas
            .keys()
            .filter(|key| within(&key.namespace) && !kept.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.remove_hpa(&key);
        }
    }

    /// Notes whether KEDA lives.
    pub fn set_keda(&self, keda: KedaPresence) {
        let mut state = self.state();
        if state.keda == keda {
            return;
        }
        state.keda = keda;
        let all: Vec<TargetKey> = state.scaled_objects.keys().cloned().collect();
        for key in all {
            state.feed.send(&key, ChangeSet::OWNER);
        }
    }

    /// Notes that a kind has been listed whole, and that reading it works.
    pub fn mark_synced(&self, kind: ObjectKind) {
        self.set_freshness(kind, |known| {
            *known = Freshness {
                synced: true,
                failing_since: None,
                error: None,
            };
        });
    }

    /// Notes that reading a kind works (again).
    pub fn mark_current(&self, kind: ObjectKind) {
        self.set_freshness(kind, |known| {
            known.failing_since = None;
            known.error = None;
        });
    }

    /// Notes that reading a kind fails, and since when.
    pub fn mark_failing(&self, kind: ObjectKind, since: Boottime, error: &str) {
        self.set_freshness(kind, |known| {
            known.failing_since.get_or_insert(since);
            known.error = Some(error.to_owned());
        });
    }

    fn set_freshness(&self, kind: ObjectKind, change: impl FnOnce(&mut Freshness)) {
        self.freshness.send_if_modified(|kinds| {
            let known = kinds.entry(kind).or_default();
            let before = known.clone();
            change(known);
            *known != before
        });
    }

    fn publish_wanted(&self, state: MutexGuard<'_, State>, changed: bool) {
        drop(state);
        if changed {
            self.wanted_targets
                .send_modify(|version| *version = version.wrapping_add(1));
        }
    }
}

impl State {
    /// Enters `key` among the claims on a target. True when the target is new.
    fn claim(&mut self, key: &TargetKey, id: TargetId, reference: &TargetRef) -> bool {
        let mut is_new = false;
        let target = self.targets.entry(id).or_insert_with(|| {
            is_new = true;
            Target {
                reference: reference.clone(),
                claims: BTreeSet::new(),
                state: TargetState::Pending,
            }
        });
        is_new | target.claims.insert(key.clone())
    }

    /// Removes `key` from the claims on a target. True when the target is wanted no more.
    fn unclaim(&mut self, key: &TargetKey, id: &TargetId) -> bool {
        let Some(target) = self.targets.get_mut(id) else {
            return false;
        };
        target.claims.remove(key);
        if !target.claims.is_empty() {
            self.tell_claims(id, ChangeSet::OWNER);
            return false;
        }
        self.targets.remove(id);
        self.pods.remove_group(&Group::Target(id.clone()));
        true
    }

    fn tell_claims(&mut self, id: &TargetId, what: ChangeSet) {
        let claims: Vec<TargetKey> = self
            .targets
            .get(id)
            .map(|target| target.claims.iter().cloned().collect())
            .unwrap_or_default();
        for key in &claims {
            self.feed.send(key, what);
        }
    }

    fn tell_groups(&mut self, groups: &[Group]) {
        for group in groups {
            match group {
                Group::Target(id) => self.tell_claims(id, ChangeSet::PODS),
                Group::Extra(key, _) => self.feed.send(key, ChangeSet::PODS),
            }
        }
    }

    fn tell_authentication(
        &mut self,
        kind: AuthenticationKind,
        namespace: Option<&str>,
        name: &str,
    ) {
        let users: Vec<TargetKey> = self
            .scaled_objects
            .iter()
            .filter(|(key, _)| {
                namespace.is_none_or(|namespace| namespace == key.namespace.as_ref())
            })
            .filter(|(_, entry)| {
                entry.object.spec.triggers.iter().any(|trigger| {
                    trigger
                        .authentication_ref
                        .as_ref()
                        .is_some_and(|reference| reference.name == name && reference.kind() == kind)
                })
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &users {
            self.feed.send(key, ChangeSet::AUTH);
        }
    }

    pub(super) fn drop_extra_groups(&mut self, key: &TargetKey, from: usize) {
        let mut at = from;
        while self.pods.has_group(&Group::Extra(key.clone(), at)) {
            self.pods.remove_group(&Group::Extra(key.clone(), at));
            at += 1;
        }
    }

    fn forget_hpa(&mut self, key: &TargetKey) -> Option<HpaFacts> {
        let removed = self.hpas.remove(key)?;
        if let Some(keys) = self.hpas_by_target.get_mut(&removed.target) {
            keys.remove(key);
            if keys.is_empty() {
                self.hpas_by_target.remove(&removed.target);
            }
        }
        Some(removed)
    }
}

fn key_of(object: &impl kube::Resource) -> Option<TargetKey> {
    let meta = object.meta();
    Some(TargetKey::new(
        meta.namespace.as_deref()?,
        meta.name.as_deref()?,
    ))
}

/// True when something else than the status differs.
fn speaks_differently(a: &ScaledObject, b: &ScaledObject) -> bool {
    a.spec != b.spec
        || a.metadata.annotations != b.metadata.annotations
        || a.metadata.labels != b.metadata.labels
        || a.metadata.deletion_timestamp != b.metadata.deletion_timestamp
        || a.metadata.finalizers != b.metadata.finalizers
        || a.metadata.generation != b.metadata.generation
}
