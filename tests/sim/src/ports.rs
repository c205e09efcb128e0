//! A coordinator's ports, as clients of the fake API server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use neap_coordinator::clock::{Boottime, Clock};
use neap_coordinator::keys::{LeaderId, TargetKey, TargetRef};
use neap_coordinator::publish::{EventNote, PublishError, Publisher};
use neap_coordinator::scaler::{Scale, ScaleError, Scaler, Written};
use neap_coordinator::source::{Data, ObjectSource, ReadError, SecretReader, SourceError};
use neap_coordinator::world::{ObjectKind, RemovableHpa, World};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::api::{API, Request, Seen, facts};
use crate::bug::Bug;
use crate::load::{NAMESPACE, TARGETS};
use crate::net::{Host, Net, UNORDERED};
use crate::sim::Sim;
use crate::time::{MachineClock, Time};

/// An answer that does not come is waited for so long, where no deadline is given.
const PATIENCE: Duration = Duration::from_secs(5);
/// A write that failed comes once more after this, where that is the bug.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A list that failed is tried again after this.
const LIST_AGAIN: Duration = Duration::from_millis(500);

/// The way of one process to the API server.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) net: Net<Sim>,
    pub(crate) host: Host,
    pub(crate) clock: MachineClock,
    pub(crate) bug: Option<Bug>,
    /// Since when this process has known of a pause, by the simulation's time.
    pub(crate) paused_since: Arc<Mutex<Option<Time>>>,
}

impl Client {
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Sim) -> Result<T, ScaleError> + Send + 'static,
    ) -> Result<T, ScaleError> {
        let (reply, answer) = oneshot::channel();
        let host = self.host;
        self.net.send(host, API, UNORDERED, move |sim: &mut Sim| {
            sim.serve(host, reply, what);
        });
        let broken = || ScaleError::Unreachable("the connection broke".into());
        answer.await.unwrap_or_else(|_| Err(broken()))
    }

    async fn ask_within<T: Send + 'static>(
        &self,
        deadline: Boottime,
        what: impl FnOnce(&mut Sim) -> Result<T, ScaleError> + Send + 'static,
    ) -> Result<T, ScaleError> {
        tokio::select! {
            biased;
            answer = self.ask(what) => answer,
            () = self.clock.sleep_until(deadline) => Err(ScaleError::Timeout),
        }
    }

    fn patience(&self) -> Boottime {
        Clock::boottime(&self.clock) + PATIENCE
    }

    /// What no client does but one with a bug.
    async fn retry(self, request: Request) {
        tokio::time::sleep(RETRY_AFTER).await;
        let request = Request {
            version: None,
            ..request
        };
        drop(
            self.ask(move |sim: &mut Sim| sim.write_scale(request))
                .await,
        );
    }

    async fn publish(&self) -> Result<(), PublishError> {
        let asked = self.ask_within(self.patience(), |_| Ok(())).await;
        asked.map_err(|error| PublishError::Unreachable(error.to_string()))
    }

    fn take_in(&self, world: &World, seen: Seen) {
        match seen {
            Seen::Object { object, paused } => {
                if TARGETS.iter().any(|target| {
                    target.paused.is_some() && object.metadata.name.as_deref() == Some(target.name)
                }) {
                    let now = self.net.inner().now();
                    let mut since = self.paused_since.lock().unwrap();
                    *since = paused.then(|| since.unwrap_or(now));
                }
                world.apply_scaled_object(*object);
            }
            Seen::Target {
                at,
                replicas,
                status,
                version,
            } => {
                let facts = facts(at, replicas, status, version);
                world.apply_target_facts(&TARGETS[at].id(), facts);
            }
            Seen::Pod(pod) => world.apply_pod(pod),
            Seen::PodGone(name) => world.remove_pod(NAMESPACE, &name),
        }
    }
}

fn number_of(target: &TargetRef) -> Result<usize, ScaleError> {
    let known = TARGETS.iter().position(|known| *target.name == *known.name);
    known.ok_or(ScaleError::NotFound)
}

impl Scaler for Client {
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async move {
            let target = number_of(target)?;
            let read = move |sim: &mut Sim| Ok(sim.read_scale(target));
            self.ask_within(self.patience(), read).await
        })
    }

    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        resource_version: &'a str,
        leader: LeaderId,
        deadline: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        Box::pin(async move {
            let request = Request {
                target: number_of(target)?,
                replicas,
                version: Some(resource_version.to_owned()),
                leader,
                host: self.host,
                sent: self.net.inner().now(),
                paused_since: *self.paused_since.lock().unwrap(),
                answered: Arc::default(),
            };
            let answered = request.answered.clone();
            let again = request.clone();
            let write = move |sim: &mut Sim| sim.write_scale(request);
            let result = self.ask_within(deadline, write).await;
            answered.store(result.is_ok(), Ordering::Relaxed);
            if result.is_err() && self.bug == Some(Bug::BlindRetries) {
                tokio::spawn(self.clone().retry(again));
            }
            result
        })
    }
}

impl Publisher for Client {
    fn patch_status<'a>(
        &'a self,
        _: &'a TargetKey,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.publish())
    }

    fn event<'a>(&'a self, _: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.publish())
    }

    fn remove_finalizer<'a>(&'a self, _: &'a TargetKey) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.publish())
    }

    fn remove_hpa<'a>(
        &'a self,
        _: &'a str,
        _: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.publish())
    }
}

/// There are no Secrets and ConfigMaps.
impl SecretReader for Client {
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async { Ok(None) })
    }

    fn config_map<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async { Ok(None) })
    }
}

impl ObjectSource for Client {
    fn run(
        self: Arc<Self>,
        world: Arc<World>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let watching = async move {
            loop {
                let (events, mut watch) = mpsc::unbounded_channel();
                let host = self.host;
                let list = move |sim: &mut Sim| Ok(sim.list(host, events));
                let Ok(listed) = self.ask_within(self.patience(), list).await else {
                    tokio::time::sleep(LIST_AGAIN).await;
                    continue;
                };
                for seen in listed {
                    self.take_in(&world, seen);
                }
                for kind in ObjectKind::ALL {
                    world.mark_synced(kind);
                }
                while let Some(seen) = watch.recv().await {
                    self.take_in(&world, seen);
                }
            }
        };
        Box::pin(async move {
            shutdown.run_until_cancelled(watching).await;
            Ok(())
        })
    }
}
