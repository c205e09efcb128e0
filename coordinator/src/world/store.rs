//! [`World`]: the indexes together, and reading them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use neap_api::{ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication, keys};
use neap_units::PodUid;
use tokio::sync::watch;

use super::changes::{ChangeFeed, ChangeSet, Changes};
use super::freshness::{Freshness, ObjectKind};
use super::owner::{Claim, HpaFacts, KedaPresence, Owner, owner_of};
use super::pod::PodFacts;
use super::pods::PodIndex;
use super::selector::Selector;
use super::target::{TargetId, TargetState};
use crate::keys::{TargetKey, TargetRef};

/// A ScaledObject as last read.
#[derive(Debug, Clone)]
pub struct ScaledObjectEntry {
    /// The last version that could be read. Its managed fields are dropped.
    pub object: Arc<ScaledObject>,
    /// What it scales.
    pub target: TargetRef,
    /// Why the newest version could not be read; `object` is then older than the API server's.
    pub unreadable: Option<Arc<str>>,
}

/// How many objects are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// ScaledObjects.
    pub scaled_objects: usize,
    /// Targets that ScaledObjects name.
    pub targets: usize,
    /// Pods.
    pub pods: usize,
    /// HPAs.
    pub hpas: usize,
}

/// In-memory indexes over scaled objects, scale targets and pods, kept warm by an
/// [`ObjectSource`](crate::source::ObjectSource). All methods are short; none waits for I/O.
#[derive(Debug)]
pub struct World {
    state: Mutex<State>,
    pub(super) wanted_targets: watch::Sender<u64>,
    pub(super) freshness: watch::Sender<BTreeMap<ObjectKind, Freshness>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) scaled_objects: HashMap<TargetKey, ScaledObjectEntry>,
    pub(super) unreadable: HashMap<TargetKey, Arc<str>>,
    pub(super) authentications: HashMap<TargetKey, Arc<TriggerAuthentication>>,
    pub(super) cluster_authentications: HashMap<Arc<str>, Arc<ClusterTriggerAuthentication>>,
    pub(super) targets: HashMap<TargetId, Target>,
    pub(super) pods: PodIndex<Group>,
    pub(super) hpas: HashMap<TargetKey, HpaFacts>,
    pub(super) hpas_by_target: HashMap<TargetId, BTreeSet<TargetKey>>,
    pub(super) keda: KedaPresence,
    pub(super) feed: ChangeFeed,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) reference: TargetRef,
    pub(super) claims: BTreeSet<TargetKey>,
    pub(super) state: TargetState,
}

/// Whose selector a group of pods belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Target(TargetId),
    Extra(TargetKey, usize),
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world in which nothing has been listed yet.
    pub fn new() -> Self {
        let freshness = ObjectKind::ALL
            .into_iter()
            .map(|kind| (kind, Freshness::default()))
            .collect();
        Self {
            state: Mutex::default(),
            wanted_targets: watch::Sender::new(0),
            freshness: watch::Sender::new(freshness),
        }
    }

    // A panic while the lock is held leaves indexes that are at worst stale; going on is better
    // than ending every reader.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new reader of changes. It begins with every ScaledObject there is, as `SPEC`.
    pub fn changes(&self) -> Changes {
        let mut state = self.state();
        let present: Vec<TargetKey> = state
            .scaled_objects
            .keys()
            .chain(state.unreadable.keys())
            .cloned()
            .collect();
        state.feed.subscribe(present)
    }

    /// The ScaledObject `key`.
    pub fn scaled_object(&self, key: &TargetKey) -> Option<ScaledObjectEntry> {
        self.state().scaled_objects.get(key).cloned()
    }

    /// The names of all ScaledObjects that could be read at least once.
    pub fn scaled_objects(&self) -> Vec<TargetKey> {
        self.state().scaled_objects.keys().cloned().collect()
    }

    /// Why the ScaledObject `key` could never be read: the text names what is wrong.
    pub fn unreadable(&self, key: &TargetKey) -> Option<Arc<str>> {
        self.state().unreadable.get(key).cloned()
    }

    /// The ScaledObjects that could never be read, and why.
    pub fn all_unreadable(&self) -> Vec<(TargetKey, Arc<str>)> {
        let state = self.state();
        let all = state.unreadable.iter();
        all.map(|(key, why)| (key.clone(), why.clone())).collect()
    }

    /// The TriggerAuthentication `namespace/name`.
    pub fn trigger_authentication(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<TriggerAuthentication>> {
        self.state()
            .authentications
            .get(&TargetKey::new(namespace, name))
            .cloned()
    }

    /// The ClusterTriggerAuthentication `name`.
    pub fn cluster_trigger_authentication(
        &self,
        name: &str,
    ) -> Option<Arc<ClusterTriggerAuthentication>> {
        self.state().cluster_authentications.get(name).cloned()
    }

    /// What is known of `target`. Only targets that some ScaledObject names are followed.
    pub fn target(&self, target: &TargetRef) -> TargetState {
        self.state()
            .targets
            .get(&target.into())
            .map_or(TargetState::Pending, |known| known.state.clone())
    }

    /// The pods that the selector of `target` selects, in the order of their UIDs.
    pub fn pods_of(&self, target: &TargetRef) -> Arc<[Arc<PodFacts>]> {
        self.state().pods.members(&Group::Target(target.into()))
    }

    /// The pods of `namespace` that `selector` selects, in no order.
    pub fn pods_matching(&self, namespace: &str, selector: &Selector) -> Vec<Arc<PodFacts>> {
        self.state().pods.select(namespace, selector)
    }

    /// The pod with this UID of its object.
    pub fn pod(&self, uid: &PodUid) -> Option<Arc<PodFacts>> {
        self.state().pods.by_uid(uid).cloned()
    }

    /// The pod with this UID in the names of its cgroups (a static pod has two UIDs).
    pub fn pod_by_cgroup_uid(&self, uid: &PodUid) -> Option<Arc<PodFacts>> {
        self.state().pods.by_cgroup_uid(uid).cloned()
    }

    /// All pods, in no order. Copies as many pointers as there are pods.
    pub fn pods(&self) -> Vec<Arc<PodFacts>> {
        self.state().pods.iter().cloned().collect()
    }

    /// Who scales the target of `key`. A ScaledObject that is not here has no owner but Neap.
    pub fn owner(&self, key: &TargetKey) -> Owner {
        let state = self.state();
        let Some(entry) = state.scaled_objects.get(key) else {
            return Owner::Neap;
        };
        let id = TargetId::from(&entry.target);
        let claims: Vec<Claim> = state
            .targets
            .get(&id)
            .into_iter()
            .flat_map(|target| &target.claims)
            .filter_map(|key| state.scaled_objects.get(key).map(|entry| claim(key, entry)))
            .collect();
        let hpas = state
            .hpas_by_target
            .get(&id)
            .into_iter()
            .flatten()
            .filter_map(|key| state.hpas.get(key));
        owner_of(&claim(key, entry), claims.iter(), hpas, &state.keda)
    }

    /// The ScaledObjects that name `target`.
    pub fn claims_on(&self, target: &TargetRef) -> Vec<TargetKey> {
        let state = self.state();
        state
            .targets
            .get(&target.into())
            .map(|known| known.claims.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The HPAs that scale `target`.
    pub fn hpas_on(&self, target: &TargetRef) -> Vec<HpaFacts> {
        let state = self.state();
        let keys = state
            .hpas_by_target
            .get(&target.into())
            .into_iter()
            .flatten();
        keys.filter_map(|key| state.hpas.get(key).cloned())
            .collect()
    }

    /// Whether a KEDA operator lives in this cluster.
    pub fn keda(&self) -> KedaPresence {
        self.state().keda.clone()
    }

    /// How current each kind of object is.
    pub fn freshness(&self) -> watch::Receiver<BTreeMap<ObjectKind, Freshness>> {
        self.freshness.subscribe()
    }

    /// True once every kind has been listed.
    pub fn is_synced(&self) -> bool {
        self.freshness.borrow().values().all(|kind| kind.synced)
    }

    /// Completes once every kind has been listed.
    pub async fn synced(&self) {
        let mut freshness = self.freshness.subscribe();
        // The sender lives in `self`, so the wait cannot fail while anyone waits.
        let _ = freshness
            .wait_for(|kinds| kinds.values().all(|kind| kind.synced))
            .await;
    }

    /// How many objects are held.
    pub fn sizes(&self) -> Sizes {
        let state = self.state();
        Sizes {
            scaled_objects: state.scaled_objects.len(),
            targets: state.targets.len(),
            pods: state.pods.len(),
            hpas: state.hpas.len(),
        }
    }

    /// Registers the selectors, besides that of the target, whose pods `key` depends on: their
    /// changes are then told as `PODS` of `key`. Replaces what was registered before; an empty
    /// list ends it. Forgotten when the ScaledObject goes.
    pub fn set_pod_selectors(&self, key: &TargetKey, selectors: &[Selector]) {
        let mut state = self.state();
        let mut changed = false;
        for (at, selector) in selectors.iter().enumerate() {
            changed |= state.pods.set_group(
                Group::Extra(key.clone(), at),
                key.namespace.clone(),
                selector.clone(),
            );
        }
        state.drop_extra_groups(key, selectors.len());
        if changed {
            state.feed.send(key, ChangeSet::PODS);
        }
    }

    /// Changes whenever the set of targets that ScaledObjects name does.
    pub fn wanted_targets_changed(&self) -> watch::Receiver<u64> {
        self.wanted_targets.subscribe()
    }

    /// The targets that ScaledObjects name, each under the reference that first named it, for
    /// the source to follow.
    pub fn wanted_targets(&self) -> BTreeMap<TargetId, TargetRef> {
        let state = self.state();
        state
            .targets
            .iter()
            .map(|(id, target)| (id.clone(), target.reference.clone()))
            .collect()
    }

    /// True while some ScaledObject names this target.
    pub fn is_wanted(&self, id: &TargetId) -> bool {
        self.state().targets.contains_key(id)
    }
}

fn claim(key: &TargetKey, entry: &ScaledObjectEntry) -> Claim {
    let object = &entry.object;
    let transfers = keys::bool_annotation(Some(object.annotations()), keys::TRANSFER_HPA_OWNERSHIP)
        .then(|| object.hpa_name().into());
    Claim {
        key: key.clone(),
        uid: object.uid().unwrap_or_default().into(),
        created: object
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
        deleting: object.metadata.deletion_timestamp.is_some(),
        transfers,
    }
}
