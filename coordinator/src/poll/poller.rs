//! Asking event sources, each distinct question once per interval.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neap_api::ScaleTrigger;
use neap_triggers::{PollCall, PollError, PolledTrigger, QueryKey, Reading};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::{AuthContext, Resolved, refers_to_anything, resolve};
use crate::clock::{Boottime, Clock};
use crate::keys::TargetKey;
use crate::metrics::Metrics;
use crate::world::PodTemplate;

/// One polled trigger of a target.
#[derive(Debug, Clone)]
pub struct PollSpec {
    /// Its index in the object.
    pub trigger: usize,
    /// What is asked.
    pub source: Arc<dyn PolledTrigger>,
    /// How often.
    pub interval: Duration,
    /// The trigger as the object has it: what its references are.
    pub definition: ScaleTrigger,
    /// What they stood for when `source` was built.
    pub resolved: Resolved,
    /// The target's pod template.
    pub template: Option<Arc<PodTemplate>>,
    /// The container whose environment counts.
    pub container: Option<String>,
}

/// What came of a poll, for one target.
#[derive(Debug)]
pub enum PollOutcome {
    /// The source was asked.
    Answered {
        /// The target.
        key: TargetKey,
        /// Index of the trigger in the object.
        trigger: usize,
        /// The question.
        asked: QueryKey,
        /// The answer.
        answer: Result<Reading, PollError>,
    },
    /// What the triggers refer to has changed since they were built: build them again.
    ReferencesChanged {
        /// The target.
        key: TargetKey,
    },
    /// Asking ended, or begins anew: what was answered before this is too old to decide on.
    Stopped,
}

/// Bounds of polling.
#[derive(Debug, Clone, Copy)]
pub struct PollLimits {
    /// Polls under way at once; further ones wait.
    pub concurrent: usize,
    /// Longest that one poll may take, whatever the trigger says.
    pub timeout: Duration,
}

impl Default for PollLimits {
    fn default() -> Self {
        Self {
            concurrent: 128,
            timeout: Duration::from_secs(30),
        }
    }
}

/// One question at one interval.
type JobKey = (QueryKey, Duration);

#[derive(Debug)]
struct Job {
    source: Arc<dyn PolledTrigger>,
    subscribers: BTreeMap<(TargetKey, usize), PollSpec>,
    due: Boottime,
    running: bool,
    /// The era in which it was last taken to be asked.
    asked_in: u64,
    polled: bool,
    last: Option<(Boottime, Result<Reading, PollError>)>,
}

#[derive(Debug, Default)]
struct Jobs {
    jobs: HashMap<JobKey, Job>,
    of_target: HashMap<TargetKey, Vec<JobKey>>,
    /// Jobs that are not running, by due time.
    queue: BTreeSet<(Boottime, JobKey)>,
    /// Answers that a new subscriber of an old question gets at once, and the end of an era.
    ready: Vec<PollOutcome>,
    leading: bool,
    /// Counts how often asking began or ended: an answer to what was asked before is dropped.
    era: u64,
}

/// Polls the sources of all targets while this replica leads. Targets that ask the same question
/// share one poll.
#[derive(Debug)]
pub struct Poller {
    jobs: Mutex<Jobs>,
    changed: Notify,
    outcomes: mpsc::Sender<PollOutcome>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: PollLimits,
}

/// Answers that wait at most; a full channel makes the polls wait.
const OUTCOMES: usize = 1_024;

impl Poller {
    /// A poller without questions, and where its answers come out.
    pub fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        limits: PollLimits,
    ) -> (Arc<Self>, mpsc::Receiver<PollOutcome>) {
        let (outcomes, receiver) = mpsc::channel(OUTCOMES);
        let poller = Self {
            jobs: Mutex::default(),
            changed: Notify::new(),
            outcomes,
            clock,
            metrics,
            limits,
        };
        (Arc::new(poller), receiver)
    }

    // A panic under the lock would leave a job that is not queued: at worst one question is not
    // asked until its target changes.
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the questions of `key`. New ones are asked at once.
    pub fn set(&self, key: &TargetKey, specs: Vec<PollSpec>) {
        let now = self.clock.boottime();
        let mut jobs = self.jobs();
        jobs.unsubscribe(key, &specs);
        let mut of_target = Vec::with_capacity(specs.len());
        for spec in specs {
            let job_key = (spec.source.query_key(), spec.interval);
            of_target.push(job_key);
            jobs.subscribe(key, job_key, spec, now);
        }
        if !of_target.is_empty() {
            jobs.of_target.insert(key.clone(), of_target);
        }
        drop(jobs);
        self.changed.notify_one();
    }

    /// `key` asks nothing any more.
    pub fn remove(&self, key: &TargetKey) {
        self.jobs().unsubscribe(key, &[]);
    }

    /// Begins or stops to ask. A new leader asks everything at once, and nobody is told any more of what
    /// was answered before.
    pub fn lead(&self, leading: bool) {
        let now = self.clock.boottime();
        let mut jobs = self.jobs();
        jobs.era += 1;
        if std::mem::replace(&mut jobs.leading, leading) {
            jobs.ready.clear();
            jobs.ready.push(PollOutcome::Stopped);
        }
        for job in jobs.jobs.values_mut() {
            job.last = None;
        }
        if leading {
            let jobs = &mut *jobs;
            jobs.queue.clear();
            for (key, job) in &mut jobs.jobs {
                job.due = now;
                job.polled = false;
                if !job.running {
                    jobs.queue.insert((now, *key));
                }
            }
        }
        drop(jobs);
        self.changed.notify_one();
    }

    /// Whether this replica asks.
    #[cfg(test)]
    pub(super) fn asks(&self) -> bool {
        self.jobs().leading
    }

    /// How often asking began or ended.
    #[cfg(test)]
    pub(super) fn era(&self) -> u64 {
        self.jobs().era
    }

    /// Number of distinct questions.
    pub fn questions(&self) -> usize {
        self.jobs().jobs.len()
    }

    /// Polls until stopped.
    pub async fn run(self: Arc<Self>, auth: AuthContext, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(self.limits.concurrent));
        loop {
            let changed = self.changed.notified();
            let (ready, due, next) = self.take_due();
            for outcome in ready {
                if self.outcomes.send(outcome).await.is_err() {
                    return;
                }
            }
            for key in due {
                let (poller, auth, slots, stop) =
                    (self.clone(), auth.clone(), slots.clone(), stop.clone());
                tasks.spawn(async move {
                    let Ok(_slot) = slots.acquire().await else {
                        return;
                    };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = poller.poll(key, &auth) => {}
                    }
                    poller.polled(key);
                });
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// What there is to tell, and to ask then: an era has ended before the next one's first answer.
    fn take_due(&self) -> (Vec<PollOutcome>, Vec<JobKey>, Boottime) {
        let now = self.clock.boottime();
        let far = now + Duration::from_secs(3_600);
        let mut jobs = self.jobs();
        let ready = std::mem::take(&mut jobs.ready);
        let mut due = Vec::new();
        if !jobs.leading {
            return (ready, due, far);
        }
        let era = jobs.era;
        while let Some(&(at, key)) = jobs.queue.first() {
            if at > now {
                return (ready, due, at);
            }
            jobs.queue.pop_first();
            if let Some(job) = jobs.jobs.get_mut(&key) {
                job.running = true;
                job.asked_in = era;
                due.push(key);
            }
        }
        (ready, due, far)
    }

    /// Asks one question for all that have it, and tells them.
    async fn poll(&self, key: JobKey, auth: &AuthContext) {
        let (source, mut subscribers, era) = {
            let jobs = self.jobs();
            // It may have waited for its turn until another era.
            let job = jobs.jobs.get(&key);
            let Some(job) = job.filter(|job| job.asked_in == jobs.era) else {
                return;
            };
            (job.source.clone(), job.subscribers.clone(), jobs.era)
        };
        // A rotated Secret is used from the next poll on.
        let mut changed = BTreeSet::new();
        for ((target, _), spec) in &subscribers {
            if refers_to_anything(&spec.definition)
                && self.references_changed(auth, target, spec).await
            {
                changed.insert(target.clone());
            }
        }
        for target in &changed {
            let _ = self
                .outcomes
                .send(PollOutcome::ReferencesChanged {
                    key: target.clone(),
                })
                .await;
        }
        subscribers.retain(|(target, _), _| !changed.contains(target));
        if subscribers.is_empty() {
            return;
        }
        let timeout = self.limits.timeout;
        let started = self.clock.boottime();
        let call = PollCall {
            wall: self.clock.wall(),
            timeout,
        };
        // The trigger keeps the time itself; this holds one that does not.
        let guard = timeout + Duration::from_secs(1);
        let answer = match tokio::time::timeout(guard, source.poll(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(PollError::Timeout {
                source_name: "event source",
                waited: guard,
            }),
        };
        let now = self.clock.boottime();
        self.metrics.polled(now.since(started), answer.is_ok());
        {
            let mut jobs = self.jobs();
            // How long ago the source was asked is not known: this replica may have been stopped.
            if jobs.era != era {
                return;
            }
            if let Some(job) = jobs.jobs.get_mut(&key) {
                job.last = Some((now, answer.clone()));
            }
        }
        for (target, trigger) in subscribers.into_keys() {
            let outcome = PollOutcome::Answered {
                key: target,
                trigger,
                asked: key.0,
                answer: answer.clone(),
            };
            if self.outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    async fn references_changed(
        &self,
        auth: &AuthContext,
        target: &TargetKey,
        spec: &PollSpec,
    ) -> bool {
        let template = spec.template.as_deref();
        match resolve(
            auth,
            &target.namespace,
            &spec.definition,
            template,
            spec.container.as_deref(),
        )
        .await
        {
            Ok(resolved) => resolved != spec.resolved,
            // While the server does not answer, what was read before stays in force.
            Err(error) => !error.may_pass(),
        }
    }

    /// Queues the job again.
    fn polled(&self, key: JobKey) {
        let now = self.clock.boottime();
        let mut jobs = self.jobs();
        let jobs = &mut *jobs;
        let Some(job) = jobs.jobs.get_mut(&key) else {
            return;
        };
        job.running = false;
        // What was asked in an earlier era is asked again when this one has it.
        if job.asked_in == jobs.era {
            let interval = if job.polled {
                key.1
            } else {
                first_interval(key)
            };
            job.polled = true;
            // From the due time, so that intervals do not grow by the time that polls take.
            job.due = (job.due + interval).max(now);
        }
        jobs.queue.insert((job.due, key));
        self.changed.notify_one();
    }
}

/// The second poll of a question comes after half an interval to a whole one, as its digest will
/// have it: questions that were all asked at once (by a new leader) spread out, on every replica alike.
fn first_interval((query, interval): JobKey) -> Duration {
    let share = (query.0 % 1_024) as u32;
    interval / 2 + interval / 2 * share / 1_024
}

impl Jobs {
    fn subscribe(&mut self, key: &TargetKey, job_key: JobKey, spec: PollSpec, now: Boottime) {
        let subscriber = (key.clone(), spec.trigger);
        if let Some(job) = self.jobs.get_mut(&job_key) {
            let known = job.subscribers.insert(subscriber, spec.clone()).is_some();
            if let (false, Some((_, answer))) = (known, &job.last) {
                self.ready.push(PollOutcome::Answered {
                    key: key.clone(),
                    trigger: spec.trigger,
                    asked: job_key.0,
                    answer: answer.clone(),
                });
            }
            return;
        }
        let job = Job {
            source: spec.source.clone(),
            subscribers: BTreeMap::from([(subscriber, spec)]),
            due: now,
            running: false,
            asked_in: 0,
            polled: false,
            last: None,
        };
        self.jobs.insert(job_key, job);
        self.queue.insert((now, job_key));
    }

    /// Ends the questions of `key` that are not among `kept`.
    fn unsubscribe(&mut self, key: &TargetKey, kept: &[PollSpec]) {
        for job_key in self.of_target.remove(key).unwrap_or_default() {
            let Some(job) = self.jobs.get_mut(&job_key) else {
                continue;
            };
            job.subscribers.retain(|(target, trigger), _| {
                target != key
                    || kept.iter().any(|spec| {
                        spec.trigger == *trigger
                            && (spec.source.query_key(), spec.interval) == job_key
                    })
            });
            if job.subscribers.is_empty() {
                self.queue.remove(&(job.due, job_key));
                self.jobs.remove(&job_key);
            }
        }
    }
}
