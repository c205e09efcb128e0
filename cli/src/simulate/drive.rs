//! The clock of a simulation: what happens when, and what the engine makes of it.

use std::time::Duration;

use neap_engine::{
    DecisionState, MetricSpec, Observation, Pod, ScalingSpec, ValueTarget, evaluate,
};
use neap_units::Timestamp;

use super::figures::{Figures, Sums};
use super::inputs::{Input, Inputs};
use super::need;
use super::workload::{PodModel, Workload};
use crate::load::Series;
use crate::reason;

/// Agents sample what is scaled on once a second.
const SAMPLING: Duration = Duration::from_secs(1);
/// A target's second write comes no sooner than this after its first.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// When the engine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As the coordinator asks: when a poll answers, a sample changes, a pod becomes ready, a
    /// calendar turns or a deadline of the engine falls due.
    Events {
        /// `pollingInterval`.
        polling: Duration,
    },
    /// Once per interval, as the HPA controller: each time the sources are asked.
    Every(Duration),
    /// At each row of the load, as it was recorded, and at no other time.
    Rows,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario<'a> {
    /// The spec.
    pub spec: &'a ScalingSpec,
    /// Where each trigger of it reads, in the same order.
    pub inputs: &'a [Input<'a>],
    /// Replicas that somebody else sets, at the time of each point.
    pub outside: Option<&'a Series>,
    /// What the pods are like.
    pub pods: PodModel,
    /// Replicas at the start.
    pub replicas: i32,
    /// When the engine is asked.
    pub pace: Pace,
    /// The first moment.
    pub start: Timestamp,
    /// The moment after the last.
    pub end: Timestamp,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Every change of replicas.
    pub changes: Vec<Change>,
    /// Replicas, ready and needed over time: an entry where any of them changes.
    pub track: Vec<Track>,
    /// What it adds up to.
    pub figures: Figures,
}

/// One change of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
    /// Why, in a line; `None`: somebody else set them.
    pub why: Option<String>,
}

/// How things stand from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// From when.
    pub at: Timestamp,
    /// Pods there are.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that the load needs; `None` where that is not known.
    pub needed: Option<i32>,
}

/// Runs `scenario` from its start to its end. Pure: the same scenario gives the same outcome.
#[must_use]
pub fn simulate(scenario: &Scenario<'_>) -> Outcome {
    let mut run = Run::new(scenario);
    let mut now = scenario.start;
    loop {
        run.happen(now);
        let next = run.next(now).min(scenario.end);
        let standing = run.standing(now);
        run.sums.hold(
            standing.replicas,
            standing.ready,
            standing.needed,
            scenario.spec.max_replicas,
            next.since(now),
        );
        if next <= now || next >= scenario.end {
            break;
        }
        now = next;
    }
    Outcome {
        changes: run.changes,
        track: run.track,
        figures: run.sums.figures(),
    }
}

struct Run<'a> {
    scenario: &'a Scenario<'a>,
    inputs: Inputs<'a>,
    workload: Workload,
    state: DecisionState,
    /// Replicas that somebody else sets: the place of the next point.
    outside: usize,
    /// The next poll, and the next evaluation that is due for another reason.
    poll: Timestamp,
    wake: Option<Timestamp>,
    sees_pods: bool,
    needed: Option<i32>,
    changes: Vec<Change>,
    track: Vec<Track>,
    sums: Sums,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario<'a>) -> Self {
        let sees_pods = scenario
            .spec
            .triggers
            .iter()
            .any(|trigger| match &trigger.metric {
                MetricSpec::Resource { .. } | MetricSpec::Pods { .. } => true,
                MetricSpec::Object { target, .. } | MetricSpec::External { target, .. } => {
                    matches!(target, ValueTarget::Value(_))
                }
            });
        // A formula over values is compared as a Value where it says so.
        let sees_pods = sees_pods || scenario.spec.scaling_modifiers.is_some();
        Self {
            scenario,
            inputs: Inputs::new(scenario.inputs, &scenario.spec.triggers),
            workload: Workload::new(scenario.pods, sees_pods, scenario.replicas, scenario.start),
            state: DecisionState::default(),
            outside: 0,
            poll: scenario.start,
            wake: None,
            sees_pods,
            needed: None,
            changes: Vec::new(),
            track: Vec::new(),
            sums: Sums::default(),
        }
    }

    /// Everything that happens at `now`.
    fn happen(&mut self, now: Timestamp) {
        let new_row = self.inputs.advance(now);
        let ready = self.workload.advance(now);
        let set = self.set_from_outside(now);
        let due = match self.scenario.pace {
            Pace::Rows => new_row,
            Pace::Every(interval) => self.poll_if_due(now, interval),
            Pace::Events { polling } => {
                let polled = self.poll_if_due(now, polling);
                let woken = self.wake.is_some_and(|wake| wake <= now);
                let sampled = self.inputs.moving_until().is_some_and(|until| now <= until);
                polled || woken || sampled || ready || set
            }
        };
        if due {
            if self.scenario.pace == Pace::Rows {
                self.inputs.poll(now);
            }
            self.inputs.read(now, &self.workload);
            self.decide(now);
        }
        if new_row || due {
            self.find_need();
        }
        let standing = self.standing(now);
        let same = self
            .track
            .last()
            .is_some_and(|last| Track { at: now, ..*last } == standing);
        if !same {
            self.track.push(standing);
        }
    }

    fn poll_if_due(&mut self, now: Timestamp, interval: Duration) -> bool {
        if self.poll > now {
            return false;
        }
        self.poll = now + interval;
        self.inputs.poll(now);
        true
    }

    fn set_from_outside(&mut self, now: Timestamp) -> bool {
        let Some(series) = self.scenario.outside else {
            return false;
        };
        let mut set = false;
        while let Some(point) = series
            .points()
            .get(self.outside)
            .filter(|point| point.at <= now)
        {
            self.outside += 1;
            let Some(value) = point.value else { continue };
            let replicas = i32::try_from(value.get() / 1000).unwrap_or(i32::MAX);
            set |= self.scale(replicas, now, None);
        }
        set
    }

    fn decide(&mut self, now: Timestamp) {
        self.sums.decisions += 1;
        let pods: Vec<&Pod> = if self.sees_pods {
            self.workload.pods().iter().collect()
        } else {
            Vec::new()
        };
        let readings = self.inputs.readings();
        let replicas = self.workload.replicas();
        let seen = Observation {
            spec_replicas: replicas,
            status_replicas: replicas,
            ready_replicas: Some(self.workload.ready()),
            pods: &pods,
            selector_problem: None,
            readings: &readings,
        };
        let evaluation = evaluate(self.scenario.spec, &self.state, &seen, now);
        self.wake = evaluation.deadline;
        if let Some(needed) = need::of_formula(self.scenario.spec, &evaluation) {
            self.needed = Some(needed);
        }
        if let Some(to) = evaluation.write {
            let why = reason::of(&evaluation.events, &evaluation.why.steps);
            self.scale(to, now, Some(why));
            // The target has changed: it is looked at again.
            let again = now + BETWEEN_WRITES;
            self.wake = Some(self.wake.map_or(again, |wake| wake.min(again)));
        }
        self.state = evaluation.state;
    }

    fn scale(&mut self, to: i32, now: Timestamp, why: Option<String>) -> bool {
        let from = self.workload.replicas();
        if from == to {
            return false;
        }
        self.workload.scale(to, now);
        self.workload.advance(now);
        match to.cmp(&from) {
            std::cmp::Ordering::Greater => self.sums.up += 1,
            _ => self.sums.down += 1,
        }
        self.changes.push(Change {
            at: now,
            from,
            to,
            why,
        });
        true
    }

    fn find_need(&mut self) {
        if self.scenario.spec.scaling_modifiers.is_none() {
            let requests = &self.workload.model().requests;
            self.needed = need::of_load(self.scenario.spec, &self.inputs, requests);
        }
    }

    fn standing(&self, now: Timestamp) -> Track {
        Track {
            at: now,
            replicas: self.workload.replicas(),
            ready: self.workload.ready(),
            needed: self.needed,
        }
    }

    /// When something happens next; the largest time if nothing does.
    fn next(&self, now: Timestamp) -> Timestamp {
        let outside = self
            .scenario
            .outside
            .and_then(|series| series.points().get(self.outside));
        let mut next = [
            self.inputs.next_point(),
            self.workload.next_ready(),
            outside.map(|point| point.at),
        ];
        let first = next
            .iter_mut()
            .filter_map(|next| *next)
            .min()
            .unwrap_or(Timestamp::MAX);
        let decisions = match self.scenario.pace {
            Pace::Rows => None,
            Pace::Every(_) => Some(self.poll),
            Pace::Events { .. } => {
                let moving = self.inputs.moving_until().filter(|until| now < *until);
                let sample = moving.map(|until| until.min(now + SAMPLING));
                // A deadline in the past would stop the clock; the engine gives none.
                let wake = self
                    .wake
                    .map(|wake| wake.max(now + Duration::from_millis(1)));
                [Some(self.poll), wake, sample, self.inputs.next_edge()]
                    .into_iter()
                    .flatten()
                    .min()
            }
        };
        decisions.map_or(first, |decision| decision.min(first))
    }
}
