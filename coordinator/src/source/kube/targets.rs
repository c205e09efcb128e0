//! What is scaled: one watch per resource that some ScaledObject names, and a GET where a watch cannot
//! tell.
//!
//! Of a watched resource only the objects that ScaledObjects name are kept. Deployments, StatefulSets
//! and ReplicaSets carry their scale in themselves; any other kind is read through its scale
//! subresource whenever its watch shows a change, or each 15 s where it cannot be watched.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::discovery::Discovery;
use super::follow::{Sink, Watch, follow, is_forbidden, is_unwatchable};
use super::lean::LeanWorkload;
use super::scope::{Scope, covers};
use super::template::pod_template;
use crate::clock::{Boottime, Clock};
use crate::keys::TargetRef;
use crate::world::{
    PodTemplate, ScaleResource, Selector, TargetFacts, TargetId, TargetProblem, TargetState, World,
};

/// How often a target that cannot be watched is read.
const READ_EACH: Duration = Duration::from_secs(15);
/// How often a kind that could not be resolved, or an object that could not be read, is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// Reads at once.
const READS: usize = 8;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Follows the targets that a world asks for.
pub(super) struct Targets {
    pub(super) client: kube::Client,
    pub(super) world: Arc<World>,
    pub(super) discovery: Arc<Discovery>,
    pub(super) scope: Scope,
    pub(super) clock: Arc<dyn Clock>,
}

/// Namespace and name.
type ObjectName = (Arc<str>, Arc<str>);

/// A resource that is followed.
struct Followed {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What the watches and the reader of one resource share.
struct Shared {
    resource: Arc<ScaleResource>,
    /// Wanted objects of this resource. A target may be named under several spellings of its kind.
    wanted: Mutex<BTreeMap<ObjectName, BTreeSet<TargetId>>>,
    to_read: Mutex<BTreeSet<ObjectName>>,
    read_now: Notify,
    /// Namespaces (or all) whose watch is refused.
    unwatched: Mutex<HashSet<Option<Arc<str>>>>,
}

impl Shared {
    fn new(resource: Arc<ScaleResource>) -> Self {
        Self {
            resource,
            wanted: Mutex::default(),
            to_read: Mutex::default(),
            read_now: Notify::new(),
            unwatched: Mutex::default(),
        }
    }

    fn wanted(&self, namespace: &str, name: &str) -> BTreeSet<TargetId> {
        lock(&self.wanted)
            .get(&(namespace.into(), name.into()))
            .cloned()
            .unwrap_or_default()
    }

    fn read_soon(&self, objects: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        lock(&self.to_read).extend(objects);
        self.read_now.notify_one();
    }

    /// The scale of these kinds stands in the object itself.
    fn is_workload(&self) -> bool {
        self.resource.group.as_ref() == "apps"
            && matches!(
                self.resource.kind.as_ref(),
                "Deployment" | "StatefulSet" | "ReplicaSet"
            )
    }

    fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.resource.group.to_string(),
            version: self.resource.version.to_string(),
            api_version: self.resource.api_version(),
            kind: self.resource.kind.to_string(),
            plural: self.resource.plural.to_string(),
        }
    }

    fn not_found(&self, namespace: &str, name: &str) -> TargetProblem {
        TargetProblem::NotFound {
            kind: self.resource.kind.to_string(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Targets {
    /// Follows until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let mut wanted_changed = this.world.wanted_targets_changed();
        let mut followed: HashMap<Arc<ScaleResource>, Followed> = HashMap::new();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            wanted_changed.mark_unchanged();
            let unresolved = this.arrange(&mut followed, &mut tasks, &shutdown).await;
            while tasks.try_join_next().is_some() {}
            let again = async {
                if unresolved {
                    this.clock
                        .sleep_until(this.clock.boottime() + TRY_AGAIN)
                        .await;
                } else {
                    std::future::pending().await
                }
            };
            let wake = async {
                tokio::select! {
                    _ = wanted_changed.changed() => {}
                    () = again => {}
                }
            };
            if shutdown.run_until_cancelled(wake).await.is_none() {
                break;
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Starts and stops watches so that they cover what is wanted. True when some target's kind
    /// could not be resolved.
    async fn arrange(
        self: &Arc<Self>,
        followed: &mut HashMap<Arc<ScaleResource>, Followed>,
        tasks: &mut tokio::task::JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut unresolved = false;
        let mut by_resource: HashMap<Arc<ScaleResource>, Vec<TargetId>> = HashMap::new();
        for (id, reference) in self.world.wanted_targets() {
            if shutdown.is_cancelled() {
                return false;
            }
            match self.discovery.resolve(&reference).await {
                Ok(resource) => by_resource.entry(resource).or_default().push(id),
                Err(problem) => {
                    unresolved = true;
                    // A server that does not answer takes nothing away from what is known.
                    let known = !matches!(self.world.target(&reference), TargetState::Pending);
                    if !(known && matches!(problem, TargetProblem::Unreadable { .. })) {
                        self.world.apply_target_problem(&id, problem);
                    }
                }
            }
        }
        followed.retain(|resource, known| {
            let keep = by_resource.contains_key(resource);
            if !keep {
                known.stop.cancel();
            }
            keep
        });
        for (resource, ids) in by_resource {
            let mut wanted: BTreeMap<_, BTreeSet<TargetId>> = BTreeMap::new();
            for id in ids {
                wanted
                    .entry((id.namespace.clone(), id.name.clone()))
                    .or_default()
                    .insert(id);
            }
            match followed.get(&resource) {
                Some(known) => {
                    let former =
                        std::mem::replace(&mut *lock(&known.shared.wanted), wanted.clone());
                    // The watch told of these objects before anybody asked.
                    known.shared.read_soon(
                        wanted
                            .into_iter()
                            .filter(|(object, ids)| former.get(object) != Some(ids))
                            .map(|(object, _)| object),
                    );
                }
                None => {
                    let shared = Arc::new(Shared::new(resource.clone()));
                    *lock(&shared.wanted) = wanted;
                    let stop = shutdown.child_token();
                    self.start(&shared, tasks, &stop);
                    followed.insert(resource, Followed { shared, stop });
                }
            }
        }
        unresolved
    }

    fn start(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        tasks: &mut tokio::task::JoinSet<()>,
        stop: &CancellationToken,
    ) {
        for part in self.scope.parts() {
            let (this, shared, stop) = (self.clone(), shared.clone(), stop.clone());
            tasks.spawn(async move { this.watch(shared, part, stop).await });
        }
        let (this, shared, stop) = (self.clone(), shared.clone(), stop.clone());
        tasks.spawn(async move { this.read(shared, stop).await });
    }

    async fn watch(&self, shared: Arc<Shared>, part: Option<Arc<str>>, stop: CancellationToken) {
        let resource = shared.api_resource();
        let name: Arc<str> = format!("{}.{}", resource.plural, resource.group).into();
        if shared.is_workload() {
            let api: Api<LeanWorkload> = dynamic_api(&self.client, part.as_deref(), &resource);
            let mut sink = WorkloadSink(TargetSink {
                world: self.world.clone(),
                shared,
                part,
            });
            follow(
                Watch {
                    name,
                    api,
                    only: None,
                },
                &mut sink,
                self.clock.as_ref(),
                &stop,
            )
            .await;
        } else {
            let api: Api<DynamicObject> = dynamic_api(&self.client, part.as_deref(), &resource);
            let target = TargetSink {
                world: self.world.clone(),
                shared,
                part,
            };
            let mut sink = CustomSink {
                target,
                seen: HashMap::new(),
            };
            follow(
                Watch {
                    name,
                    api,
                    only: None,
                },
                &mut sink,
                self.clock.as_ref(),
                &stop,
            )
            .await;
        }
    }

    /// Reads objects one by one: those asked for, and each 15 s those that no watch covers.
    async fn read(&self, shared: Arc<Shared>, stop: CancellationToken) {
        let mut next_round = self.clock.boottime() + READ_EACH;
        loop {
            let due = async {
                tokio::select! {
                    () = shared.read_now.notified() => false,
                    () = self.clock.sleep_until(next_round) => true,
                }
            };
            let Some(round) = stop.run_until_cancelled(due).await else {
                return;
            };
            if round {
                next_round = self.clock.boottime() + READ_EACH;
                let unwatched = lock(&shared.unwatched).clone();
                let objects: Vec<_> = lock(&shared.wanted).keys().cloned().collect();
                let uncovered = objects.into_iter().filter(|(namespace, _)| {
                    unwatched
                        .iter()
                        .any(|part| covers(part.as_deref(), namespace))
                });
                lock(&shared.to_read).extend(uncovered);
            }
            let objects = std::mem::take(&mut *lock(&shared.to_read));
            let reads = futures::stream::iter(objects)
                .map(|(namespace, name)| self.read_one(&shared, namespace, name))
                .buffer_unordered(READS)
                .for_each(|()| std::future::ready(()));
            if stop.run_until_cancelled(reads).await.is_none() {
                return;
            }
        }
    }

    async fn read_one(&self, shared: &Shared, namespace: Arc<str>, name: Arc<str>) {
        let ids = shared.wanted(&namespace, &name);
        let Some(first) = ids.first() else { return };
        let reference = TargetRef {
            namespace: namespace.clone(),
            group: shared.resource.group.clone(),
            version: shared.resource.version.clone(),
            kind: shared.resource.kind.clone(),
            name: name.clone(),
        };
        let known_template = match self.world.target(&reference) {
            TargetState::Found(facts) => facts.template.clone(),
            _ => None,
        };
        let reading = async {
            let resource = shared.api_resource();
            if shared.is_workload() {
                let api: Api<LeanWorkload> =
                    Api::namespaced_with(self.client.clone(), &namespace, &resource);
                api.get(&name)
                    .await
                    .map(|object| workload_facts(&shared.resource, &object))
            } else {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), &namespace, &resource);
                let scale = api.get_scale(&name).await?;
                // The object itself need not be readable; then variables of its template are unknown.
                let template = match known_template {
                    Some(template) => Some(template),
                    None => api
                        .get_opt(&name)
                        .await
                        .ok()
                        .flatten()
                        .and_then(|object| template_of(&object)),
                };
                Ok(Some(scale_facts(&shared.resource, &scale, template)))
            }
        };
        let seen = match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(Some(facts))) => TargetState::Found(Arc::new(facts)),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                let problem = problem_of(shared, &namespace, &name, &error);
                let passing = matches!(problem, TargetProblem::Unreadable { .. });
                if passing && !matches!(self.world.target(&reference), TargetState::Pending) {
                    return;
                }
                TargetState::Unavailable(Arc::new(problem))
            }
            Err(_) => TargetState::Unavailable(Arc::new(TargetProblem::Unreadable {
                target: first.to_string(),
                reason: format!("no answer within {} s", READ_TIMEOUT.as_secs()),
            })),
        };
        for id in &ids {
            self.world.apply_target(id, seen.clone());
        }
    }
}

fn dynamic_api<K>(client: &kube::Client, part: Option<&str>, resource: &ApiResource) -> Api<K>
where
    K: kube::Resource<DynamicType = ApiResource, Scope = kube::core::DynamicResourceScope>,
{
    match part {
        None => Api::all_with(client.clone(), resource),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

fn problem_of(shared: &Shared, namespace: &str, name: &str, error: &kube::Error) -> TargetProblem {
    match error {
        kube::Error::Api(status) if status.code == 404 => shared.not_found(namespace, name),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => TargetProblem::Forbidden {
            resource: format!("{}.{}", shared.resource.plural, shared.resource.group),
            reason: status.message.clone(),
        },
        error => TargetProblem::Unreadable {
            target: format!("{} {namespace}/{name}", shared.resource.kind),
            reason: error.to_string(),
        },
    }
}

/// What both kinds of sink do.
struct TargetSink {
    world: Arc<World>,
    shared: Arc<Shared>,
    part: Option<Arc<str>>,
}

impl TargetSink {
    fn gone(&self, namespace: &str, name: &str) {
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

struct WorkloadSink(TargetSink);

impl Sink for WorkloadSink {
    type Object = LeanWorkload;
    type Key = ObjectName;

    fn apply(&mut self, object: LeanWorkload) -> Option<ObjectName> {
        let key = object_name(&object.metadata)?;
        let ids = self.0.shared.wanted(&key.0, &key.1);
        if ids.is_empty() {
            return None;
        }
        let facts = Arc::new(workload_facts(&self.0.shared.resource, &object)?);
        for id in &ids {
            self.0
                .world
                .apply_target(id, TargetState::Found(facts.clone()));
        }
        Some(key)
    }

    fn remove(&mut self, object: LeanWorkload) {
        if let Some((namespace, name)) = object_name(&object.metadata) {
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

struct CustomSink {
    target: TargetSink,
    /// What of each wanted object decides whether its scale is read again.
    seen: HashMap<ObjectName, String>,
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

pub(super) fn workload_facts(
    resource: &Arc<ScaleResource>,
    object: &LeanWorkload,
) -> Option<TargetFacts> {
    let meta = &object.metadata;
    Some(TargetFacts {
        resource: resource.clone(),
        uid: meta.uid.as_deref()?.into(),
        replicas: object.spec.replicas.unwrap_or(1),
        status_replicas: object.status.replicas.unwrap_or(0),
        selector: object
            .spec
            .selector
            .as_ref()
            .map(Selector::from_object)
            .transpose(),
        resource_version: meta.resource_version.as_deref()?.into(),
        generation: meta.generation.unwrap_or(0),
        deleting: meta.deletion_timestamp.is_some(),
        template: object
            .spec
            .template
            .as_ref()
            .and_then(pod_template)
            .map(Arc::new),
    })
}

fn scale_facts(
    resource: &Arc<ScaleResource>,
    scale: &Scale,
    template: Option<Arc<PodTemplate>>,
) -> TargetFacts {
    let meta = &scale.metadata;
    let status = scale.status.as_ref();
    let selector = status
        .and_then(|status| status.selector.as_deref())
        .filter(|text| !text.is_empty());
    TargetFacts {
        resource: resource.clone(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        replicas: scale
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(0),
        status_replicas: status.map_or(0, |status| status.replicas),
        selector: selector.map(str::parse).transpose(),
        resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
        generation: meta.generation.unwrap_or(0),
        deleting: meta.deletion_timestamp.is_some(),
        template,
    }
}

fn template_of(object: &DynamicObject) -> Option<Arc<PodTemplate>> {
    object
        .data
        .pointer("/spec/template")
        .and_then(pod_template)
        .map(Arc::new)
}
