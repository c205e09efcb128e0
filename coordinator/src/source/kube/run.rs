//! [`KubeSource`]: all watches together.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::discovery::Discovery;
use super::follow::{Sink, Watch, follow};
use super::keda_lease::{KEDA_LEASE, KedaWatch, LeaseSink};
use super::objects::{
    AuthenticationSink, ClusterAuthenticationSink, HpaSink, PodSink, Progress, ScaledObjectSink,
};
use super::pod_facts::PodTrimmer;
use super::scope::{Scope, api_of};
use super::targets::Targets;
use crate::clock::Clock;
use crate::source::{ObjectSource, SourceError};
use crate::world::{ObjectKind, World};

/// Fills a world from an API server.
pub struct KubeSource {
    client: Client,
    scope: Scope,
    keda: Scope,
    discovery: Arc<Discovery>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSource")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl KubeSource {
    /// Watches `scope` through `client`, and looks in `keda` for the Lease of KEDA's operator: it
    /// may live outside the scope and own what is in it. Kinds are looked up in `discovery`, which
    /// the scaler shares.
    pub fn new(
        client: Client,
        scope: Scope,
        keda: Scope,
        discovery: Arc<Discovery>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            scope,
            keda,
            discovery,
            clock,
        }
    }

    /// Starts one watch per part of the scope.
    fn start<K, S>(
        self: &Arc<Self>,
        run: &mut Run,
        name: &'static str,
        only: Option<&'static str>,
        sinks: impl Iterator<Item = (Option<Arc<str>>, S)>,
    ) where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
        S: Sink<Object = K> + Send + 'static,
        S::Key: Send,
    {
        for (part, mut sink) in sinks {
            let (this, shutdown) = (self.clone(), run.shutdown.clone());
            let watch = Watch {
                name: name.into(),
                api: api_of::<K>(&self.client, part.as_deref()),
                only,
            };
            run.tasks.spawn(async move {
                follow(watch, &mut sink, this.clock.as_ref(), &shutdown).await
            });
        }
    }
}

struct Run {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl ObjectSource for KubeSource {
    fn run(
        self: Arc<Self>,
        world: Arc<World>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let parts = self.scope.parts();
            let mut run = Run {
                tasks: JoinSet::new(),
                shutdown: shutdown.clone(),
            };
            let progress = |kind, optional| {
                parts
                    .iter()
                    .cloned()
                    .zip(Progress::for_parts(&world, kind, parts.len(), optional))
            };

            let sinks = progress(ObjectKind::ScaledObjects, false).map(|(part, progress)| {
                (
                    part.clone(),
                    ScaledObjectSink {
                        world: world.clone(),
                        part,
                        progress,
                    },
                )
            });
            self.start(&mut run, ObjectKind::ScaledObjects.name(), None, sinks);

            let sinks = progress(ObjectKind::Pods, false).map(|(part, progress)| {
                let trimmer = PodTrimmer::default();
                (
                    part.clone(),
                    PodSink {
                        world: world.clone(),
                        part,
                        progress,
                        trimmer,
                    },
                )
            });
            self.start(&mut run, ObjectKind::Pods.name(), None, sinks);

            let sinks = progress(ObjectKind::Hpas, false).map(|(part, progress)| {
                (
                    part.clone(),
                    HpaSink {
                        world: world.clone(),
                        part,
                        progress,
                    },
                )
            });
            self.start(&mut run, ObjectKind::Hpas.name(), None, sinks);

            let sinks =
                progress(ObjectKind::TriggerAuthentications, true).map(|(part, progress)| {
                    (
                        part.clone(),
                        AuthenticationSink {
                            world: world.clone(),
                            part,
                            progress,
                        },
                    )
                });
            self.start(
                &mut run,
                ObjectKind::TriggerAuthentications.name(),
                None,
                sinks,
            );

            let kind = ObjectKind::ClusterTriggerAuthentications;
            for progress in Progress::for_parts(&world, kind, 1, true) {
                let mut sink = ClusterAuthenticationSink {
                    world: world.clone(),
                    progress,
                };
                let watch = Watch {
                    name: kind.name().into(),
                    api: Api::all(self.client.clone()),
                    only: None,
                };
                let (this, shutdown) = (self.clone(), shutdown.clone());
                run.tasks.spawn(async move {
                    follow(watch, &mut sink, this.clock.as_ref(), &shutdown).await
                });
            }

            let keda = Arc::new(KedaWatch::new(world.clone(), self.clock.clone()));
            let parts = self.keda.parts();
            let progress = Progress::for_parts(&world, ObjectKind::KedaLease, parts.len(), true);
            let sinks = parts.iter().cloned().zip(progress).map(|(part, progress)| {
                let sink = LeaseSink::new(keda.clone(), part.clone(), progress);
                (part, sink)
            });
            self.start::<Lease, _>(
                &mut run,
                ObjectKind::KedaLease.name(),
                Some(KEDA_LEASE),
                sinks,
            );
            run.tasks.spawn({
                let shutdown = shutdown.clone();
                async move { keda.tell(shutdown).await }
            });

            let targets = Targets {
                client: self.client.clone(),
                world: world.clone(),
                discovery: self.discovery.clone(),
                scope: self.scope.clone(),
                clock: self.clock.clone(),
            };
            run.tasks.spawn(targets.run(shutdown.clone()));

            while let Some(ended) = run.tasks.join_next().await {
                if let Err(error) = ended
                    && !shutdown.is_cancelled()
                {
                    shutdown.cancel();
                    return Err(SourceError::Unusable(format!("a watch ended: {error}")));
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
