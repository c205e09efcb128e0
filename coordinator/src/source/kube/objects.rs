//! The sinks of the kinds that are watched as a whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use neap_api::{ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication};
use neap_units::PodUid;

use super::follow::{Sink, is_forbidden};
use super::hpa::hpa_facts;
use super::lean::{LeanHpa, LeanPod};
use super::pod_facts::PodTrimmer;
use super::scope::covers;
use crate::clock::Boottime;
use crate::keys::TargetKey;
use crate::world::{ObjectKind, World};

/// Tells the world how one kind fares, over all parts of the scope: it is synced once every part
/// was listed.
#[derive(Debug)]
pub(super) struct Progress {
    world: Arc<World>,
    kind: ObjectKind,
    unlisted: Arc<AtomicUsize>,
    listed: bool,
    /// Being refused is an answer too: the kind then counts as empty.
    optional: bool,
}

impl Progress {
    /// One for each of `parts` parts.
    pub(super) fn for_parts(
        world: &Arc<World>,
        kind: ObjectKind,
        parts: usize,
        optional: bool,
    ) -> impl Iterator<Item = Self> {
        let unlisted = Arc::new(AtomicUsize::new(parts));
        let world = world.clone();
        (0..parts).map(move |_| Self {
            world: world.clone(),
            kind,
            unlisted: unlisted.clone(),
            listed: false,
            optional,
        })
    }

    pub(super) fn listed(&mut self) {
        if !self.listed {
            self.listed = true;
            if self.unlisted.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.world.mark_synced(self.kind);
            }
        }
    }

    pub(super) fn working(&mut self) {
        self.world.mark_current(self.kind);
    }

    pub(super) fn failing(&mut self, since: Boottime, error: &watcher::Error) {
        if self.optional && is_forbidden(error) {
            self.listed();
        }
        self.world
            .mark_failing(self.kind, since, &error.to_string());
    }
}

fn key_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<TargetKey> {
    Some(TargetKey::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref()?,
    ))
}

macro_rules! sink {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        pub(super) struct $name {
            pub(super) world: Arc<World>,
            pub(super) part: Option<Arc<str>>,
            pub(super) progress: Progress,
            $(pub(super) $field: $type,)*
        }
    };
}

macro_rules! progress {
    () => {
        fn working(&mut self) {
            self.progress.working();
        }

        fn failing(&mut self, since: Boottime, error: &watcher::Error) {
            self.progress.failing(since, error);
        }
    };
}

sink!(
    /// Pods.
    PodSink { trimmer: PodTrimmer }
);

impl Sink for PodSink {
    type Object = LeanPod;
    type Key = PodUid;

    fn apply(&mut self, pod: LeanPod) -> Option<PodUid> {
        let facts = Arc::new(self.trimmer.trim(&pod)?);
        let uid = facts.uid.clone();
        self.world.apply_pod(facts);
        Some(uid)
    }

    fn remove(&mut self, pod: LeanPod) {
        if let Some(key) = key_of(&pod.metadata) {
            self.world.remove_pod(&key.namespace, &key.name);
        }
    }

    fn keep(&mut self, listed: &HashSet<PodUid>) {
        let part = self.part.clone();
        self.world
            .keep_pods(listed, &|namespace| covers(part.as_deref(), namespace));
        self.progress.listed();
    }

    progress!();
}

sink!(
    /// ScaledObjects.
    ScaledObjectSink {}
);

impl Sink for ScaledObjectSink {
    type Object = DeserializeGuard<ScaledObject>;
    type Key = TargetKey;

    fn apply(&mut self, object: Self::Object) -> Option<TargetKey> {
        match object.0 {
            Ok(object) => {
                let key = key_of(&object.metadata);
                self.world.apply_scaled_object(object);
                key
            }
            Err(invalid) => {
                let key = key_of(&invalid.metadata)?;
                tracing::warn!(scaled_object = %key, error = invalid.error, "ScaledObject cannot be read; its last good version stays in force");
                self.world
                    .apply_unreadable_scaled_object(&key, &invalid.error);
                Some(key)
            }
        }
    }

    fn remove(&mut self, object: Self::Object) {
        if let Some(key) = key_of(kube::Resource::meta(&object)) {
            self.world.remove_scaled_object(&key);
        }
    }

    fn keep(&mut self, listed: &HashSet<TargetKey>) {
        let part = self.part.clone();
        self.world
            .keep_scaled_objects(listed, &|namespace| covers(part.as_deref(), namespace));
        self.progress.listed();
    }

    progress!();
}

sink!(
    /// TriggerAuthentications.
    AuthenticationSink {}
);

impl Sink for AuthenticationSink {
    type Object = DeserializeGuard<TriggerAuthentication>;
    type Key = TargetKey;

    fn apply(&mut self, object: Self::Object) -> Option<TargetKey> {
        match object.0 {
            Ok(object) => {
                let key = key_of(&object.metadata);
                self.world.apply_authentication(object);
                key
            }
            Err(invalid) => {
                let key = key_of(&invalid.metadata)?;
                tracing::warn!(trigger_authentication = %key, error = invalid.error, "TriggerAuthentication cannot be read; its last good version stays in force");
                Some(key)
            }
        }
    }

    fn remove(&mut self, object: Self::Object) {
        if let Some(key) = key_of(kube::Resource::meta(&object)) {
            self.world.remove_authentication(&key);
        }
    }

    fn keep(&mut self, listed: &HashSet<TargetKey>) {
        let part = self.part.clone();
        self.world
            .keep_authentications(listed, &|namespace| covers(part.as_deref(), namespace));
        self.progress.listed();
    }

    progress!();
}

/// ClusterTriggerAuthentications.
pub(super) struct ClusterAuthenticationSink {
    pub(super) world: Arc<World>,
    pub(super) progress: Progress,
}

impl Sink for ClusterAuthenticationSink {
    type Object = DeserializeGuard<ClusterTriggerAuthentication>;
    type Key = TargetKey;

    fn apply(&mut self, object: Self::Object) -> Option<TargetKey> {
        match object.0 {
            Ok(object) => {
                let key = key_of(&object.metadata);
                self.world.apply_cluster_authentication(object);
                key
            }
            Err(invalid) => {
                let key = key_of(&invalid.metadata)?;
                tracing::warn!(cluster_trigger_authentication = %key.name, error = invalid.error, "ClusterTriggerAuthentication cannot be read; its last good version stays in force");
                Some(key)
            }
        }
    }

    fn remove(&mut self, object: Self::Object) {
        self.world.remove_cluster_authentication(&object.name_any());
    }

    fn keep(&mut self, listed: &HashSet<TargetKey>) {
        self.world.keep_cluster_authentications(listed);
        self.progress.listed();
    }

    progress!();
}

sink!(
    /// HorizontalPodAutoscalers.
    HpaSink {}
);

impl Sink for HpaSink {
    type Object = LeanHpa;
    type Key = TargetKey;

    fn apply(&mut self, hpa: LeanHpa) -> Option<TargetKey> {
        let facts = hpa_facts(&hpa)?;
        let key = TargetKey {
            namespace: facts.namespace.clone(),
            name: facts.name.clone(),
        };
        self.world.apply_hpa(facts);
        Some(key)
    }

    fn remove(&mut self, hpa: LeanHpa) {
        if let Some(key) = key_of(&hpa.metadata) {
            self.world.remove_hpa(&key);
        }
    }

    fn keep(&mut self, listed: &HashSet<TargetKey>) {
        let part = self.part.clone();
        self.world
            .keep_hpas(listed, &|namespace| covers(part.as_deref(), namespace));
        self.progress.listed();
    }

    progress!();
}
