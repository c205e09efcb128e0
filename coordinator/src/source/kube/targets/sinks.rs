//! What the watches of targets say. Only the objects that ScaledObjects name are kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::core::DynamicObject;
use kube::runtime::watcher;

use super::facts::workload_facts;
use super::shared::{ObjectName, Shared, lock};
use crate::clock::Boottime;
use crate::keys::TargetRef;
use crate::source::kube::follow::{Sink, is_forbidden, is_unwatchable};
use crate::source::kube::lean::LeanWorkload;
use crate::source::kube::scope::covers;
use crate::source::kube::writers::{Writer, last_writer};
use crate::world::{TargetFacts, TargetState, World};

/// What both kinds of sink do.
pub(super) struct TargetSink {
    pub(super) world: Arc<World>,
    pub(super) shared: Arc<Shared>,
    pub(super) part: Option<Arc<str>>,
}

impl TargetSink {
    fn gone(&self, namespace: &Arc<str>, name: &Arc<str>) {
        self.shared.forget(&(namespace.clone(), name.clone()));
        for id in self.shared.wanted(namespace, name) {
            self.world
                .apply_target_problem(&id, self.shared.not_found(namespace, name));
        }
    }

    fn keep(&self, listed: &HashSet<(Arc<str>, Arc<str>)>) {
        let missing: Vec<_> = lock(&self.shared.wanted)
            .keys()
            .filter(|(namespace, _)| covers(self.part.as_deref(), namespace))
            .filter(|object| !listed.contains(*object))
            .cloned()
            .collect();
        for (namespace, name) in missing {
            self.gone(&namespace, &name);
        }
        lock(&self.shared.unwatched).remove(&self.part);
    }

    fn working(&self) {
        lock(&self.shared.unwatched).remove(&self.part);
    }

    fn failing(&self, error: &watcher::Error) {
        if !(is_forbidden(error) || is_unwatchable(error)) {
            return;
        }
        if lock(&self.shared.unwatched).insert(self.part.clone()) {
            tracing::info!(
                resource = %self.shared.resource.plural,
                namespace = self.part.as_deref().unwrap_or("all"),
                "targets of this kind cannot be watched; each is read every 15 s"
            );
            let objects: Vec<_> = lock(&self.shared.wanted).keys().cloned().collect();
            self.shared.read_soon(objects);
        }
    }
}

fn object_name(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Option<ObjectName> {
    Some((
        meta.namespace.as_deref()?.into(),
        meta.name.as_deref()?.into(),
    ))
}

pub(super) struct WorkloadSink(pub(super) TargetSink);

impl Sink for WorkloadSink {
    type Object = LeanWorkload;
    type Key = ObjectName;

    fn apply(&mut self, object: LeanWorkload) -> Option<ObjectName> {
        let key = object_name(&object.metadata.meta)?;
        let shared = &self.0.shared;
        let ids = shared.wanted(&key.0, &key.1);
        if ids.is_empty() {
            return None;
        }
        let mut facts = workload_facts(&shared.resource, &object)?;
        facts.last_writer = shared.last_writer(&key, facts.last_writer);
        let facts = Arc::new(facts);
        for id in &ids {
            self.0
                .world
                .apply_target(id, TargetState::Found(facts.clone()));
        }
        Some(key)
    }

    fn remove(&mut self, object: LeanWorkload) {
        if let Some((namespace, name)) = object_name(&object.metadata.meta) {
            self.0.gone(&namespace, &name);
        }
    }

    fn keep(&mut self, listed: &HashSet<ObjectName>) {
        self.0.keep(listed);
    }

    fn working(&mut self) {
        self.0.working();
    }

    fn failing(&mut self, _: Boottime, error: &watcher::Error) {
        self.0.failing(error);
    }
}

pub(super) struct CustomSink {
    pub(super) target: TargetSink,
    /// What of each wanted object decides whether its scale is read again.
    pub(super) seen: HashMap<ObjectName, String>,
}

impl Sink for CustomSink {
    type Object = DynamicObject;
    type Key = ObjectName;

    fn apply(&mut self, object: DynamicObject) -> Option<ObjectName> {
        let key = object_name(&object.metadata)?;
        let shared = &self.target.shared;
        let ids = shared.wanted(&key.0, &key.1);
        let Some(id) = ids.first() else {
            self.seen.remove(&key);
            return None;
        };
        let entries = object.metadata.managed_fields.as_deref();
        let writers: Vec<Writer> = entries
            .unwrap_or_default()
            .iter()
            .map(Writer::from)
            .collect();
        let last_writer = shared.last_writer(&key, last_writer(&writers).map(Arc::from));
        // Where a custom resource keeps its replicas is its own affair; most of what concerns
        // its scale stands in one of these fields, and the generation tells of any other change of spec.
        let print = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            object.metadata.uid,
            object.metadata.generation,
            object.metadata.deletion_timestamp.is_some(),
            object.data.pointer("/status/replicas"),
            object.data.pointer("/status/selector"),
        );
        let changed = self
            .seen
            .insert(key.clone(), print.clone())
            .is_none_or(|former| former != print);
        let reference = TargetRef {
            namespace: id.namespace.clone(),
            group: id.group.clone(),
            version: shared.resource.version.clone(),
            kind: id.kind.clone(),
            name: id.name.clone(),
        };
        match self.target.world.target(&reference) {
            TargetState::Found(facts) if !changed => {
                // Only the version moved on: the next write has to carry it.
                let version = object
                    .metadata
                    .resource_version
                    .as_deref()
                    .unwrap_or_default();
                let facts = Arc::new(TargetFacts {
                    resource_version: version.into(),
                    last_writer,
                    ..facts.as_ref().clone()
                });
                for id in &ids {
                    self.target
                        .world
                        .apply_target(id, TargetState::Found(facts.clone()));
                }
            }
            _ => shared.read_soon([key.clone()]),
        }
        Some(key)
    }

    fn remove(&mut self, object: DynamicObject) {
        if let Some(key) = object_name(&object.metadata) {
            self.seen.remove(&key);
            self.target.gone(&key.0, &key.1);
        }
    }

    fn keep(&mut self, listed: &HashSet<ObjectName>) {
        self.seen.retain(|key, _| listed.contains(key));
        self.target.keep(listed);
    }

    fn working(&mut self) {
        self.target.working();
    }

    fn failing(&mut self, _: Boottime, error: &watcher::Error) {
        self.target.failing(error);
    }
}
