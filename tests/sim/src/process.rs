//! Coordinators: each process is a runtime of its own with the whole service in it, moved on step by
//! step, so that it can be killed, stopped and suspended as a process can.

use std::collections::VecDeque;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use neap_consensus::ports::{MemoryDisk, Ports as LogPorts, Storage};
use neap_consensus::{Bootstrap, Config, Consensus, LeaderId, PeerConfig, PeerTls};
use neap_coordinator::clock::Clock;
use neap_coordinator::decide::{DecideSettings, FORMAT};
use neap_coordinator::poll::PollLimits;
use neap_coordinator::signals::{SignalLimits, SignalStore};
use neap_coordinator::world::World;
use neap_coordinator::{Ports, Service, ServiceConfig};
use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{NODES, Report, Streams};
use crate::bug::Bug;
use crate::load::REVERSAL_HOLD;
use crate::net::Host;
use crate::ports::Client;
use crate::sim::{COORDINATORS, Sim};
use crate::stream::{SimTransport, address};
use crate::time::{MachineClock, Time, micros, ms};

/// A commit takes so long on a healthy disk.
pub(crate) const COMMIT: Duration = ms(2);
/// A snapshot is taken after so many entries: often enough that followers need one.
const SNAPSHOT_EVERY: u64 = 40;
/// How much a forgetful disk forgets.
const FORGETS: Duration = ms(1_500);

/// A host for a coordinator: what stays when its process goes.
pub(crate) struct Coordinator {
    pub(crate) disk: MemoryDisk,
    /// How far the wall is ahead, in microseconds.
    pub(crate) wall: Arc<AtomicI64>,
    pub(crate) process: Option<Process>,
    pub(crate) starts_at: Option<Time>,
    /// What a forgetful disk will come back with.
    older: VecDeque<(Time, MemoryDisk)>,
}

/// A running coordinator.
pub(crate) struct Process {
    runtime: Runtime,
    clock: MachineClock,
    began: Instant,
    started: Time,
    /// How far this process's clock is behind, for the time in which its machine slept.
    behind: Duration,
    handles: Arc<OnceLock<Handles>>,
    shutdown: CancellationToken,
    ended: Arc<Mutex<Option<Result<(), String>>>>,
    stopped: Option<Stop>,
    pub(crate) inbox: Vec<Report>,
    streams: Streams,
    pub(crate) leading: Option<LeaderId>,
    leads_since: Time,
    /// When each agent was heard last.
    heard: [Time; NODES],
}

struct Handles {
    consensus: Consensus,
    store: Arc<SignalStore>,
}

struct Stop {
    since: Time,
    /// The machine sleeps, and CLOCK_MONOTONIC with it; else the process alone is stopped.
    asleep: bool,
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        Self {
            disk: MemoryDisk::new(COMMIT),
            wall: Arc::default(),
            process: None,
            starts_at: Some(0),
            older: VecDeque::new(),
        }
    }

    /// Notes what a forgetful disk will remember.
    fn remember(&mut self, now: Time) {
        let due = self
            .older
            .back()
            .is_none_or(|(at, _)| now - at >= micros(ms(100)));
        if due {
            self.older.push_back((now, self.disk.copy()));
            while self.older.len() > 1 && now - self.older[1].0 >= micros(FORGETS) {
                self.older.pop_front();
            }
        }
    }
}

/// A coordinator's pod.
fn name(host: Host) -> String {
    format!("neap-coordinator-{host}")
}

fn host_of(name: &str) -> Option<Host> {
    name.rsplit_once('-')?.1.parse().ok()
}

fn config(host: Host) -> ServiceConfig {
    let unused = PeerTls {
        ca: String::new(),
        certificate: String::new(),
        key: String::new(),
    };
    let members = (0..COORDINATORS).map(|host| (name(host), address(host).to_string()));
    let mut consensus = Config::single("", FORMAT);
    consensus.snapshot_every = SNAPSHOT_EVERY;
    consensus.peer = Some(PeerConfig {
        name: name(host),
        listen: address(host),
        advertise: address(host).to_string(),
        bootstrap: Bootstrap {
            members: members.collect(),
            leaving: Vec::new(),
            form_without_minority_after: Duration::from_secs(60),
        },
        tls: watch::Sender::new(Arc::new(unused)).subscribe(),
    });
    let mut decide = DecideSettings::default();
    decide.engine.reversal_hold = REVERSAL_HOLD;
    ServiceConfig {
        consensus,
        decide,
        signals: SignalLimits::default(),
        polls: PollLimits::default(),
        namespace: "neap".into(),
        history: None,
    }
}

impl Sim {
    fn start(&mut self, host: Host) {
        self.trace.note(format_args!("coordinator {host}: starts"));
        let seed = self.random.u64(..);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .unwrap();
        let coordinator = &mut self.coordinators[host];
        let (clock, began) = {
            let _inside = runtime.enter();
            let booted = 1_000_000_000 + 77_000_000_000 * i64::try_from(host).unwrap();
            let clock = MachineClock::new(self.now, booted, coordinator.wall.clone());
            (clock, Instant::now())
        };
        let client = Arc::new(Client {
            net: self.net.clone(),
            host,
            clock: clock.clone(),
            bug: self.bug,
            paused_since: Arc::default(),
        });
        let ports = Ports {
            source: client.clone(),
            scaler: client.clone(),
            publisher: client.clone(),
            secrets: client,
            clock: Arc::new(clock.clone()),
        };
        let log = LogPorts {
            transport: Arc::new(SimTransport {
                net: self.net.clone(),
                host,
            }),
            tls: false,
            storage: Storage::Memory(coordinator.disk.clone()),
            before_commit: None,
            draw: Some(self.random.u64(..)),
        };
        let (handles, shutdown) = (Arc::new(OnceLock::new()), CancellationToken::new());
        let ended = Arc::new(Mutex::new(None));
        let running = {
            let (handles, shutdown) = (handles.clone(), shutdown.clone());
            let log_clock = Arc::new(clock.clone());
            async move {
                let world = Arc::new(World::new());
                let service = Service::start_on(config(host), ports, world, log, log_clock).await?;
                let _ = handles.set(Handles {
                    consensus: service.consensus.clone(),
                    store: service.store.clone(),
                });
                service.until(shutdown).await
            }
        };
        let end = ended.clone();
        runtime.spawn(async move {
            let result = running.await.map_err(|error| error.to_string());
            *end.lock().unwrap() = Some(result);
        });
        coordinator.starts_at = None;
        coordinator.process = Some(Process {
            runtime,
            clock,
            began,
            started: self.now,
            behind: Duration::ZERO,
            handles,
            shutdown,
            ended,
            stopped: None,
            inbox: Vec::new(),
            streams: Streams::default(),
            leading: None,
            leads_since: 0,
            heard: [0; NODES],
        });
    }

    /// Ends a process at once, whatever it is doing, and has it started again at `again`.
    pub(crate) fn kill(&mut self, host: Host, again: Time) {
        let coordinator = &mut self.coordinators[host];
        coordinator.starts_at = Some(again);
        self.net.inner().close_all(host);
        if coordinator.process.take().is_some()
            && self.bug == Some(Bug::ForgetfulDisks)
            && let Some((_, disk)) = coordinator.older.pop_front()
        {
            coordinator.disk = disk;
            coordinator.older.clear();
        }
    }

    /// Asks a process to end in order.
    pub(crate) fn terminate(&mut self, host: Host) {
        if let Some(process) = &self.coordinators[host].process {
            process.shutdown.cancel();
        }
    }

    /// Stops a process, or has its machine sleep, until [`Self::resume`].
    pub(crate) fn stop(&mut self, host: Host, asleep: bool) {
        let since = self.now;
        if let Some(process) = &mut self.coordinators[host].process {
            process.stopped.get_or_insert(Stop { since, asleep });
        }
    }

    pub(crate) fn resume(&mut self, host: Host) {
        let Some(process) = &mut self.coordinators[host].process else {
            return;
        };
        let Some(stop) = process.stopped.take() else {
            return;
        };
        let span = Duration::from_micros(self.now - stop.since);
        if stop.asleep {
            process.behind += span;
            if self.bug != Some(Bug::StandingClocks) {
                process.clock.slept(span);
            }
        } else {
            process.runtime.block_on(tokio::time::advance(span));
        }
        self.checks.stops.push((host, stop.since, self.now));
    }

    /// Moves every process on to the present, and looks at what it has come to.
    pub(crate) fn step_coordinators(&mut self) {
        for host in 0..COORDINATORS {
            if self.bug == Some(Bug::ForgetfulDisks) {
                self.coordinators[host].remember(self.now);
            }
            if self.coordinators[host].process.is_none() {
                let due = self.coordinators[host].starts_at;
                let powered = self.net.inner().has_power(host);
                if due.is_some_and(|due| due <= self.now) && powered {
                    self.start(host);
                }
                continue;
            }
            self.step_coordinator(host);
        }
        self.check_leases();
        self.check_logs();
    }

    fn step_coordinator(&mut self, host: Host) {
        let now = self.now;
        let Some(process) = &mut self.coordinators[host].process else {
            return;
        };
        if process.stopped.is_some() {
            return;
        }
        let reports = std::mem::take(&mut process.inbox);
        let mut answers = Vec::new();
        if let Some(handles) = process.handles.get() {
            let _inside = process.runtime.enter();
            let at = Clock::boottime(&process.clock);
            let leader = handles.consensus.leadership().borrow().leader.clone();
            let leader = leader.and_then(|leader| host_of(&leader.name));
            // A leader closes its streams when its lease ends.
            let leader = if leader == Some(host) && handles.consensus.lease().is_none() {
                None
            } else {
                Some(leader)
            };
            for report in reports {
                if let Some(session) = process.streams.take(&report, &handles.store, at) {
                    process.heard[report.agent] = now;
                    answers.push((report.agent, session, leader));
                }
            }
        }
        let awake = Duration::from_micros(now - process.started) - process.behind;
        let until = process.began + awake;
        // Made inside the runtime, whose clock it looks at.
        let step = async move { tokio::time::sleep_until(until).await };
        process.runtime.block_on(step);

        let leads = process.handles.get().and_then(|handles| {
            let seen = handles.consensus.leadership();
            let seen = seen.borrow();
            let leader = seen.leader.as_ref().filter(|_| seen.is_self);
            leader.map(|leader| leader.id)
        });
        let before = std::mem::replace(&mut process.leading, leads);
        if before != leads {
            process.leads_since = now;
        }
        let ended = process.ended.lock().unwrap().take();
        let asked = process.shutdown.is_cancelled();
        for (agent, session, leader) in answers {
            self.answer_agent(host, agent, session, leader);
        }
        if before != leads {
            self.check_leadership(host, leads);
        }
        if let Some(result) = ended {
            self.trace
                .note(format_args!("coordinator {host}: ended: {result:?}"));
            self.net.inner().close_all(host);
            self.coordinators[host].process = None;
            self.coordinators[host].starts_at = Some(now + micros(ms(500)));
            if !(asked && result.is_ok()) {
                self.violated(format!("coordinator {host} ended by itself: {result:?}"));
            }
        }
    }

    /// Whether every agent has been heard by the leader at `host`. One that it has never heard, or not
    /// since it leads, may be unknown to it.
    pub(crate) fn hears_all(&self, host: Host) -> bool {
        let process = self.coordinators[host].process.as_ref();
        process.is_some_and(|process| {
            let mut heard = process.heard.iter();
            heard.all(|heard| *heard > process.leads_since)
        })
    }

    /// How many members vote, as the leader knows it.
    pub(crate) fn voters(&self) -> usize {
        let processes = self.coordinators.iter().flat_map(|known| &known.process);
        let mut leaders = processes.filter(|process| process.leading.is_some());
        let Some((process, handles)) = leaders.find_map(|process| {
            let handles = process.handles.get()?;
            Some((process, handles))
        }) else {
            return 0;
        };
        let _inside = process.runtime.enter();
        let members = handles.consensus.status().members;
        members.iter().filter(|member| member.voter).count()
    }

    /// The leases that are held at this moment, by whom.
    pub(crate) fn leases(&self) -> Vec<(Host, LeaderId)> {
        let mut held = Vec::new();
        for (host, coordinator) in self.coordinators.iter().enumerate() {
            let Some(process) = &coordinator.process else {
                continue;
            };
            if process.stopped.is_some() {
                // It can do nothing with it.
                continue;
            }
            let _inside = process.runtime.enter();
            let lease = process
                .handles
                .get()
                .and_then(|handles| handles.consensus.lease());
            held.extend(lease.map(|lease| (host, lease.leader())));
        }
        held
    }
}
