//! A fake API server: resource versions, optimistic locking, watches, outages, and a Deployment
//! controller that is slow.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use neap_api::ScaledObject;
use neap_coordinator::keys::LeaderId;
use neap_coordinator::scaler::{Scale, ScaleError, Written};
use neap_coordinator::signals::PodUid;
use neap_coordinator::world::{
    Labels, PodFacts, PodPhase, PodShape, Readiness, ScaleResource, TargetFacts,
};
use tokio::sync::{mpsc, oneshot};

use crate::load::{NAMESPACE, TARGETS};
use crate::logs::Basis;
use crate::net::{Channel, Host, UNORDERED};
use crate::sim::Sim;
use crate::time::{Time, micros, ms};

/// The API server's host, after the coordinators'.
pub(crate) const API: Host = 3;

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Nobody listens.
    Refusing,
    /// Requests are taken and never answered; some of them are carried out.
    Hanging,
    /// 429 with Retry-After.
    Throttling,
}

/// What a list or a watch tells a coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Object {
        object: Box<ScaledObject>,
        paused: bool,
    },
    Target {
        at: usize,
        replicas: i32,
        status: i32,
        version: u64,
    },
    Pod(Arc<PodFacts>),
    PodGone(Box<str>),
}

/// A scale write, as a coordinator sends it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) target: usize,
    pub(crate) replicas: i32,
    /// `None`: whatever the version is. No coordinator sends that, unless a bug is put in.
    pub(crate) version: Option<String>,
    pub(crate) leader: LeaderId,
    pub(crate) host: Host,
    pub(crate) sent: Time,
    /// Since when the process has known that the target is paused, if it has.
    pub(crate) paused_since: Option<Time>,
    /// The process has learnt that it was carried out.
    pub(crate) answered: Arc<AtomicBool>,
}

/// A scale write that was carried out.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) from: i32,
    pub(crate) request: Request,
    /// What it rests on; the step out of zero may be here first.
    pub(crate) basis: Option<Basis>,
}

struct Deployment {
    replicas: i32,
    status: i32,
    version: u64,
    /// When the controller brings the pods to what is asked for.
    follows: Option<Time>,
}

struct Watcher {
    events: mpsc::UnboundedSender<Seen>,
    channel: Channel,
}

/// The server's state.
pub(crate) struct Api {
    pub(crate) health: Health,
    version: u64,
    deployments: Vec<Deployment>,
    producers: i32,
    pub(crate) paused: bool,
    watchers: BTreeMap<Host, Watcher>,
    /// Requests that are never answered.
    hung: Vec<Box<dyn Any + Send>>,
    pub(crate) conflicts: u64,
}

impl Api {
    pub(crate) fn new() -> Self {
        let deployments = TARGETS.map(|target| Deployment {
            replicas: target.min.max(1),
            status: target.min.max(1),
            version: 1,
            follows: None,
        });
        Self {
            health: Health::Well,
            version: 1,
            deployments: deployments.into(),
            producers: 1,
            paused: false,
            watchers: BTreeMap::new(),
            hung: Vec::new(),
            conflicts: 0,
        }
    }

    pub(crate) fn replicas(&self, target: usize) -> i32 {
        self.deployments[target].replicas
    }

    fn see_target(&self, at: usize) -> Seen {
        let deployment = &self.deployments[at];
        Seen::Target {
            at,
            replicas: deployment.replicas,
            status: deployment.status,
            version: deployment.version,
        }
    }

    fn see_object(&self, at: usize) -> Seen {
        let paused = self.paused && TARGETS[at].paused.is_some();
        Seen::Object {
            object: Box::new(TARGETS[at].object(self.paused)),
            paused,
        }
    }

    fn everything(&self) -> Vec<Seen> {
        let objects = (0..TARGETS.len()).map(|at| self.see_object(at));
        let targets = (0..TARGETS.len()).map(|at| self.see_target(at));
        let of = |app, count| (0..count).map(move |n| Seen::Pod(Arc::new(pod(app, n))));
        let known = TARGETS.iter().zip(&self.deployments);
        let pods = known.flat_map(|(target, deployment)| of(target.name, deployment.status));
        let producers = of(PRODUCER, self.producers);
        objects
            .chain(targets)
            .chain(pods)
            .chain(producers)
            .collect()
    }
}

/// What is counted for the targets that live on the number of pods.
const PRODUCER: &str = "producer";

fn pod(app: &str, n: i32) -> PodFacts {
    let uid = PodUid::new(&format!("{app}-{n}")).unwrap();
    PodFacts {
        uid: uid.clone(),
        cgroup_uid: uid,
        namespace: NAMESPACE.into(),
        name: format!("{app}-{n}").into(),
        labels: [("app", app)].into_iter().collect::<Labels>(),
        node: None,
        phase: PodPhase::Running,
        deleting: false,
        ready: Readiness::True,
        ready_changed: None,
        started: None,
        started_containers: Box::default(),
        ips: Box::default(),
        shape: Arc::new(PodShape::default()),
        owner: None,
    }
}

/// What a target looks like to a coordinator's world.
pub(crate) fn facts(at: usize, replicas: i32, status: i32, version: u64) -> TargetFacts {
    let name = TARGETS[at].name;
    TargetFacts {
        resource: Arc::new(ScaleResource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        }),
        uid: format!("deployment-{name}").into(),
        replicas,
        status_replicas: status,
        selector: Ok(Some(format!("app={name}").parse().unwrap())),
        resource_version: version.to_string().into(),
        generation: 1,
        deleting: false,
        template: None,
        last_writer: None,
    }
}

impl Sim {
    /// Answers a request of `host`, as the server's health allows.
    pub(crate) fn serve<T: Send + 'static>(
        &mut self,
        host: Host,
        reply: oneshot::Sender<Result<T, ScaleError>>,
        carry_out: impl FnOnce(&mut Self) -> Result<T, ScaleError>,
    ) {
        let answer = match self.api.health {
            Health::Well => carry_out(self),
            Health::Refusing => Err(ScaleError::Unreachable("connection refused".into())),
            Health::Throttling => Err(ScaleError::Throttled {
                retry_after: Duration::from_secs(1),
            }),
            Health::Hanging => {
                if self.random.bool() {
                    drop(carry_out(self));
                }
                self.api.hung.push(Box::new(reply));
                return;
            }
        };
        self.net.send(API, host, UNORDERED, move |_| {
            // A process that has ended, or given up, waits for nothing.
            drop(reply.send(answer));
        });
    }

    /// Everything there is; and what changes from here on goes to `events`.
    pub(crate) fn list(&mut self, host: Host, events: mpsc::UnboundedSender<Seen>) -> Vec<Seen> {
        let channel = self.net.channel();
        self.api.watchers.insert(host, Watcher { events, channel });
        self.api.everything()
    }

    fn tell(&self, seen: &Seen) {
        for (host, watcher) in &self.api.watchers {
            let (events, seen) = (watcher.events.clone(), seen.clone());
            self.net.send(API, *host, watcher.channel, move |_| {
                // A process that has ended watches nothing.
                drop(events.send(seen));
            });
        }
    }

    pub(crate) fn read_scale(&self, target: usize) -> Scale {
        let deployment = &self.api.deployments[target];
        Scale {
            replicas: deployment.replicas,
            status_replicas: deployment.status,
            selector: None,
            resource_version: deployment.version.to_string(),
        }
    }

    pub(crate) fn write_scale(&mut self, request: Request) -> Result<Written, ScaleError> {
        let target = request.target;
        let deployment = &mut self.api.deployments[target];
        let observed = deployment.version.to_string();
        if request
            .version
            .as_ref()
            .is_some_and(|version| *version != observed)
        {
            self.api.conflicts += 1;
            self.trace.note(format_args!(
                "api: conflict: {} {} -> {} by {} of coordinator {}",
                TARGETS[target].name,
                deployment.replicas,
                request.replicas,
                request.leader,
                request.host
            ));
            return Err(ScaleError::Conflict);
        }
        let from = std::mem::replace(&mut deployment.replicas, request.replicas);
        self.api.version += 1;
        deployment.version = self.api.version;
        deployment.follows = Some(self.now + micros(ms(self.random.u64(300..1_500))));
        let written = Written {
            replicas: request.replicas,
            resource_version: deployment.version.to_string(),
        };
        self.trace.note(format_args!(
            "api: write: {} {from} -> {} by {} of coordinator {}, sent {} ms ago",
            TARGETS[target].name,
            request.replicas,
            request.leader,
            request.host,
            (self.now - request.sent) / 1_000
        ));
        let seen = self.api.see_target(target);
        self.tell(&seen);
        let logs = &self.checks.logs;
        let basis = logs.basis(request.leader, TARGETS[target].name, request.replicas);
        self.check_write(Write {
            from,
            request,
            basis,
        });
        Ok(written)
    }

    /// The controller's part, and the load that consists of pods.
    pub(crate) fn step_api(&mut self) {
        for at in 0..TARGETS.len() {
            let deployment = &mut self.api.deployments[at];
            if deployment.follows.is_none_or(|due| self.now < due) {
                continue;
            }
            deployment.follows = None;
            if deployment.status == deployment.replicas {
                continue;
            }
            let before = std::mem::replace(&mut deployment.status, deployment.replicas);
            let after = deployment.status;
            self.api.version += 1;
            self.api.deployments[at].version = self.api.version;
            self.change_pods(TARGETS[at].name, before, after);
            let seen = self.api.see_target(at);
            self.tell(&seen);
        }
    }

    fn change_pods(&mut self, app: &str, before: i32, after: i32) {
        for n in before..after {
            self.tell(&Seen::Pod(Arc::new(pod(app, n))));
        }
        for n in (after..before).rev() {
            self.tell(&Seen::PodGone(pod(app, n).name));
        }
    }

    /// So many pods of the workload that is counted.
    pub(crate) fn set_producers(&mut self, count: i32) {
        let before = std::mem::replace(&mut self.api.producers, count);
        self.change_pods(PRODUCER, before, count);
    }

    /// Someone pauses what can be paused, or lets it go on.
    pub(crate) fn pause_targets(&mut self, paused: bool) {
        self.api.paused = paused;
        self.trace.note(format_args!("user: paused: {paused}"));
        for at in 0..TARGETS.len() {
            if TARGETS[at].paused.is_some() {
                let seen = self.api.see_object(at);
                self.tell(&seen);
            }
        }
    }
}
