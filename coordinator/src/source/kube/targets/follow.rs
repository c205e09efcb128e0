//! One watch per resource and part of the scope, started and stopped as targets come and go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use tokio_util::sync::CancellationToken;

use super::shared::{Shared, lock};
use super::sinks::{CustomSink, TargetSink, WorkloadSink};
use crate::clock::Clock;
use crate::source::kube::discovery::Discovery;
use crate::source::kube::follow::{Watch, follow};
use crate::source::kube::lean::LeanWorkload;
use crate::source::kube::scope::Scope;
use crate::world::{ScaleResource, TargetId, TargetProblem, TargetState, World};

/// How often a kind that could not be resolved, or an object that could not be read, is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Follows the targets that a world asks for.
pub(in crate::source::kube) struct Targets {
    pub(in crate::source::kube) client: kube::Client,
    pub(in crate::source::kube) world: Arc<World>,
    pub(in crate::source::kube) discovery: Arc<Discovery>,
    pub(in crate::source::kube) scope: Scope,
    pub(in crate::source::kube) clock: Arc<dyn Clock>,
}

/// A resource that is followed.
struct Followed {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Targets {
    /// Follows until `shutdown`.
    pub(in crate::source::kube) async fn run(self, shutdown: CancellationToken) {
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
