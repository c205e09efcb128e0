//! The decider: one task that follows the world, the signals, the polls and the leadership, and
//! decides while this replica leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, Leadership};
use neap_engine::{Evaluation, Settings};
use neap_triggers::TriggerContext;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::due::DueTimes;
use super::references::References;
use super::replicated::DecisionTable;
use super::target::Target;
use super::time::{DecisionClock, Opened};
use super::turns::Turns;
use super::wanted::WantedIndex;
use crate::clock::{Boottime, Clock};
use crate::keys::{LeaderId, TargetKey};
use crate::metrics::Metrics;
use crate::poll::{AuthContext, AuthError, PollOutcome, Poller};
use crate::publish::{Desk, Explain};
use crate::scaler::{Scale, ScaleError, Scaler, Written};
use crate::signals::{SignalStore, WantedWatch};
use crate::world::{Changes, World};

/// What the decider is made of.
pub struct Parts {
    /// Objects.
    pub world: Arc<World>,
    /// Signals.
    pub store: Arc<SignalStore>,
    /// Polled sources.
    pub poller: Arc<Poller>,
    /// Answers of the poller.
    pub polls: mpsc::Receiver<PollOutcome>,
    /// The log.
    pub consensus: Consensus,
    /// What the log has made.
    pub table: DecisionTable,
    /// What scales.
    pub scaler: Arc<dyn Scaler>,
    /// Status, events and removals.
    pub desk: Arc<Desk>,
    /// The last decisions, for people.
    pub explain: Arc<Explain>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Secrets and ConfigMaps.
    pub auth: AuthContext,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When the log was opened.
    pub opened: Opened,
    /// Settings.
    pub settings: DecideSettings,
}

/// Settings of the decider.
#[derive(Debug, Clone)]
pub struct DecideSettings {
    /// The flags of the HPA controller, and the reversal hold.
    pub engine: Settings,
    /// After the first change, further changes of a target are taken together over this time.
    pub coalesce: Duration,
    /// State that no write waits for is committed at least so often.
    pub flush: Duration,
    /// Decision time is committed at least so often.
    pub time_entry: Duration,
}

impl Default for DecideSettings {
    fn default() -> Self {
        Self {
            engine: Settings::default(),
            coalesce: Duration::from_millis(20),
            flush: Duration::from_secs(1),
            time_entry: Duration::from_secs(10),
        }
    }
}

/// A leadership of this replica.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leading {
    pub(super) id: LeaderId,
    pub(super) time: DecisionClock,
}

/// What the decider's own tasks report back.
pub(super) enum Done {
    ResolveAgain {
        key: TargetKey,
        run: u64,
    },
    Resolved {
        key: TargetKey,
        run: u64,
        result: Result<References, AuthError>,
    },
    Written(Box<WriteDone>),
    Cleared {
        key: TargetKey,
        what: &'static str,
        result: Result<(), String>,
    },
}

/// A write that came to an end.
pub(super) struct WriteDone {
    pub(super) key: TargetKey,
    /// The leadership that decided it.
    pub(super) leader: LeaderId,
    pub(super) uid: String,
    pub(super) evaluation: Arc<Evaluation>,
    pub(super) result: Result<Written, ScaleError>,
    /// The scale as it is after a conflict or an unknown outcome.
    pub(super) fresh: Option<Scale>,
    /// When it was sent, and how long it took.
    pub(super) sent: Boottime,
    pub(super) took: Duration,
}

/// The decider. See [`Decider::run`].
pub struct Decider {
    pub(super) parts: Parts,
    pub(super) triggers: TriggerContext,
    pub(super) targets: HashMap<TargetKey, Target>,
    pub(super) due: DueTimes,
    /// Targets whose state differs from what the log holds.
    pub(super) unsaved: BTreeSet<TargetKey>,
    /// Records of targets that are gone, and the UID of the object that each was of where that is known.
    pub(super) removed: BTreeMap<TargetKey, Option<String>>,
    /// When records without an object may be dropped.
    sweep_from: Option<Boottime>,
    pub(super) next_flush: Boottime,
    pub(super) last_entry: Boottime,
    pub(super) leading: Option<Leading>,
    /// There was no lease: whether there is one is looked at again from this time on.
    pub(super) lease_from: Boottime,
    /// Every kind of object has been listed: before that an owner of a target may not be known.
    listed: bool,
    pub(super) replay_over: bool,
    pub(super) turns: Turns,
    pub(super) wanted: WantedIndex,
    pub(super) done: mpsc::Sender<Done>,
    done_rx: mpsc::Receiver<Done>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// A new leader keeps records without an object so long.
const SWEEP_AFTER: Duration = Duration::from_secs(60);
/// Reports of own tasks that wait at most; a full channel makes the tasks wait.
const DONE_CAPACITY: usize = 1_024;

impl Decider {
    /// A decider that does nothing yet.
    pub fn new(parts: Parts, triggers: TriggerContext, stop: CancellationToken) -> Self {
        let (done, done_rx) = mpsc::channel(DONE_CAPACITY);
        let now = parts.clock.boottime();
        let turns = Turns::new(
            parts.scaler.clone(),
            parts.consensus.clone(),
            parts.clock.clone(),
            parts.metrics.clone(),
        );
        Self {
            parts,
            triggers,
            targets: HashMap::new(),
            due: DueTimes::default(),
            unsaved: BTreeSet::new(),
            removed: BTreeMap::new(),
            sweep_from: None,
            next_flush: now,
            last_entry: now,
            leading: None,
            lease_from: now,
            listed: false,
            replay_over: false,
            turns,
            wanted: WantedIndex::new(),
            done,
            done_rx,
            tasks: TaskTracker::new(),
            stop,
        }
    }

    /// What the agents have to read; the same on every replica.
    pub fn wanted(&self) -> WantedWatch {
        self.wanted.watch()
    }

    /// Follows everything until stopped. While this replica does not lead it keeps specs, pods and
    /// watches warm and decides nothing.
    pub async fn run(mut self) {
        let mut changes = self.parts.world.changes();
        let mut freshness = self.parts.world.freshness();
        let mut leadership = self.parts.consensus.leadership();
        leadership.mark_changed();
        let stop = self.stop.clone();
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = leadership.changed() => match changed {
                    Ok(()) => {
                        let seen = leadership.borrow_and_update().clone();
                        self.on_leadership(&seen);
                    }
                    // The member has stopped for good; whoever owns it ends the process.
                    Err(_) => break,
                },
                Some(done) = self.done_rx.recv() => self.on_done(done),
                taken = changes.next() => self.on_changes(taken),
                Some(outcome) = self.parts.polls.recv() => self.on_poll(outcome),
                () = self.parts.store.dirty().wait() => self.on_signals(),
                Ok(()) = freshness.changed(), if !self.listed => {}
                () = self.parts.clock.sleep_until(wake) => {}
            }
            // Asked before the changes are taken: what was listed is then among them.
            self.listed = self.listed || self.parts.world.is_synced();
            self.drain(&mut changes, &mut leadership);
            self.wanted.publish();
            if self.listed {
                self.sweep_records();
                if self.leading.is_some() {
                    self.tick().await;
                }
            }
        }
        // Nobody listens any more: tasks that still report must not wait for it.
        self.done_rx.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes what else is there already, so that one tick serves it all.
    fn drain(&mut self, changes: &mut Changes, leadership: &mut watch::Receiver<Leadership>) {
        if leadership.has_changed().unwrap_or(false) {
            let seen = leadership.borrow_and_update().clone();
            self.on_leadership(&seen);
        }
        let taken = changes.take();
        self.on_changes(taken);
        while let Ok(done) = self.done_rx.try_recv() {
            self.on_done(done);
        }
        while let Ok(outcome) = self.parts.polls.try_recv() {
            self.on_poll(outcome);
        }
        self.on_signals();
    }

    fn next_wake(&mut self) -> Boottime {
        let far = self.parts.clock.boottime() + Duration::from_secs(3_600);
        if self.leading.is_none() || !self.listed {
            return far;
        }
        let due = self.due.next().unwrap_or(far);
        let flush = if self.unsaved.is_empty() && self.removed.is_empty() {
            far
        } else {
            self.next_flush
        };
        due.min(flush)
            .min(self.last_entry + self.parts.settings.time_entry)
            .max(self.lease_from)
    }

    fn on_signals(&mut self) {
        for key in self.parts.store.dirty().take() {
            self.touch(&key);
        }
    }

    /// The target has news: at once for the first, then coalesced.
    pub(super) fn touch(&mut self, key: &TargetKey) {
        let Some(target) = self.targets.get(key) else {
            return;
        };
        let now = self.parts.clock.boottime();
        let at = target
            .evaluated
            .map_or(now, |last| (last + self.parts.settings.coalesce).max(now));
        self.due.no_later_than(key, at);
    }

    /// Decision time as far as this replica knows it.
    pub(super) fn time(&self) -> DecisionClock {
        match &self.leading {
            Some(leading) => leading.time,
            None => DecisionClock::take_over(
                self.parts.table.anchor(),
                self.parts.opened,
                self.parts.clock.as_ref(),
            ),
        }
    }

    pub(super) fn on_leadership(&mut self, seen: &Leadership) {
        if !self.replay_over && (seen.is_self || (seen.leader.is_some() && !is_own(seen))) {
            self.replay_over = true;
            self.parts.opened.replayed_until = self.parts.clock.boottime();
        }
        let id = seen
            .leader
            .as_ref()
            .filter(|_| seen.is_self)
            .map(|leader| leader.id);
        match (self.leading.map(|leading| leading.id), id) {
            (now, then) if now == then => {}
            (_, Some(id)) => self.take_over(id),
            (_, None) => self.step_down(),
        }
    }

    fn take_over(&mut self, id: LeaderId) {
        let clock = self.parts.clock.clone();
        let time =
            DecisionClock::take_over(self.parts.table.anchor(), self.parts.opened, clock.as_ref());
        let now = clock.boottime();
        self.leading = Some(Leading { id, time });
        self.parts.store.lead(now);
        self.last_entry = now;
        self.next_flush = now;
        self.unsaved.clear();
        self.removed.clear();
        self.sweep_from = Some(now + SWEEP_AFTER);
        self.due.clear();
        // Another may have led since the last answer and the last write of this replica.
        self.forget_answers();
        for target in self.targets.values_mut() {
            target.contest = Default::default();
        }
        let keys: Vec<TargetKey> = self.targets.keys().cloned().collect();
        for key in keys {
            self.restore(&key);
            if let Some(target) = self.targets.get_mut(&key) {
                target.place(&time, clock.as_ref());
            }
            self.due.no_later_than(&key, now);
        }
        self.parts.desk.lead(true);
        tracing::info!(leader = %id, targets = self.targets.len(), "leading: deciding for all targets");
    }

    fn step_down(&mut self) {
        if let Some(leading) = self.leading.take() {
            tracing::info!(leader = %leading.id, "no longer leading: deciding nothing");
        }
        self.due.clear();
        self.unsaved.clear();
        self.removed.clear();
        self.sweep_from = None;
        self.parts.desk.lead(false);
    }

    /// What event sources said is too old to decide on: each counts as not read until it answers again.
    pub(super) fn forget_answers(&mut self) {
        for target in self.targets.values_mut() {
            target.polled.fill(None);
        }
    }

    /// Drops the records of objects that went while nobody led. Once per leadership, when all objects
    /// have been listed and taken in for a while: a record dropped too soon is a history lost.
    fn sweep_records(&mut self) {
        let now = self.parts.clock.boottime();
        if self.sweep_from.is_none_or(|from| now < from) {
            return;
        }
        self.sweep_from = None;
        for key in self.parts.table.keys() {
            if !self.targets.contains_key(&key) {
                self.removed.entry(key).or_default();
            }
        }
    }

    /// Takes a target's state from the log, as a new leader finds it. A record that is about to be removed
    /// is that of another object, which had the name before.
    pub(super) fn restore(&mut self, key: &TargetKey) {
        let now = self.time().at(self.parts.clock.boottime());
        let Some(target) = self.targets.get_mut(key) else {
            return;
        };
        let record = self.parts.table.record(key);
        target.committed = record.filter(|_| !self.removed.contains_key(key));
        target.pace = Default::default();
        target.contest.answered();
        target.unanswered = None;
        target.clearing = None;
        target.leftover = None;
        let Some(record) = target.committed.clone() else {
            target.state = Default::default();
            return;
        };
        match neap_engine::DecisionState::decode(&record.state) {
            Ok(state) => {
                target.state = state;
                target.set_apart_undone(record.replicas);
            }
            Err(error) => {
                tracing::error!(target = %key, %error, "the target's state in the log cannot be read; it begins anew");
                target.state = Default::default();
            }
        }
        // The step out of zero and its commit went out together; the leader may have died in
        // between.
        if record.replicas == 0
            && target
                .scale
                .as_ref()
                .is_some_and(|scale| scale.replicas > 0)
        {
            target.state.mark_active(now);
        }
    }
}

fn is_own(seen: &Leadership) -> bool {
    seen.leader
        .as_ref()
        .is_some_and(|leader| Some(leader.id.node) == seen.node)
}
