//! One simulation: coordinators, agents and an API server, all in one thread and one virtual time.

use std::time::Duration;

use crate::agent::Agent;
use crate::api::Api;
use crate::bug::Bug;
use crate::checks::Checks;
use crate::faults::Faults;
use crate::kernel;
use crate::load::{Load, Signal, TARGETS};
use crate::net::Net;
use crate::process::Coordinator;
use crate::time::{TICK, Time, micros, ms};
use crate::trace::Trace;

/// Coordinators of the cluster.
pub(crate) const COORDINATORS: usize = 3;

/// Until then nothing goes wrong, and the cluster has to have a leader.
pub(crate) const FORMED: Time = micros(ms(6_000));
/// Until then one fault follows the other.
const FAULTS_END: Time = micros(ms(41_000));
/// So long after the faults someone has to lead again.
const LED_AGAIN: Time = FAULTS_END + micros(ms(5_000));
/// Until then all targets have come to what their load asks for.
const SETTLED: Time = FAULTS_END + micros(ms(28_000));
/// A signal that crosses once the faults have ended is acted on within this.
const ACTED: Duration = ms(2_000);
const END: Time = SETTLED + micros(ACTED);

/// The whole of it.
pub(crate) struct Sim {
    pub(crate) now: Time,
    pub(crate) random: fastrand::Rng,
    pub(crate) net: Net<Self>,
    pub(crate) trace: Trace,
    pub(crate) bug: Option<Bug>,
    pub(crate) api: Api,
    pub(crate) load: Load,
    pub(crate) agents: Vec<Agent>,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    /// Wrong walls are among the faults.
    pub(crate) walls_move: bool,
    pauses_at: Time,
    breaks_at: Time,
    /// The last entry that was committed when the faults ended.
    chosen_by_then: u64,
    /// Replicas that the crossing signals found.
    before: [i32; TARGETS.len()],
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) faults: u64,
    pub(crate) writes: u64,
    pub(crate) late: u64,
    pub(crate) conflicts: u64,
    pub(crate) elections: u64,
    pub(crate) time: Duration,
}

/// Runs one simulation. The thread must be one of its own: what it has of random numbers and time is
/// the simulation's from here on.
pub(crate) fn run(seed: u64, bug: Option<Bug>, print: bool) -> Outcome {
    kernel::begin(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let trace = Trace::new(print);
    let mut sim = Sim {
        now: 0,
        net: Net::new(random.u64(..), trace.clone()),
        trace,
        bug,
        api: Api::new(),
        load: Load::new(random.u64(..)),
        agents: Agent::all(),
        coordinators: (0..COORDINATORS).map(|_| Coordinator::new()).collect(),
        faults: Faults::default(),
        checks: Checks::default(),
        walls_move: random.u32(0..4) == 0,
        pauses_at: micros(ms(random.u64(9_000..16_000))),
        breaks_at: micros(ms(random.u64(9_000..16_000))),
        chosen_by_then: 0,
        before: [0; TARGETS.len()],
        random,
    };
    while sim.now < END && sim.checks.violations.is_empty() {
        sim.step();
    }
    let (hash, events) = sim.trace.sum();
    Outcome {
        hash,
        events,
        violations: sim.checks.violations,
        faults: sim.faults.count,
        writes: sim.checks.writes.len() as u64,
        late: sim.checks.late,
        conflicts: sim.api.conflicts,
        elections: sim.checks.elections,
        time: Duration::from_micros(sim.now),
    }
}

impl Sim {
    fn step(&mut self) {
        self.now += micros(TICK);
        kernel::set_time(self.now);
        self.trace.set_now(self.now);
        for action in self.net.arrivals(self.now) {
            action(self);
        }
        self.go_by_the_clock();
        self.step_api();
        self.step_agents();
        if (FORMED..FAULTS_END).contains(&self.now) {
            self.step_faults();
        }
        self.step_coordinators();
        self.check_astray();
    }

    fn go_by_the_clock(&mut self) {
        if self.now < FAULTS_END {
            for target in self.load.step(self.now) {
                self.load_changed(target);
            }
        }
        if self.is_due(self.pauses_at) {
            self.pause_targets(true);
        }
        if self.is_due(self.breaks_at) {
            self.trace.note(format_args!("load: files cannot be read"));
            self.load.unreadable = true;
            self.checks.unreadable_since = Some(self.now);
        }
        if self.is_due(FORMED) {
            self.someone_leads();
            if self.voters() != COORDINATORS {
                self.violated(format!("{} members vote", self.voters()));
            }
        }
        if self.is_due(FAULTS_END) {
            self.end_faults();
            self.chosen_by_then = self.checks.logs.last_chosen();
            self.pause_targets(false);
            for at in 0..TARGETS.len() {
                // Below the most, so that more can be asked for in the end.
                let wanted = self.random.i32(TARGETS[at].min..=TARGETS[at].max - 4);
                self.load.set(at, wanted, self.now);
                self.load_changed(at);
            }
        }
        if self.is_due(LED_AGAIN) {
            self.someone_leads();
        }
        if self.is_due(SETTLED) {
            self.all_settled();
            self.disks_agree();
            self.cross();
        }
        if self.is_due(END) {
            self.all_acted();
        }
    }

    /// Whether `at` has come with this step.
    fn is_due(&self, at: Time) -> bool {
        (self.now - micros(TICK) + 1..=self.now).contains(&at)
    }

    fn load_changed(&mut self, target: usize) {
        let (known, wanted) = (&TARGETS[target], self.load.of(target));
        self.trace
            .note(format_args!("load: {} asks for {wanted}", known.name));
        if known.signal == Signal::Pods {
            self.set_producers(wanted);
        }
    }

    fn someone_leads(&mut self) {
        if self.leases().is_empty() {
            self.violated("nobody leads".into());
        }
    }

    fn all_settled(&mut self) {
        for at in 0..TARGETS.len() {
            let target = &TARGETS[at];
            let fallback = target.fallback.map(|(_, replicas)| replicas);
            let wanted = fallback.unwrap_or(self.load.of(at));
            let replicas = self.api.replicas(at);
            // The HPA's tolerance is a tenth.
            if (wanted - replicas).abs() * 10 > replicas {
                let name = target.name;
                self.violated(format!(
                    "{name} is at {replicas}, and {wanted} are asked for"
                ));
            }
        }
    }

    /// Every disk has what had been committed by the end of the faults.
    fn disks_agree(&mut self) {
        for host in 0..COORDINATORS {
            let committed = self.coordinators[host].disk.committed();
            let has = committed.map_or(0, |position| position.index);
            if has < self.chosen_by_then {
                let wanted = self.chosen_by_then;
                self.violated(format!(
                    "coordinator {host} is at {has} of {wanted} entries"
                ));
            }
        }
    }

    /// Every signal crosses.
    fn cross(&mut self) {
        for at in 0..TARGETS.len() {
            self.before[at] = self.api.replicas(at);
            if TARGETS[at].fallback.is_none() {
                self.load.set(at, self.before[at] + 4, self.now);
                self.load_changed(at);
            }
        }
    }

    fn all_acted(&mut self) {
        for at in 0..TARGETS.len() {
            let (before, after) = (self.before[at], self.api.replicas(at));
            if TARGETS[at].fallback.is_none() && after <= before {
                let name = TARGETS[at].name;
                self.violated(format!("{name} stayed at {after} for {ACTED:?}"));
            }
        }
    }
}
