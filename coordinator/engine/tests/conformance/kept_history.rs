//! Sequences with restarts, once with the history lost as the HPA loses it, once kept.
//!
//! Replayed in closed loop: each run scales its own replicas. Compared is how often a change went
//! beyond the policies in force, counted over everything the run itself did, and how far the
//! replicas were from what the metrics asked for, in replicas times seconds.

use std::fmt;

use neap_engine::{
    DecisionState, Direction, Observation, PolicyKind, ScalingSpec, SelectPolicy, evaluate,
};
use neap_units::Timestamp;

use super::sequences::{Sequence, StepData};
use super::vectors::{VectorFile, at};

/// How one sequence came out both ways.
struct Outcome {
    id: String,
    lost: Replay,
    kept: Replay,
    steps_that_differ: usize,
}

impl Outcome {
    fn is_better(&self) -> bool {
        let fewer = self.kept.beyond < self.lost.beyond;
        fewer || (self.kept.beyond == self.lost.beyond && self.kept.away < self.lost.away)
    }
}

pub(crate) struct Comparison {
    file: String,
    outcomes: Vec<Outcome>,
}

impl Comparison {
    pub(crate) fn better(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.is_better())
            .count()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} sequences with restarts, {} better with the history kept",
            self.file,
            self.outcomes.len(),
            self.better()
        )?;
        for outcome in self
            .outcomes
            .iter()
            .filter(|outcome| outcome.steps_that_differ > 0)
        {
            write!(
                f,
                "\n  {}: {} steps differ; with the history lost {} changes beyond the policies and \
                 {} replica-seconds off, kept {} and {}{}",
                outcome.id,
                outcome.steps_that_differ,
                outcome.lost.beyond,
                outcome.lost.away,
                outcome.kept.beyond,
                outcome.kept.away,
                if outcome.is_better() { ": better" } else { "" }
            )?;
        }
        Ok(())
    }
}

pub(crate) fn compare(file: &VectorFile) -> Comparison {
    let mut outcomes = Vec::new();
    for sequence in file.cases::<Sequence>() {
        if !sequence.steps.iter().any(|step| step.controller_restart)
            || sequence.family != "restart"
        {
            continue;
        }
        let lost = replay(&sequence, true);
        let kept = replay(&sequence, false);
        let differ = lost
            .replicas
            .iter()
            .zip(&kept.replicas)
            .filter(|(a, b)| a != b)
            .count();
        outcomes.push(Outcome {
            id: sequence.id.clone(),
            lost,
            kept,
            steps_that_differ: differ,
        });
    }
    Comparison {
        file: file.name.clone(),
        outcomes,
    }
}

struct Replay {
    replicas: Vec<i32>,
    beyond: usize,
    away: i64,
}

/// One change a run made.
struct Change {
    at: Timestamp,
    delta: i64,
}

fn replay(sequence: &Sequence, forget: bool) -> Replay {
    let mut controller = sequence.controller.clone();
    let mut hpa = sequence.spec_defaulted.clone();
    let mut spec = controller.compile(&hpa);
    let mut state = DecisionState::default();
    let mut current = sequence.steps.first().map_or(0, |step| step.spec_replicas);
    let mut changes: Vec<Change> = Vec::new();
    let mut replay = Replay {
        replicas: Vec::new(),
        beyond: 0,
        away: 0,
    };
    for (index, step) in sequence.steps.iter().enumerate() {
        if step.controller_restart && forget {
            state.forget_history();
        }
        if let Some(settings) = &step.set_controller {
            controller = settings.clone();
        }
        if let Some(edited) = &step.set_spec_defaulted {
            hpa = edited.clone();
        }
        spec = if step.set_controller.is_some() || step.set_spec_defaulted.is_some() {
            controller.compile(&hpa)
        } else {
            spec
        };
        if step.manual_scale {
            current = step.spec_replicas;
        }
        let now = at(step.t_ms);
        let data = StepData::of(sequence, step);
        let (pods, readings) = (data.pods(), data.readings(&spec, step, now));
        let seen = Observation {
            spec_replicas: current,
            status_replicas: current,
            ready_replicas: None,
            pods: &pods,
            selector_problem: None,
            readings: &readings,
        };
        let evaluation = evaluate(&spec, &state, &seen, now);
        state = if step.scale_update_fails && evaluation.write.is_some() {
            evaluation.refuse("refused").state
        } else {
            let within = current >= spec.min_replicas && current <= spec.max_replicas;
            if within && exceeds(&spec, &changes, current, evaluation.desired, now) {
                replay.beyond += 1;
            }
            if evaluation.desired != current {
                let delta = i64::from(evaluation.desired) - i64::from(current);
                changes.push(Change { at: now, delta });
            }
            current = evaluation.desired;
            evaluation.state
        };
        replay.replicas.push(current);
        if let (Some(wanted), Some(next)) = (step.recommendation, sequence.steps.get(index + 1)) {
            let wanted = wanted.clamp(spec.min_replicas, spec.max_replicas);
            let off = (i64::from(current) - i64::from(wanted)).abs();
            replay.away += off * (next.t_ms - step.t_ms) / 1000;
        }
    }
    replay
}

/// Whether a change goes further than the policies let it, given all changes made.
fn exceeds(spec: &ScalingSpec, changes: &[Change], from: i32, to: i32, now: Timestamp) -> bool {
    let Some(behavior) = &spec.behavior else {
        return false;
    };
    let (direction, rules) = match to.cmp(&from) {
        std::cmp::Ordering::Greater => (Direction::Up, &behavior.scale_up),
        std::cmp::Ordering::Less => (Direction::Down, &behavior.scale_down),
        std::cmp::Ordering::Equal => return false,
    };
    if rules.select_policy == SelectPolicy::Disabled {
        return true;
    }
    let fits = |policy: &neap_engine::ScalingPolicy| {
        let inside = changes
            .iter()
            .filter(|change| change.at > now - policy.period);
        let start = i64::from(from) - inside.map(|change| change.delta).sum::<i64>();
        let value = i64::from(policy.value);
        let share = start as f64 * f64::from(policy.value) / 100.0;
        // One replica of slack for rounding.
        match (direction, policy.kind) {
            (Direction::Up, PolicyKind::Pods) => i64::from(to) <= start + value,
            (Direction::Up, PolicyKind::Percent) => f64::from(to) <= start as f64 + share + 1.0,
            (Direction::Down, PolicyKind::Pods) => i64::from(to) >= start - value,
            (Direction::Down, PolicyKind::Percent) => f64::from(to) >= start as f64 - share - 1.0,
        }
    };
    match rules.select_policy {
        SelectPolicy::Max => !rules.policies.iter().any(fits),
        _ => !rules.policies.iter().all(fits),
    }
}
