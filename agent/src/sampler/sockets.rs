//! The sockets of one pod: its namespace, its accept queues, its unix backlogs, and the wait for
//! its first listener.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::{PortListening, SeriesKind};

use crate::clock::BootTime;
use crate::directives::PodPlan;
use crate::net::accept_queue::{AcceptQueue, listens};
use crate::net::diag::DiagSocket;
use crate::net::namespace::{NamespaceId, Namespaces, passive_opens};
use crate::net::unix_backlog::UnixBacklog;
use crate::series::slot::Slot;
use crate::series::table::{Meaning, Table};

/// How often it is looked whether the namespace is still the pod's. One that outlived its pod must
/// be let go, and a sandbox that is made anew has another.
const CHECK: Duration = Duration::from_secs(1);
/// The watch for a first listener: how often, for how long, and how often after.
const WATCH: Duration = Duration::from_millis(20);
const WATCH_FOR: Duration = Duration::from_secs(120);
const WATCH_AFTER: Duration = Duration::from_secs(1);
const PASSIVE_OPENS: Duration = Duration::from_secs(1);

const NEVER: BootTime = BootTime::from_nanos(u64::MAX);

/// What a look needs at hand.
pub(super) struct Surroundings<'a> {
    /// None where namespaces cannot be entered.
    pub(super) namespaces: Option<&'a Namespaces>,
    /// Root of the hierarchy in which pods were found, for cgroup.procs; none where they have no
    /// groups.
    pub(super) root: Option<&'a Path>,
    pub(super) buffer: &'a mut [u8],
    /// When this pod is looked at.
    pub(super) at: BootTime,
    /// Errors of look-ups.
    pub(super) errors: u64,
}

/// All that is looked up in one pod's namespace.
#[derive(Debug)]
pub(super) struct Sockets {
    inside: Option<Inside>,
    check_due: BootTime,
    /// Ports that stand for others: declared, and listened on.
    stand_ins: Vec<(u16, u16)>,
    ports: Vec<Port>,
    unix: Vec<Unix>,
    watched: Vec<Watched>,
    watch_until: BootTime,
    passive_opens: Slot,
    passive_due: BootTime,
    /// The least of all that is due.
    due: BootTime,
    wanted: bool,
}

#[derive(Debug)]
struct Inside {
    id: NamespaceId,
    pid: u32,
    diag: DiagSocket,
    snmp: Option<File>,
}

#[derive(Debug)]
struct Port {
    /// As the pod declares it: what is read is reported under this one.
    declared: u16,
    queue: AcceptQueue,
    interval: Duration,
    due: BootTime,
    backlog: Slot,
    limit: Slot,
    drops: Slot,
}

#[derive(Debug)]
struct Unix {
    path: Arc<str>,
    socket: UnixBacklog,
    interval: Duration,
    due: BootTime,
    backlog: Slot,
    limit: Slot,
}

#[derive(Debug)]
struct Watched {
    port: u16,
    due: BootTime,
    found: Option<BootTime>,
    told: bool,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            inside: None,
            check_due: NEVER,
            stand_ins: Vec::new(),
            ports: Vec::new(),
            unix: Vec::new(),
            watched: Vec::new(),
            watch_until: BootTime::default(),
            passive_opens: Slot::default(),
            passive_due: NEVER,
            due: NEVER,
            wanted: false,
        }
    }
}

impl Sockets {
    /// Nothing is looked up yet. `stand_ins` are listened on in place of declared ports.
    pub(super) fn new(stand_ins: Vec<(u16, u16)>) -> Self {
        Self {
            stand_ins,
            ..Self::default()
        }
    }

    pub(super) fn due(&self) -> BootTime {
        self.due
    }

    pub(super) fn attached(&self) -> bool {
        self.inside.is_some()
    }

    pub(super) fn set_plan(&mut self, plan: &PodPlan, now: BootTime, table: &mut Table) {
        self.wanted = plan.needs_sockets();
        self.ports.retain_mut(|port| {
            let wanted = plan
                .ports
                .iter()
                .find(|(wanted, _)| *wanted == port.declared);
            match wanted {
                Some((_, interval)) => port.set_interval(*interval, now, table),
                None => port.end(table),
            }
            wanted.is_some()
        });
        for (wanted, interval) in &plan.ports {
            if !self.ports.iter().any(|port| port.declared == *wanted) {
                let actual = actual(&self.stand_ins, *wanted);
                self.ports.push(Port::new(*wanted, actual, *interval, now));
            }
        }
        self.unix.retain_mut(|unix| {
            let wanted = plan.sockets.iter().find(|(wanted, _)| *wanted == unix.path);
            match wanted {
                Some((_, interval)) => unix.set_interval(*interval, now, table),
                None => unix.end(table),
            }
            wanted.is_some()
        });
        for (wanted, interval) in &plan.sockets {
            if !self.unix.iter().any(|unix| unix.path == *wanted) {
                self.unix.push(Unix::new(wanted, *interval, now));
            }
        }
        self.watched
            .retain(|watched| plan.watch_listen.contains(&watched.port));
        for port in &plan.watch_listen {
            if !self.watched.iter().any(|watched| watched.port == *port) {
                self.watched.push(Watched {
                    port: *port,
                    due: now,
                    found: None,
                    told: false,
                });
                self.watch_until = now.plus(WATCH_FOR);
            }
        }
        if plan.passive_opens {
            self.passive_due = self.passive_due.min(now);
        } else {
            self.passive_due = NEVER;
            self.passive_opens.end(table);
        }
        if self.wanted {
            self.check_now(now);
        } else {
            self.inside = None;
            self.check_due = NEVER;
            self.due = NEVER;
        }
    }

    /// Checks the namespace at the next step.
    pub(super) fn check_now(&mut self, now: BootTime) {
        if self.wanted {
            self.check_due = now;
            self.due = now;
        }
    }

    pub(super) fn read<'p>(
        &mut self,
        pod: &Arc<str>,
        plan: &PodPlan,
        containers: impl Iterator<Item = (&'p Path, Option<u32>)>,
        now: BootTime,
        surroundings: &mut Surroundings<'_>,
        table: &mut Table,
    ) {
        if self.check_due <= now {
            self.check(plan, containers, now, surroundings, table);
        }
        match self.look(pod, plan, now, surroundings, table) {
            Ok(()) => {}
            Err(error) => {
                surroundings.errors += 1;
                tracing::debug!(pod = &**pod, %error, "a socket look-up failed; the namespace is opened anew");
                self.leave(table);
                self.check_due = now.next_multiple(CHECK);
            }
        }
        self.set_due();
    }

    /// Makes sure that `inside` is the pod's namespace, or none.
    fn check<'p>(
        &mut self,
        plan: &PodPlan,
        containers: impl Iterator<Item = (&'p Path, Option<u32>)>,
        now: BootTime,
        surroundings: &mut Surroundings<'_>,
        table: &mut Table,
    ) {
        self.check_due = now.next_multiple(CHECK);
        let Some(namespaces) = surroundings.namespaces else {
            self.check_due = NEVER;
            return;
        };
        if let Some(inside) = &self.inside
            && namespaces.id_of(inside.pid) == Some(inside.id)
        {
            return;
        }
        let mut found = None;
        for (container, process) in containers {
            let pids = match (process, surroundings.root) {
                (Some(process), _) => vec![process],
                (None, Some(root)) => processes(&root.join(container), surroundings.buffer),
                (None, None) => Vec::new(),
            };
            found = namespaces.of_container(&pids, plan.host_network);
            if found.is_some() {
                break;
            }
        }
        let Some(namespace) = found else {
            self.leave(table);
            if self.watching(now) {
                self.check_due = now.next_multiple(WATCH);
            }
            return;
        };
        if let Some(inside) = &mut self.inside
            && inside.id == namespace.id
        {
            // Another process of the same pod.
            inside.pid = namespace.pid;
            return;
        }
        self.leave(table);
        match namespaces.open_diag(&namespace) {
            Ok(diag) => {
                self.inside = Some(Inside {
                    id: namespace.id,
                    pid: namespace.pid,
                    diag,
                    snmp: None,
                });
            }
            Err(error) => {
                surroundings.errors += 1;
                tracing::debug!(%error, "namespace not opened");
            }
        }
    }

    fn look(
        &mut self,
        pod: &Arc<str>,
        plan: &PodPlan,
        now: BootTime,
        surroundings: &mut Surroundings<'_>,
        table: &mut Table,
    ) -> std::io::Result<()> {
        let Some(inside) = &mut self.inside else {
            self.postpone(now);
            return Ok(());
        };
        let at = surroundings.at;
        for port in &mut self.ports {
            if port.due <= now {
                port.look(pod, &plan.pod_ips, &mut inside.diag, at, table)?;
                port.due = now.next_multiple(port.queue.pace(port.interval));
            }
        }
        for unix in &mut self.unix {
            if unix.due <= now {
                unix.look(pod, &mut inside.diag, at, table)?;
                unix.due = now.next_multiple(unix.interval);
            }
        }
        for watched in &mut self.watched {
            if watched.due > now {
                continue;
            }
            let actual = actual(&self.stand_ins, watched.port);
            if listens(&mut inside.diag, actual, &plan.pod_ips)? {
                watched.found = Some(at);
                watched.due = NEVER;
            } else {
                watched.due = now.next_multiple(if now < self.watch_until {
                    WATCH
                } else {
                    WATCH_AFTER
                });
            }
        }
        if self.passive_due <= now {
            self.passive_due = now.next_multiple(PASSIVE_OPENS);
            if inside.snmp.is_none() {
                let namespaces = surroundings.namespaces;
                inside.snmp =
                    namespaces.and_then(|namespaces| namespaces.open_snmp(inside.pid).ok());
            }
            let buffer = &mut *surroundings.buffer;
            let read = inside
                .snmp
                .as_ref()
                .and_then(|snmp| snmp.read_at(buffer, 0).ok());
            let value = read.and_then(|length| passive_opens(buffer.get(..length)?));
            self.passive_opens.set(table, value, at, || {
                Meaning::of_pod(SeriesKind::PassiveOpens, pod, PASSIVE_OPENS)
            });
        }
        Ok(())
    }

    /// Nothing can be looked up before the namespace is there.
    fn postpone(&mut self, now: BootTime) {
        for due in self
            .ports
            .iter_mut()
            .map(|port| &mut port.due)
            .chain(self.unix.iter_mut().map(|unix| &mut unix.due))
        {
            *due = now;
        }
        if self.passive_due != NEVER {
            self.passive_due = now;
        }
    }

    fn watching(&self, now: BootTime) -> bool {
        now < self.watch_until && self.watched.iter().any(|watched| watched.found.is_none())
    }

    fn set_due(&mut self) {
        self.due = self.check_due;
        if self.inside.is_some() {
            let ports = self.ports.iter().map(|port| port.due);
            let unix = self.unix.iter().map(|unix| unix.due);
            let watched = self.watched.iter().map(|watched| watched.due);
            let least = ports.chain(unix).chain(watched).min().unwrap_or(NEVER);
            self.due = self.due.min(least).min(self.passive_due);
        }
    }

    /// Lets the namespace go, and with it all that was read there.
    fn leave(&mut self, table: &mut Table) {
        self.inside = None;
        self.ports.iter_mut().for_each(|port| port.end(table));
        self.unix.iter_mut().for_each(|unix| unix.end(table));
        self.passive_opens.end(table);
        for watched in &mut self.watched {
            watched.found = None;
            watched.due = BootTime::default();
        }
    }

    pub(super) fn take_listening(&mut self, pod: &Arc<str>, out: &mut Vec<PortListening>) {
        for watched in self.watched.iter_mut().filter(|watched| !watched.told) {
            if let Some(found) = watched.found {
                watched.told = true;
                out.push(PortListening {
                    pod_uid: (**pod).to_owned(),
                    port: watched.port.into(),
                    boottime_ns: found.as_nanos(),
                });
            }
        }
    }

    pub(super) fn forget_told(&mut self) {
        self.watched
            .iter_mut()
            .for_each(|watched| watched.told = false);
    }

    pub(super) fn end(&mut self, table: &mut Table) {
        self.leave(table);
    }
}

impl Port {
    fn new(declared: u16, actual: u16, interval: Duration, now: BootTime) -> Self {
        Self {
            declared,
            queue: AcceptQueue::new(actual),
            interval,
            due: now,
            backlog: Slot::default(),
            limit: Slot::default(),
            drops: Slot::default(),
        }
    }

    fn set_interval(&mut self, interval: Duration, now: BootTime, table: &mut Table) {
        if self.interval != interval {
            self.interval = interval;
            self.due = now;
            [&self.backlog, &self.limit, &self.drops]
                .iter()
                .for_each(|slot| slot.set_interval(table, interval));
        }
    }

    fn look(
        &mut self,
        pod: &Arc<str>,
        pod_ips: &[std::net::IpAddr],
        diag: &mut DiagSocket,
        at: BootTime,
        table: &mut Table,
    ) -> std::io::Result<()> {
        let (port, each) = (self.declared, self.interval);
        let reading = self.queue.read(diag, pod_ips, at)?;
        self.backlog
            .set(table, reading.map(|reading| reading.backlog), at, || {
                Meaning::of_port(SeriesKind::AcceptBacklog, pod, port, each)
            });
        self.limit
            .set(table, reading.map(|reading| reading.limit), at, || {
                Meaning::of_port(SeriesKind::AcceptLimit, pod, port, each)
            });
        self.drops
            .set(table, reading.map(|reading| reading.drops), at, || {
                Meaning::of_port(SeriesKind::AcceptDrops, pod, port, each)
            });
        Ok(())
    }

    fn end(&mut self, table: &mut Table) {
        [&mut self.backlog, &mut self.limit, &mut self.drops]
            .into_iter()
            .for_each(|slot| slot.end(table));
        // Another namespace has other sockets, whose drops are counted anew.
        self.queue = AcceptQueue::new(self.queue.port());
    }
}

impl Unix {
    fn new(path: &Arc<str>, interval: Duration, now: BootTime) -> Self {
        Self {
            path: path.clone(),
            socket: UnixBacklog::new(path),
            interval,
            due: now,
            backlog: Slot::default(),
            limit: Slot::default(),
        }
    }

    fn set_interval(&mut self, interval: Duration, now: BootTime, table: &mut Table) {
        if self.interval != interval {
            self.interval = interval;
            self.due = now;
            [&self.backlog, &self.limit]
                .iter()
                .for_each(|slot| slot.set_interval(table, interval));
        }
    }

    fn look(
        &mut self,
        pod: &Arc<str>,
        diag: &mut DiagSocket,
        at: BootTime,
        table: &mut Table,
    ) -> std::io::Result<()> {
        let each = self.interval;
        let reading = self.socket.read(diag, at)?;
        self.backlog.set(
            table,
            reading.as_ref().map(|socket| socket.backlog.into()),
            at,
            || Meaning::of_socket(SeriesKind::UnixBacklog, pod, &self.path, each),
        );
        self.limit.set(
            table,
            reading.as_ref().map(|socket| socket.limit.into()),
            at,
            || Meaning::of_socket(SeriesKind::UnixLimit, pod, &self.path, each),
        );
        Ok(())
    }

    fn end(&mut self, table: &mut Table) {
        self.backlog.end(table);
        self.limit.end(table);
        self.socket = UnixBacklog::new(&self.path);
    }
}

/// The port to look up for a declared one.
fn actual(stand_ins: &[(u16, u16)], declared: u16) -> u16 {
    stand_ins
        .iter()
        .find(|(of, _)| *of == declared)
        .map_or(declared, |(_, actual)| *actual)
}

/// Process ids in a container's cgroup, or in the groups directly below it: a container that
/// runs an init of its own has its processes there.
fn processes(cgroup: &Path, buffer: &mut [u8]) -> Vec<u32> {
    let mut pids = pids_in(&cgroup.join("cgroup.procs"), buffer);
    if pids.is_empty()
        && let Ok(entries) = std::fs::read_dir(cgroup)
    {
        for entry in entries.filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pids.append(&mut pids_in(&entry.path().join("cgroup.procs"), buffer));
            }
        }
    }
    pids
}

/// The first processes; more than fit the buffer are not needed to find the first one.
fn pids_in(path: &Path, buffer: &mut [u8]) -> Vec<u32> {
    let length = File::open(path)
        .and_then(|file| file.read_at(buffer, 0))
        .unwrap_or(0);
    let bytes = buffer.get(..length).unwrap_or_default();
    let numbers = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(crate::cgroup::parse::number);
    // 0 stands for a process that this pid namespace cannot see.
    numbers
        .filter_map(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid != 0)
        .collect()
}
