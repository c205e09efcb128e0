//! What must be true whatever goes wrong.
//!
//! Windows and periods are counted on decision time, which the entries tell that the writes rest on;
//! and decision time itself may not run ahead. It does where a replica that was just started leads, and
//! the walls are wrong: it bridges its own stop by them. So what is counted on the simulation's time is
//! not looked at where walls were moved.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use neap_consensus::LeaderId;

use crate::api::Write;
use crate::load::{POLLING, Signal, TARGETS};
use crate::logs::Logs;
use crate::net::Host;
use crate::sim::{COORDINATORS, FORMED, Sim};
use crate::time::{Time, micros, ms};

/// A decision is older than its write by the time of its commit.
const SLACK: Duration = ms(3_000);
/// Of two decisions so close to the end of a window either may be right.
const AT_ONCE: Duration = ms(50);
/// A commit is given up after five seconds, and what was decided before it is sent right after.
const PAUSE_SLACK: Duration = ms(6_000);
/// An agent that is cut off is taken to hold what it held last; it may be that old.
const OLDEST: Duration = ms(15_000);
/// A late write has to be put right within this.
const CORRECTED: Duration = ms(1_000);

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Checks {
    /// What is not as it must be.
    pub(crate) violations: Vec<String>,
    pub(crate) writes: Vec<Write>,
    pub(crate) late: u64,
    pub(crate) elections: u64,
    /// Processes that were stopped, from when to when.
    pub(crate) stops: Vec<(Host, Time, Time)>,
    /// The latest leader to have written each target, and what it wrote.
    latest: [Option<(LeaderId, i32)>; TARGETS.len()],
    /// Targets that a late write has set, and until when they must be put right.
    astray: BTreeMap<usize, (Time, i32)>,
    terms: BTreeMap<u64, Host>,
    pub(crate) logs: Logs,
    /// When the files of the targets with a fallback could be read no more.
    pub(crate) unreadable_since: Option<Time>,
}

impl Sim {
    /// Notes that something is not as it must be.
    pub(crate) fn violated(&mut self, what: String) {
        self.trace.note(format_args!("VIOLATED: {what}"));
        let at = self.now as f64 / 1e6;
        self.checks.violations.push(format!("at {at:.3} s: {what}"));
    }

    /// At most one process may act at a time.
    pub(crate) fn check_leases(&mut self) {
        let held = self.leases();
        if held.len() > 1 {
            self.violated(format!("two leases at the same time: {held:?}"));
        }
    }

    /// Two disks never say that two different entries are committed at one index.
    pub(crate) fn check_logs(&mut self) {
        for host in 0..COORDINATORS {
            let disk = &self.coordinators[host].disk;
            let wall_error = self.faults.wall_error;
            let looked = self.checks.logs.look(host, disk, self.now, wall_error);
            match looked {
                Ok(false) => {}
                Ok(true) => self.trace.fold(("commit", host)),
                Err(what) => self.violated(what),
            }
        }
    }

    /// A process leads now, or does no more.
    pub(crate) fn check_leadership(&mut self, host: Host, leads: Option<LeaderId>) {
        match leads {
            None => self
                .trace
                .note(format_args!("coordinator {host}: leads no more")),
            Some(id) => {
                self.trace
                    .note(format_args!("coordinator {host}: leads as {id}"));
                self.checks.elections += 1;
                let first = *self.checks.terms.entry(id.term).or_insert(host);
                if first != host {
                    self.violated(format!(
                        "coordinators {first} and {host} both led in term {}",
                        id.term
                    ));
                }
            }
        }
    }

    /// A scale was written.
    pub(crate) fn check_write(&mut self, write: Write) {
        let wrong = [
            self.out_of_bounds(&write),
            self.uncommitted(&write),
            self.out_of_order(&write),
            self.window_forgotten(&write),
            self.policy_forgotten(&write),
            self.cooldown_forgotten(&write),
            self.pause_forgotten(&write),
            self.fallback_too_soon(&write),
            self.too_few(&write),
        ];
        for what in wrong.into_iter().flatten() {
            let request = &write.request;
            self.violated(format!(
                "{what}: {} {} -> {} by {} of coordinator {}",
                TARGETS[request.target].name,
                write.from,
                request.replicas,
                request.leader,
                request.host
            ));
        }
        self.checks.writes.push(write);
    }

    fn out_of_bounds(&self, write: &Write) -> Option<String> {
        let target = &TARGETS[write.request.target];
        let (to, least, most) = (write.request.replicas, target.min, target.max);
        (to < least || to > most).then(|| format!("not within {least}..{most}"))
    }

    /// What a write rests on is on a majority of disks before it is sent. The step out of zero goes
    /// out together with its commit.
    fn uncommitted(&self, write: &Write) -> Option<String> {
        // A cluster begins with one member.
        if write.from == 0 || self.now < FORMED {
            return None;
        }
        let held = write.basis.map_or(0, |basis| basis.disks);
        (held <= COORDINATORS / 2).then(|| format!("on {held} disks only"))
    }

    /// No leader writes after a later one; but a process that was stopped may have had one on its way.
    fn out_of_order(&mut self, write: &Write) -> Option<String> {
        let request = &write.request;
        let (target, leader) = (request.target, request.leader);
        match self.checks.latest[target] {
            Some((latest, wanted)) if leader < latest => {
                let resumed = self.checks.stops.iter().any(|(host, _, until)| {
                    *host == request.host && *until + micros(CORRECTED) > request.sent
                });
                if !resumed {
                    return Some(format!("after a write of the later leader {latest}"));
                }
                self.checks.late += 1;
                let until = self.now + micros(CORRECTED);
                self.checks.astray.insert(target, (until, wanted));
                None
            }
            _ => {
                self.checks.latest[target] = Some((leader, request.replicas));
                self.checks.astray.remove(&target);
                None
            }
        }
    }

    /// What a late write has set is put right soon.
    pub(crate) fn check_astray(&mut self) {
        let now = self.now;
        let due: Vec<(usize, i32)> = self
            .checks
            .astray
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(target, (_, wanted))| (*target, *wanted))
            .collect();
        for (target, wanted) in due {
            self.checks.astray.remove(&target);
            let replicas = self.api.replicas(target);
            if replicas != wanted {
                let name = TARGETS[target].name;
                self.violated(format!(
                    "a late write of {name} was not put right: {replicas} and not {wanted}"
                ));
            }
        }
    }

    fn writes_of(&self, target: usize) -> impl Iterator<Item = &Write> {
        let writes = self.checks.writes.iter().rev();
        writes.filter(move |write| write.request.target == target)
    }

    /// What was asked for within the stabilisation window holds a target up, whoever leads.
    fn window_forgotten(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        let target = &TARGETS[request.target];
        if request.replicas >= write.from || self.pause_matters(write) {
            return None;
        }
        let at = write.basis?.at;
        // Out of zero the commit is under way when the write is, and may come to nothing.
        let mut before = self.writes_of(request.target).filter(|before| {
            before.from > 0
                && before.request.replicas > before.from
                && before.request.replicas > request.replicas
                && !self.pause_matters(before)
        });
        let (higher, ago) = before.find_map(|before| {
            let ago = at.since(before.basis?.at);
            (ago + AT_ONCE < target.window).then_some((before.request.replicas, ago))
        })?;
        Some(format!(
            "{higher} replicas were decided on {ago:?} before, within the window"
        ))
    }

    /// The policy's changes are counted on from leader to leader. One of unknown outcome is not.
    fn policy_forgotten(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        let (most, period) = TARGETS[request.target].up?;
        let rise = request.replicas - write.from;
        if rise <= 0 {
            return None;
        }
        // What was taken away within the period may come back beside that.
        let at = write.basis?.at;
        let mut risen = rise;
        for before in self.writes_of(request.target) {
            let ago = at.since(before.basis?.at);
            if ago >= period + AT_ONCE {
                break;
            }
            if !before.request.answered.load(Ordering::Relaxed) {
                return None;
            }
            let change = before.request.replicas - before.from;
            if change < 0 || ago + AT_ONCE < period {
                risen += change;
            }
        }
        (risen > most).then(|| format!("{risen} more within the policy's period, not {most}"))
    }

    /// A target rests no sooner than its cooldown after it was woken.
    fn cooldown_forgotten(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        if request.replicas != 0 || self.faults.walls_moved() {
            return None;
        }
        let mut woken = self.writes_of(request.target);
        let woken = woken.find(|before| before.from == 0)?;
        let cooldown = TARGETS[request.target].cooldown.saturating_sub(SLACK);
        let since = request.sent - woken.request.sent;
        (since < micros(cooldown)).then(|| format!("woken {} ms before", since / 1_000))
    }

    /// The target is one that is paused now and then, and that may be why it was written.
    fn pause_matters(&self, write: &Write) -> bool {
        let paused = TARGETS[write.request.target].paused;
        paused == Some(write.request.replicas) || paused == Some(write.from)
    }

    fn pause_forgotten(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        let (paused, since) = (TARGETS[request.target].paused?, request.paused_since?);
        let known = request.sent.saturating_sub(since);
        let wrong = request.replicas != paused && known > micros(PAUSE_SLACK);
        wrong.then(|| format!("paused at {paused} and known so for {} ms", known / 1_000))
    }

    /// More failures than the threshold, one for each polling interval, come before the fallback.
    fn fallback_too_soon(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        let (threshold, replicas) = TARGETS[request.target].fallback?;
        if request.replicas != replicas || self.faults.walls_moved() {
            return None;
        }
        let Some(since) = self.checks.unreadable_since else {
            return Some("the fallback, and nothing failed".into());
        };
        let intervals = u64::try_from(threshold - 1).unwrap();
        let passed = self.now - since;
        let least = intervals * micros(POLLING);
        (passed < least).then(|| format!("the fallback after {} ms", passed / 1_000))
    }

    /// What is not known lets no target shrink: fewer replicas have been asked for, and not long ago.
    fn too_few(&self, write: &Write) -> Option<String> {
        let request = &write.request;
        if request.replicas >= write.from || self.pause_matters(write) {
            return None;
        }
        // Files that a node cannot read any more are not counted, while another node's are.
        let unreadable = self.checks.unreadable_since.is_some();
        if unreadable && TARGETS[request.target].fallback.is_some() {
            return None;
        }
        // Nor are those of a node that has not come to a new leader within three seconds.
        if TARGETS[request.target].signal == Signal::Files && !self.hears_all(request.host) {
            return None;
        }
        let since = request.sent.saturating_sub(micros(OLDEST));
        let least = self.load.least(request.target, since);
        // The HPA's tolerance is a tenth.
        let too_few = (least - request.replicas) * 10 > request.replicas;
        too_few.then(|| format!("at least {least} were asked for over {OLDEST:?}"))
    }
}
