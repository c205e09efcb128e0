//! Keeps as many replicas running as each workload's scale says, and shows them to the world as pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::forward::{Endpoint, Endpoints, Forwarders};
use super::ids::{random_hex, random_uid};
use super::objects::Scaled;
use super::pod::{self, PodEvent, PodPort, PodSpec, Shared};
use super::replica::{Replica, RunningPod};
use super::report::{ReplicaChange, Report};
use super::workload::{Workload, WorkloadId, WorkloadKind};
use super::{logs, shown};
use crate::scaler::local::workload_id;
use crate::source::kube::Given;
use crate::world::{ObjectKind, TargetProblem, World};

/// Events that wait to be taken in.
const EVENTS: usize = 1_024;
/// Logs are looked at this often.
const LOGS_EACH: Duration = Duration::from_secs(30);

/// Is told of all pods whenever they change.
pub(super) type OnPods = Arc<dyn Fn(Vec<RunningPod>) + Send + Sync>;

/// An event, and the UID of its pod.
type Told = (String, PodEvent);

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    world: Arc<World>,
    state_dir: PathBuf,
    on_pods: OnPods,
    given: Given,
    pods: BTreeMap<String, Replica>,
    created: u64,
    endpoints: watch::Sender<Arc<Vec<Endpoint>>>,
    forwarders: Forwarders,
    events: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<Shared>,
        world: Arc<World>,
        state_dir: PathBuf,
        on_pods: OnPods,
    ) -> Self {
        let (endpoints, receive): (_, Endpoints) = watch::channel(Arc::default());
        let forwarders = Forwarders::new(shared.clock.clone(), shared.reports.clone(), receive);
        Self {
            shared,
            world,
            state_dir,
            on_pods,
            given: Given::default(),
            pods: BTreeMap::new(),
            created: 0,
            endpoints,
            forwarders,
            events: mpsc::channel(EVENTS),
        }
    }

    /// Runs until `stop` is cancelled, and then until everything it started has ended.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut objects = self.shared.objects.changes();
        let mut wanted = self.world.wanted_targets_changed();
        self.world.mark_synced(ObjectKind::Pods);
        let clock = self.shared.clock.clone();
        let mut look = clock.sleep_until(clock.boottime());
        loop {
            self.reconcile();
            self.show_targets();
            tokio::select! {
                () = stop.cancelled() => break,
                changed = objects.changed() => if changed.is_err() { break },
                changed = wanted.changed() => if changed.is_err() { break },
                event = self.events.1.recv() => if let Some((uid, event)) = event { self.take(&uid, event) },
                () = &mut look => {
                    logs::trim(&self.shared.logs, self.pods.len());
                    look = clock.sleep_until(clock.boottime() + LOGS_EACH);
                }
            }
        }
        let all: Vec<String> = self.pods.keys().cloned().collect();
        for uid in all {
            self.delete(&uid);
        }
        while !self.pods.is_empty() {
            let Some((uid, event)) = self.events.1.recv().await else {
                break;
            };
            self.take(&uid, event);
        }
    }

    /// Starts and stops replicas so that there are as many as wanted.
    fn reconcile(&mut self) {
        let workloads = self.shared.objects.workloads();
        let known: BTreeSet<&WorkloadId> =
            workloads.iter().map(|scaled| &scaled.workload.id).collect();
        let gone: Vec<String> = self
            .pods
            .values()
            .filter(|replica| !known.contains(&replica.id) && !replica.deleting)
            .map(|replica| replica.spec.uid.clone())
            .collect();
        for uid in gone {
            self.delete(&uid);
        }
        for scaled in &workloads {
            match scaled.workload.id.kind {
                WorkloadKind::Deployment => self.arrange_deployment(scaled),
                WorkloadKind::StatefulSet => self.arrange_stateful_set(scaled),
            }
            let existing = self.of(&scaled.workload.id).count();
            let existing = i32::try_from(existing).unwrap_or(i32::MAX);
            self.shared
                .objects
                .set_existing(&scaled.workload.id, existing);
        }
        self.forwarders.arrange(&self.shared.objects.services());
    }

    /// The replicas of a workload that are to stay.
    fn of(&self, id: &WorkloadId) -> impl Iterator<Item = &Replica> {
        let id = id.clone();
        self.pods
            .values()
            .filter(move |replica| replica.id == id && !replica.deleting)
    }

    fn arrange_deployment(&mut self, scaled: &Scaled) {
        let (workload, wanted) = (&scaled.workload, count(scaled.replicas));
        let is_current =
            |replica: &&Replica| replica.spec.workload.template_hash == workload.template_hash;
        let (mut current, outdated): (Vec<&Replica>, Vec<&Replica>) =
            self.of(&workload.id).partition(is_current);
        // Those that serve longest stay; what is not ready goes first.
        current.sort_by_key(|replica| (!replica.is_ready(), replica.order));
        let ready = current.iter().filter(|replica| replica.is_ready()).count();
        let surplus = current.iter().skip(wanted);
        // Replicas of a former template serve until as many of the new one do.
        let replaced = outdated
            .iter()
            .filter(|replica| ready >= wanted || !replica.is_ready());
        let going: Vec<String> = surplus
            .chain(replaced)
            .map(|replica| replica.spec.uid.clone())
            .collect();
        let missing = wanted.saturating_sub(current.len());
        for uid in going {
            self.delete(&uid);
        }
        for _ in 0..missing {
            let name = format!("{}-{}", workload.id.key.name, random_hex(3));
            self.create(workload, name, None);
        }
    }

    fn arrange_stateful_set(&mut self, scaled: &Scaled) {
        let (workload, wanted) = (&scaled.workload, count(scaled.replicas));
        let all: Vec<(u32, String, bool, bool, bool)> = self
            .pods
            .values()
            .filter(|replica| replica.id == workload.id)
            .map(|replica| {
                let current = replica.spec.workload.template_hash == workload.template_hash;
                (
                    replica.ordinal.unwrap_or(0),
                    replica.spec.uid.clone(),
                    replica.is_ready(),
                    replica.deleting,
                    current,
                )
            })
            .collect();
        // The highest number goes first; in order, only once the one above it has gone.
        let going = all.iter().any(|(.., deleting, _)| *deleting);
        let mut surplus: Vec<_> = all
            .iter()
            .filter(|(ordinal, .., deleting, _)| *ordinal as usize >= wanted && !*deleting)
            .collect();
        surplus.sort_by_key(|(ordinal, ..)| std::cmp::Reverse(*ordinal));
        let at_once = match (workload.parallel, going) {
            (true, _) => surplus.len(),
            (false, true) => 0,
            (false, false) => 1,
        };
        for (_, uid, ..) in surplus.iter().take(at_once) {
            self.delete(uid);
        }
        for ordinal in 0..u32::try_from(wanted).unwrap_or(u32::MAX) {
            let known = all.iter().find(|(number, ..)| *number == ordinal);
            match known {
                None => {
                    let name = format!("{}-{ordinal}", workload.id.key.name);
                    self.create(workload, name, Some(ordinal));
                }
                Some((_, uid, _, false, false)) if !going => {
                    // Its template is a former one; the next look makes it anew.
                    self.delete(uid);
                    return;
                }
                Some(_) => {}
            }
            let waits = !known.is_some_and(|(_, _, ready, ..)| *ready);
            if !workload.parallel && waits {
                return;
            }
        }
    }

    fn create(&mut self, workload: &Arc<Workload>, name: String, ordinal: Option<u32>) {
        let declared = workload
            .containers()
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .filter(|port| {
                port.protocol
                    .as_deref()
                    .is_none_or(|protocol| protocol == "TCP")
            })
            .filter_map(|port| u16::try_from(port.container_port).ok());
        let mut ports: Vec<PodPort> = Vec::new();
        for declared in declared {
            let Some(actual) = self.free_port(&ports) else {
                self.shared
                    .reports
                    .note(format!("no port of this machine is free for pod {name}"));
                return;
            };
            ports.push(PodPort { declared, actual });
        }
        let uid = random_uid();
        let spec = Arc::new(PodSpec {
            uid: uid.clone(),
            name,
            namespace: workload.id.key.namespace.to_string(),
            workload: workload.clone(),
            ports,
            state_dir: self.state_dir.clone(),
        });
        let stop = CancellationToken::new();
        let now = self.shared.clock.wall();
        self.created += 1;
        let containers = workload.containers().len();
        let replica = Replica {
            spec: spec.clone(),
            id: workload.id.clone(),
            ordinal,
            order: self.created,
            stop: stop.clone(),
            deleting: false,
            containers: vec![None; containers],
            ready: vec![false; containers],
            started: now,
            ready_changed: now,
            shown_ready: false,
        };
        self.pods.insert(uid.clone(), replica);
        // Told before it runs: the agent finds its group at once, and asks then which ports stand for its own.
        self.show(&uid);
        tokio::spawn(pod::run(
            spec,
            self.shared.clone(),
            stop,
            self.events.0.clone(),
        ));
    }

    /// A port that nobody listens on. Between this look and the replica's own bind another program
    /// may take it; then the replica ends, is started again, and says so.
    fn free_port(&self, own: &[PodPort]) -> Option<u16> {
        let taken = |port: u16| {
            let pods = self.pods.values().flat_map(|replica| &replica.spec.ports);
            pods.chain(own).any(|known| known.actual == port)
        };
        (0..64)
            .filter_map(|_| {
                let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
                probe.local_addr().ok().map(|address| address.port())
            })
            .find(|port| !taken(*port))
    }

    fn delete(&mut self, uid: &str) {
        if let Some(replica) = self.pods.get_mut(uid)
            && !replica.deleting
        {
            replica.deleting = true;
            self.say(uid, ReplicaChange::Stopping);
            // Out of the Services first: connections that come now go elsewhere.
            self.show(uid);
            if let Some(replica) = self.pods.get(uid) {
                replica.stop.cancel();
            }
        }
    }

    fn say(&self, uid: &str, change: ReplicaChange) {
        if let Some(replica) = self.pods.get(uid) {
            self.shared.reports.say(Report::Replica {
                workload: replica.id.to_string(),
                pod: format!("{}/{}", replica.spec.namespace, replica.spec.name),
                change,
                detail: String::new(),
            });
        }
    }

    fn take(&mut self, uid: &str, event: PodEvent) {
        let Some(replica) = self.pods.get_mut(uid) else {
            return;
        };
        let slot = |at: usize, replica: &mut Replica| at < replica.containers.len();
        match event {
            PodEvent::Started { container, id, pid } if slot(container, replica) => {
                replica.containers[container] = Some((id, pid, true));
            }
            PodEvent::Exited { container } if slot(container, replica) => {
                replica.ready[container] = false;
                if let Some((.., runs)) = &mut replica.containers[container] {
                    *runs = false;
                }
            }
            PodEvent::Ready { container, ready } if slot(container, replica) => {
                replica.ready[container] = ready;
            }
            PodEvent::Gone => {
                self.say(uid, ReplicaChange::Stopped);
                if let Some(replica) = self.pods.remove(uid) {
                    self.world
                        .remove_pod(&replica.spec.namespace, &replica.spec.name);
                }
                self.tell();
                return;
            }
            _ => return,
        }
        self.show(uid);
    }

    /// Shows a replica to the world as a pod.
    fn show(&mut self, uid: &str) {
        let now = self.shared.clock.wall();
        let Some(replica) = self.pods.get_mut(uid) else {
            return;
        };
        let ready = replica.is_ready();
        let turned = ready != replica.shown_ready;
        if turned {
            replica.ready_changed = now;
            replica.shown_ready = ready;
        }
        let pod = shown::as_pod(replica, now);
        if let Some(facts) = self.given.pod(pod) {
            self.world.apply_pod(Arc::new(facts));
        }
        if turned {
            let change = if ready {
                ReplicaChange::Ready
            } else {
                ReplicaChange::NotReady
            };
            self.say(uid, change);
        }
        self.tell();
    }

    /// Tells the agent and the Services.
    fn tell(&self) {
        (self.on_pods)(self.pods.values().map(Replica::running).collect());
        let ready = self.pods.values().filter(|replica| replica.is_ready());
        let endpoints = ready.map(Replica::endpoint).collect::<Vec<_>>();
        self.endpoints.send_if_modified(|known| {
            let changed = **known != endpoints;
            if changed {
                *known = Arc::new(endpoints);
            }
            changed
        });
    }

    /// Shows the scales of what ScaledObjects name.
    fn show_targets(&self) {
        for (id, reference) in self.world.wanted_targets() {
            let Ok(workload) = workload_id(&reference) else {
                let problem = TargetProblem::NoScaleSubresource {
                    api_version: if reference.group.is_empty() {
                        reference.version.to_string()
                    } else {
                        format!("{}/{}", reference.group, reference.version)
                    },
                    kind: reference.kind.to_string(),
                    allowed: "Deployment, StatefulSet of apps/v1".to_owned(),
                };
                self.world.apply_target_problem(&id, problem);
                continue;
            };
            let facts = self.shared.objects.workload(&workload).and_then(|scaled| {
                self.given
                    .workload(&shown::resource(workload.kind), shown::as_object(&scaled))
            });
            match facts {
                Some(facts) => self.world.apply_target_facts(&id, facts),
                None => {
                    let problem = TargetProblem::NotFound {
                        kind: workload.kind.as_str().to_owned(),
                        namespace: workload.key.namespace.to_string(),
                        name: workload.key.name.to_string(),
                    };
                    self.world.apply_target_problem(&id, problem);
                }
            }
        }
    }
}

fn count(replicas: i32) -> usize {
    usize::try_from(replicas).unwrap_or(0)
}
