//! What is to be shown of each target, until it is shown: the latest of each, at a bounded rate.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use neap_api::condition::Condition;
use neap_consensus::Consensus;
use neap_engine::{TriggerOutcome, TriggerWhy};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::merge::diff;
use super::port::{EventNote, EventSeverity, PublishError, Publisher};
use super::series::series;
use super::status::{Report, Verdict, status, transitions};
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;
use crate::metrics::{Metrics, result};

/// A status is written at most once in this time.
const STATUS_SPACING: Duration = Duration::from_secs(2);
/// A status in which only the last activity moved is written at most once in this time.
const ACTIVITY_SPACING: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// Events that wait at most; further ones are let go and counted.
const EVENTS: usize = 10_000;
/// Writes under way at once.
const CONCURRENT: usize = 16;
/// Without a lease nothing is written; whether there is one is looked at again after this time.
const LEASE_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Pending {
    reports: HashMap<TargetKey, Report>,
    gone: HashSet<TargetKey>,
    /// Leadership ended: nothing is shown any more.
    ended: bool,
    events: VecDeque<EventNote>,
    leading: bool,
    /// A leadership began: what was shown before may have been written over by another leader.
    anew: bool,
}

/// Takes reports and events from the decider, which never waits for it.
pub struct Desk {
    pending: Mutex<Pending>,
    changed: Notify,
    publisher: Arc<dyn Publisher>,
    consensus: Consensus,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// One target as it is shown.
struct Shown {
    uid: Option<String>,
    conditions: Vec<Condition>,
    /// The status that the server has, as far as is known.
    current: Value,
    wanted: Option<Value>,
    written: Option<Boottime>,
    not_before: Option<Boottime>,
    in_flight: bool,
    failures: u32,
    without_agent: usize,
    contested: bool,
    /// A trigger of it has no value.
    without_signal: bool,
}

struct Done {
    key: TargetKey,
    status: Value,
    result: Result<(), PublishError>,
}

impl Desk {
    /// A desk with nothing on it.
    pub fn new(
        publisher: Arc<dyn Publisher>,
        consensus: Consensus,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            pending: Mutex::default(),
            changed: Notify::new(),
            publisher,
            consensus,
            clock,
            metrics,
        })
    }

    // Each change under this lock is one insertion: a panic leaves nothing half done.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where status and events go.
    pub fn publisher(&self) -> &dyn Publisher {
        self.publisher.as_ref()
    }

    /// Takes a report in place of the last one about the same target.
    pub fn report(&self, report: Report) {
        self.pending().reports.insert(report.key.clone(), report);
        self.changed.notify_one();
    }

    /// Takes an event.
    pub fn event(&self, note: EventNote) {
        let mut pending = self.pending();
        if pending.events.len() >= EVENTS {
            self.metrics.events_dropped.inc();
            return;
        }
        pending.events.push_back(note);
        drop(pending);
        self.changed.notify_one();
    }

    /// The target is gone.
    pub fn forget(&self, key: &TargetKey) {
        let mut pending = self.pending();
        pending.reports.remove(key);
        pending.gone.insert(key.clone());
        drop(pending);
        self.changed.notify_one();
    }

    /// Begins or stops to show anything.
    pub fn lead(&self, leading: bool) {
        let mut pending = self.pending();
        pending.leading = leading;
        pending.anew |= leading;
        if !leading {
            pending.reports.clear();
            pending.events.clear();
            pending.ended = true;
            drop(pending);
            self.changed.notify_one();
        }
    }

    /// Writes until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let (done, mut finished) = mpsc::channel::<Done>(CONCURRENT * 2);
        let mut shown: HashMap<TargetKey, Shown> = HashMap::new();
        let mut waiting: HashSet<TargetKey> = HashSet::new();
        let mut running = 0usize;
        let mut event_running = false;
        let (event_done, mut event_finished) = mpsc::channel::<()>(1);
        loop {
            let now = self.clock.boottime();
            let mut next = now + Duration::from_secs(3_600);
            let mut ready = Vec::new();
            // Another leader may show the same targets by now.
            let may_write = self.consensus.lease().is_some();
            if !may_write && (!waiting.is_empty() || self.has_events()) {
                next = now + LEASE_AGAIN;
            }
            for key in waiting.iter().filter(|_| may_write) {
                let Some(target) = shown.get(key).filter(|target| !target.in_flight) else {
                    continue;
                };
                match target.allowed_from() {
                    Some(at) if at > now => next = next.min(at),
                    _ => ready.push(key.clone()),
                }
            }
            for key in ready {
                if running >= CONCURRENT {
                    break;
                }
                let Some(target) = shown.get_mut(&key) else {
                    continue;
                };
                waiting.remove(&key);
                let Some(status) = target.wanted.take() else {
                    continue;
                };
                let Some(patch) = diff(&target.current, &status) else {
                    continue;
                };
                target.in_flight = true;
                running += 1;
                let (desk, done) = (self.clone(), done.clone());
                tasks.spawn(async move {
                    let result = desk.publisher.patch_status(&key, &patch).await;
                    let _ = done
                        .send(Done {
                            key,
                            status,
                            result,
                        })
                        .await;
                });
            }
            if may_write
                && !event_running
                && let Some(note) = self.next_event()
            {
                event_running = true;
                let (desk, event_done) = (self.clone(), event_done.clone());
                tasks.spawn(async move {
                    let written = desk.publisher.event(&note).await;
                    desk.metrics.events.get_or_create(&result(written.is_ok())).inc();
                    if let Err(error) = written {
                        tracing::debug!(target = %note.regarding, reason = note.reason, %error, "an event was not recorded");
                    }
                    let _ = event_done.send(()).await;
                });
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = finished.recv() => {
                    running -= 1;
                    self.finish(done, &mut shown, &mut waiting);
                }
                Some(()) = event_finished.recv() => event_running = false,
                () = self.changed.notified() => self.take(&mut shown, &mut waiting),
                () = self.clock.sleep_until(next) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    fn has_events(&self) -> bool {
        !self.pending().events.is_empty()
    }

    fn next_event(&self) -> Option<EventNote> {
        self.pending().events.pop_front()
    }

    /// Works out the status that each new report calls for.
    fn take(&self, shown: &mut HashMap<TargetKey, Shown>, waiting: &mut HashSet<TargetKey>) {
        let (reports, gone) = {
            let mut pending = self.pending();
            if !pending.leading {
                pending.reports.clear();
            }
            let mut gone = std::mem::take(&mut pending.gone);
            // What a former leader goes on showing would be counted twice, and grow old.
            if std::mem::take(&mut pending.ended) {
                gone.extend(shown.keys().cloned());
            }
            if std::mem::take(&mut pending.anew) {
                shown.clear();
                waiting.clear();
            }
            (std::mem::take(&mut pending.reports), gone)
        };
        for key in gone {
            shown.remove(&key);
            waiting.remove(&key);
            self.metrics.compat.forget(&key);
        }
        for (key, report) in reports {
            let uid = report.object.uid();
            if shown.get(&key).is_some_and(|target| target.uid != uid) {
                shown.remove(&key);
            }
            let target = shown
                .entry(key.clone())
                .or_insert_with(|| Shown::new(&report));
            let status = status(&report, &target.conditions, self.clock.as_ref());
            for (normal, reason, note) in transitions(&target.conditions, &status.conditions) {
                let severity = if normal {
                    EventSeverity::Normal
                } else {
                    EventSeverity::Warning
                };
                let uid = uid.clone().unwrap_or_default();
                self.event(EventNote {
                    regarding: key.clone(),
                    uid,
                    severity,
                    reason,
                    note,
                });
            }
            target.conditions = status.conditions.clone();
            if let Verdict::Evaluated {
                without_agent,
                contested,
                evaluation,
                ..
            } = &report.verdict
            {
                target.without_agent = *without_agent;
                target.contested = contested.is_some();
                target.without_signal = evaluation.why.triggers.iter().any(without_signal);
            }
            if let Some(series) = series(&report) {
                self.metrics.compat.show(&key, &series);
            }
            // Plain data with string keys: it always has a JSON form.
            let status = serde_json::to_value(&status).unwrap_or_default();
            target.wanted = diff(&target.current, &status).is_some().then_some(status);
            if target.wanted.is_some() {
                waiting.insert(key);
            } else {
                waiting.remove(&key);
            }
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let missing: usize = shown.values().map(|target| target.without_agent).sum();
        let contested = shown.values().filter(|target| target.contested);
        let silent = shown.values().filter(|target| target.without_signal);
        self.metrics.pods_without_agent.set(number(missing));
        self.metrics
            .targets_contested
            .set(number(contested.count()));
        self.metrics
            .targets_without_signal
            .set(number(silent.count()));
    }

    fn finish(
        &self,
        done: Done,
        shown: &mut HashMap<TargetKey, Shown>,
        waiting: &mut HashSet<TargetKey>,
    ) {
        let now = self.clock.boottime();
        self.metrics
            .status_writes
            .get_or_create(&result(done.result.is_ok()))
            .inc();
        let Some(target) = shown.get_mut(&done.key) else {
            return;
        };
        target.in_flight = false;
        target.written = Some(now);
        match done.result {
            Ok(()) => {
                target.failures = 0;
                target.not_before = None;
                target.current = done.status;
                // What was asked for meanwhile may be what is there now.
                if let Some(wanted) = &target.wanted
                    && diff(&target.current, wanted).is_none()
                {
                    target.wanted = None;
                }
            }
            Err(PublishError::NotFound) => target.wanted = None,
            Err(error) => {
                let backoff = RETRY_FIRST * 2u32.saturating_pow(target.failures.min(8));
                target.failures += 1;
                target.not_before = Some(now + backoff.min(RETRY_LAST));
                target.wanted.get_or_insert(done.status);
                tracing::warn!(target = %done.key, %error, "the status could not be written; trying again");
            }
        }
        if target.wanted.is_some() {
            waiting.insert(done.key);
        }
    }
}

fn without_signal(trigger: &TriggerWhy) -> bool {
    matches!(
        trigger.outcome,
        TriggerOutcome::Failed { .. } | TriggerOutcome::Fallback { .. }
    )
}

impl Shown {
    fn new(report: &Report) -> Self {
        let current = report.object.status.as_ref();
        Self {
            uid: report.object.uid(),
            conditions: current
                .map(|status| status.conditions.clone())
                .unwrap_or_default(),
            current: current
                .and_then(|status| serde_json::to_value(status).ok())
                .unwrap_or_default(),
            wanted: None,
            written: None,
            not_before: None,
            in_flight: false,
            failures: 0,
            without_agent: 0,
            contested: false,
            without_signal: false,
        }
    }

    /// From when on the wanted status may be written.
    fn allowed_from(&self) -> Option<Boottime> {
        let only_activity = self
            .wanted
            .as_ref()
            .and_then(|wanted| diff(&self.current, wanted))
            .and_then(|patch| {
                patch
                    .as_object()
                    .map(|fields| fields.keys().all(|field| field == "lastActiveTime"))
            })
            .unwrap_or(false);
        let spacing = if only_activity {
            ACTIVITY_SPACING
        } else {
            STATUS_SPACING
        };
        self.written
            .map(|at| at + spacing)
            .into_iter()
            .chain(self.not_before)
            .max()
    }
}
