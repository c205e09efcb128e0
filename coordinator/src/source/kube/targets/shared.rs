//! What the watches and the reader of one resource share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use kube::core::ApiResource;
use tokio::sync::Notify;

use crate::world::{ScaleResource, TargetId, TargetProblem};

/// Namespace and name.
pub(super) type ObjectName = (Arc<str>, Arc<str>);

/// What the watches and the reader of one resource share.
pub(super) struct Shared {
    pub(super) resource: Arc<ScaleResource>,
    /// Wanted objects of this resource. A target may be named under several spellings of its kind.
    pub(super) wanted: Mutex<BTreeMap<ObjectName, BTreeSet<TargetId>>>,
    pub(super) to_read: Mutex<BTreeSet<ObjectName>>,
    pub(super) read_now: Notify,
    /// Namespaces (or all) whose watch is refused.
    pub(super) unwatched: Mutex<HashSet<Option<Arc<str>>>>,
    /// Who, other than Neap, was last seen to set the replicas of which object. An object names them
    /// only until Neap sets its replicas.
    last_writers: Mutex<HashMap<ObjectName, Arc<str>>>,
}

impl Shared {
    pub(super) fn new(resource: Arc<ScaleResource>) -> Self {
        Self {
            resource,
            wanted: Mutex::default(),
            to_read: Mutex::default(),
            read_now: Notify::new(),
            unwatched: Mutex::default(),
            last_writers: Mutex::default(),
        }
    }

    pub(super) fn wanted(&self, namespace: &str, name: &str) -> BTreeSet<TargetId> {
        lock(&self.wanted)
            .get(&(namespace.into(), name.into()))
            .cloned()
            .unwrap_or_default()
    }

    /// Takes in who an object names now; gives who was last named.
    pub(super) fn last_writer(
        &self,
        object: &ObjectName,
        named: Option<Arc<str>>,
    ) -> Option<Arc<str>> {
        let mut known = lock(&self.last_writers);
        match named {
            Some(named) => {
                known.insert(object.clone(), named.clone());
                Some(named)
            }
            None => known.get(object).cloned(),
        }
    }

    /// Drops what is known of an object that is gone.
    pub(super) fn forget(&self, object: &ObjectName) {
        lock(&self.last_writers).remove(object);
    }

    pub(super) fn read_soon(&self, objects: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        lock(&self.to_read).extend(objects);
        self.read_now.notify_one();
    }

    /// The scale of these kinds stands in the object itself.
    pub(super) fn is_workload(&self) -> bool {
        self.resource.group.as_ref() == "apps"
            && matches!(
                self.resource.kind.as_ref(),
                "Deployment" | "StatefulSet" | "ReplicaSet"
            )
    }

    pub(super) fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.resource.group.to_string(),
            version: self.resource.version.to_string(),
            api_version: self.resource.api_version(),
            kind: self.resource.kind.to_string(),
            plural: self.resource.plural.to_string(),
        }
    }

    pub(super) fn not_found(&self, namespace: &str, name: &str) -> TargetProblem {
        TargetProblem::NotFound {
            kind: self.resource.kind.to_string(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
