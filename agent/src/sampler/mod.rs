//! The sampler: finds pods, reads what is due, and hands what changed to the active stream.
//!
//! It is one thread of its own, because entering a network namespace moves a thread, and because
//! some of the kernel's files take milliseconds. It wakes when the next reading is due (all intervals fall
//! on one grid, so that few wake-ups serve all), when a pod comes or goes, and when a
//! stream wants something. Time is handed in, so that a test can drive it step by step.

mod batch;
mod container;
mod mailbox;
mod node_series;
mod pod;
mod sockets;
mod spools;
mod usage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use self::batch::Batches;
use self::container::Reading;
pub use self::mailbox::{Mailbox, Outlet, Wishes};
use self::node_series::NodeSeries;
use self::pod::Pod;
use self::sockets::Surroundings;
use self::spools::Spools;
use crate::cgroup::file::Scratch;
use crate::cgroup::tree::Change;
use crate::clock::{BootClock, BootTime};
use crate::directives::{Plan, Settings};
use crate::local::PodSource;
use crate::metrics::Metrics;
use crate::net::namespace::Namespaces;
use crate::node::NodeReader;
use crate::psi_trigger::PsiTrigger;
use crate::series::table::Table;
use crate::spool::Roots;

/// How often the whole tree is looked over, beside inotify.
const SCAN: Duration = Duration::from_secs(1);

/// What the sampler reads from.
pub struct Sources {
    /// Pods and containers.
    pub pods: PodSource,
    /// The node.
    pub node: NodeReader,
    /// Pods' namespaces; none in the restricted profile.
    pub namespaces: Option<Namespaces>,
    /// The node's PSI trigger, if the kernel granted one.
    pub trigger: Option<PsiTrigger>,
    /// Below which directories spools may be read.
    pub spool_roots: Roots,
}

/// The sampler.
pub struct Sampler<C> {
    clock: C,
    sources: Sources,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
    plan: Plan,
    pods: HashMap<Arc<str>, Pod>,
    node: NodeSeries,
    spools: Spools,
    table: Table,
    batches: Batches,
    scratch: Scratch,
    changes: Vec<Change>,
    scan_due: BootTime,
}

/// Whether the sampler goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next reading is due then.
    Until(BootTime),
    /// It was asked to stop.
    Stop,
}

impl<C: BootClock> Sampler<C> {
    /// One that has read nothing yet.
    pub fn new(clock: C, sources: Sources, mailbox: Arc<Mailbox>, metrics: Arc<Metrics>) -> Self {
        let (woken, roots) = (mailbox.clone(), sources.spool_roots.clone());
        Self {
            clock,
            sources,
            mailbox,
            metrics,
            plan: Plan::default(),
            pods: HashMap::new(),
            node: NodeSeries::default(),
            spools: Spools::new(roots, Arc::new(move || woken.nudge())),
            table: Table::default(),
            batches: Batches::default(),
            scratch: Scratch::default(),
            changes: Vec::new(),
            scan_due: BootTime::default(),
        }
    }

    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut fired = false;
        loop {
            match self.step(std::mem::take(&mut fired)) {
                Step::Stop => return Ok(()),
                Step::Until(due) => fired = self.wait(due)?,
            }
        }
    }

    /// Sleeps until `due` or until something happens. Whether the PSI trigger fired.
    fn wait(&self, due: BootTime) -> std::io::Result<bool> {
        let pause = due.since(self.clock.now());
        let timeout = Timespec::try_from(pause).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut fds = Vec::with_capacity(3);
        fds.push(PollFd::new(&*self.mailbox, PollFlags::IN));
        if let Some(pods) = self.sources.pods.as_fd() {
            fds.push(PollFd::from_borrowed_fd(pods, PollFlags::IN));
        }
        if let Some(trigger) = &self.sources.trigger {
            fds.push(PollFd::new(trigger, PollFlags::PRI));
        }
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::PRI)))
    }

    /// Does all that is due now. `pressed`: the node's PSI trigger fired.
    pub fn step(&mut self, pressed: bool) -> Step {
        let began = self.clock.now();
        self.mailbox.stepped(began.as_nanos());
        let wishes = self.mailbox.take();
        if wishes.stop {
            return Step::Stop;
        }
        if let Some(directives) = wishes.directives {
            self.set_plan(&directives, began);
        }
        if let Some(outlet) = wishes.outlet {
            self.batches.set_outlet(outlet, &mut self.table);
            for pod in self.pods.values_mut() {
                pod.forget_told();
            }
            self.spools.forget_told();
        }
        self.find_pods(began);
        if pressed {
            self.metrics.trigger_fired.inc();
            self.batches.pressed();
            self.node.hurry(began);
            self.pods.values_mut().for_each(|pod| pod.hurry(began));
        }
        self.read_sockets(began);
        self.spools.read(began, &mut self.table);
        // What was found in a queue does not wait for the slower files.
        self.send(self.clock.now(), false);
        self.read_cgroups(began);
        self.read_node(began);
        let now = self.clock.now();
        self.send(now, true);
        self.metrics
            .step_seconds
            .observe(now.since(began).as_secs_f64());
        self.metrics
            .series
            .set(i64::try_from(self.table.live()).unwrap_or(i64::MAX));
        self.metrics.set_backwards(self.table.backwards());
        Step::Until(self.due())
    }

    fn due(&self) -> BootTime {
        let pods = self
            .pods
            .values()
            .map(Pod::due)
            .min()
            .unwrap_or(self.scan_due);
        self.scan_due
            .min(pods)
            .min(self.node.due())
            .min(self.spools.due())
            .min(self.batches.due(&self.plan.settings))
    }

    fn set_plan(&mut self, directives: &neap_proto::node::Directives, now: BootTime) {
        let (plan, refused) = Plan::from_wire(directives);
        for refused in &refused {
            tracing::warn!(generation = plan.generation, %refused);
        }
        self.metrics.directives_refused.inc_by(refused.len() as u64);
        self.plan = plan;
        for (uid, pod) in &mut self.pods {
            pod.set_plan(self.plan.pod(uid), now, &mut self.table);
        }
        self.node
            .set_interval(self.plan.settings.node_interval, now, &mut self.table);
        self.spools
            .set_plan(&self.plan.spools, now, &mut self.table);
        self.batches.set_generation(self.plan.generation);
    }

    fn find_pods(&mut self, now: BootTime) {
        if self.scan_due <= now {
            self.scan_due = now.next_multiple(SCAN);
            self.sources.pods.scan(&mut self.changes);
        } else {
            self.sources.pods.follow(&mut self.changes);
        }
        if self.changes.is_empty() {
            return;
        }
        for change in std::mem::take(&mut self.changes) {
            self.apply(change, now);
        }
        self.metrics
            .pods
            .set(i64::try_from(self.pods.len()).unwrap_or(i64::MAX));
        let containers: usize = self.pods.values().map(Pod::containers).sum();
        self.metrics
            .containers
            .set(i64::try_from(containers).unwrap_or(i64::MAX));
    }

    fn apply(&mut self, change: Change, now: BootTime) {
        match change {
            Change::ContainerAppeared {
                pod: uid,
                container,
                path,
            } => {
                let parent = path.parent().map_or_else(PathBuf::new, PathBuf::from);
                // The same pod at another place has other files.
                if self.pods.get(&uid).is_some_and(|pod| pod.path() != parent) {
                    self.remove_pod(&uid);
                }
                if !self.pods.contains_key(&uid) {
                    tracing::debug!(pod = &*uid, "pod appeared");
                    self.metrics.pods_appeared.inc();
                    self.batches.pod_appeared(&uid);
                    let ports = self.sources.pods.ports(&uid);
                    let pod = Pod::new(uid.clone(), parent, self.plan.pod(&uid), ports, now);
                    self.pods.insert(uid.clone(), pod);
                }
                if let Some(pod) = self.pods.get_mut(&uid) {
                    let process = self.sources.pods.pid(&uid, &container);
                    pod.add_container(container, path, process, now);
                }
            }
            Change::ContainerVanished {
                pod: uid,
                container,
            } => {
                if let Some(pod) = self.pods.get_mut(&uid) {
                    pod.remove_container(&container, now, &mut self.table);
                }
            }
            Change::PodVanished { pod: uid } => self.remove_pod(&uid),
        }
    }

    fn remove_pod(&mut self, uid: &Arc<str>) {
        if let Some(mut pod) = self.pods.remove(uid) {
            tracing::debug!(pod = &**uid, "pod vanished");
            pod.end(&mut self.table);
            self.metrics.pods_vanished.inc();
            self.batches.pod_vanished(uid);
        }
    }

    fn read_sockets(&mut self, now: BootTime) {
        let root = self.sources.pods.root();
        let mut surroundings = Surroundings {
            namespaces: self.sources.namespaces.as_ref(),
            root: root.as_deref(),
            buffer: self.scratch.buffer(),
            at: now,
            errors: 0,
        };
        for pod in self.pods.values_mut() {
            surroundings.at = self.clock.now();
            pod.read_sockets(now, &mut surroundings, &mut self.table);
        }
        if surroundings.errors > 0 {
            self.metrics.socket_errors.inc_by(surroundings.errors);
        }
    }

    fn read_cgroups(&mut self, now: BootTime) {
        let clock = &self.clock;
        let mut reading = Reading {
            hierarchies: self.sources.pods.hierarchies(),
            scratch: &mut self.scratch,
            table: &mut self.table,
        };
        for pod in self.pods.values_mut() {
            pod.read_cgroups(now, &|| clock.now(), &mut reading);
        }
    }

    fn read_node(&mut self, now: BootTime) {
        if self.node.due() <= now {
            let at = self.clock.now();
            self.node.read(
                &self.sources.node,
                now,
                at,
                self.scratch.buffer(),
                &mut self.table,
            );
            let namespaces = self
                .pods
                .values()
                .filter(|pod| pod.holds_namespace())
                .count();
            self.metrics
                .namespaces
                .set(i64::try_from(namespaces).unwrap_or(i64::MAX));
        }
    }

    fn send(&mut self, now: BootTime, last: bool) {
        let (pods, spools) = (&mut self.pods, &mut self.spools);
        self.batches.send(
            now,
            last,
            &self.plan.settings,
            &mut self.table,
            &self.metrics,
            |news, names| {
                for (uid, pod) in pods.iter_mut() {
                    pod.take_listening(&mut news.listening);
                    if let Some(names) = &mut *names {
                        names.push((**uid).to_owned());
                    }
                }
                spools.take_problems(&mut news.problems);
            },
        );
    }

    /// Settings in force.
    pub fn settings(&self) -> &Settings {
        &self.plan.settings
    }
}

#[cfg(test)]
#[path = "sampler_test.rs"]
mod tests;
