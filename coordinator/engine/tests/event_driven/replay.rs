#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy
use std::time::Duration;

use neap_engine::{
    DecisionState, Direction, MetricSpec, Observation, Pod, PodReadings, Reading, Sample,
    ScalingSpec, Settings, ValueReading, ValueTarget, evaluate,
};
use neap_units::{MilliValue, Timestamp};

use super::sequences::{Controller, Sequence, Step, StepData};
use super::vectors::at;

/// What the load does between the recorded instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// It stays as at the last instant.
    Held,
    /// It moves in a straight line to the next instant, with up to 10 % of noise, fixed by a seed.
    Noisy(u64),
}

/// When the target is evaluated besides the recorded instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Each 15 s between them, as the HPA decides.
    Hpa(Load),
    /// Each second between them, with the engine's defaults.
    EverySecond(Load),
    /// At the engine's deadlines, with its defaults and the load held.
    Deadlines,
}

impl Run {
    fn noise(self) -> Option<u64> {
        match self {
            Self::Hpa(Load::Noisy(seed)) | Self::EverySecond(Load::Noisy(seed)) => Some(seed),
            _ => None,
        }
    }
}

/// How a run came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Changes against the direction of the change before.
    pub(crate) turns: usize,
    /// The replicas after each instant.
    pub(crate) at_instants: Vec<i32>,
    last: Option<Direction>,
}

struct Machine {
    spec: ScalingSpec,
    state: DecisionState,
    current: i32,
    deadline: Option<Timestamp>,
    outcome: Outcome,
}

impl Machine {
    /// Evaluates with the load of a step spread over the run's own replicas: as many pods, each with
    /// its share.
    fn evaluate(&mut self, data: &StepData, step: &Step, readings: &[Reading<'_>], now: Timestamp) {
        let all = data.pods();
        let wanted = usize::try_from(self.current).unwrap_or(0);
        let pods: Vec<&Pod> = all.iter().copied().cycle().take(wanted).collect();
        let share = |value: MilliValue| {
            let whole = i128::from(value.get()) * i128::from(step.spec_replicas);
            MilliValue::new(i64::try_from(whole / i128::from(self.current.max(1))).unwrap())
        };
        let spread: Vec<Spread> = readings
            .iter()
            .map(|reading| Spread::of(reading, wanted, share))
            .collect();
        let each = readings.iter().zip(&spread).zip(&self.spec.triggers);
        let readings: Vec<Reading<'_>> = each
            .map(|((reading, spread), trigger)| spread.reading(reading, &trigger.metric))
            .collect();
        let seen = Observation {
            spec_replicas: self.current,
            status_replicas: self.current,
            ready_replicas: None,
            pods: &pods,
            selector_problem: None,
            readings: &readings,
        };
        let evaluation = evaluate(&self.spec, &self.state, &seen, now);
        // A deadline that has passed would stop the clock.
        assert!(
            evaluation.deadline.is_none_or(|deadline| deadline > now),
            "{}",
            evaluation.why
        );
        self.deadline = evaluation.deadline;
        let Some(to) = evaluation.write else {
            self.state = evaluation.state;
            return;
        };
        if step.scale_update_fails {
            self.state = evaluation.refuse("refused").state;
            return;
        }
        let direction = if to > self.current {
            Direction::Up
        } else {
            Direction::Down
        };
        if self.outcome.last.is_some_and(|last| last != direction) {
            self.outcome.turns += 1;
        }
        self.outcome.last = Some(direction);
        self.state = evaluation.state;
        self.current = to;
    }
}

/// A reading spread over other replicas than those it was recorded with.
struct Spread {
    values: Vec<MilliValue>,
    samples: Vec<Option<Sample>>,
}

impl Spread {
    fn of(reading: &Reading<'_>, pods: usize, share: impl Fn(MilliValue) -> MilliValue) -> Self {
        match reading {
            Reading::Pods(readings) => {
                let each = readings.samples.iter().cycle().take(pods);
                let spread = |sample: &Sample| Sample {
                    value: share(sample.value),
                    ..*sample
                };
                let samples = each.map(|sample| sample.as_ref().map(spread)).collect();
                Self {
                    values: Vec::new(),
                    samples,
                }
            }
            Reading::Values(readings) => {
                let values = readings.values.iter().map(|value| share(*value)).collect();
                Self {
                    values,
                    samples: Vec::new(),
                }
            }
            Reading::Failed(_) => Self {
                values: Vec::new(),
                samples: Vec::new(),
            },
        }
    }

    fn reading<'a>(&'a self, of: &Reading<'a>, metric: &MetricSpec) -> Reading<'a> {
        match *of {
            Reading::Pods(pods) => Reading::Pods(PodReadings {
                samples: &self.samples,
                unknown: &[],
                ..pods
            }),
            Reading::Values(values) if is_value(metric) => Reading::Values(ValueReading {
                values: &self.values,
                ..values
            }),
            other => other,
        }
    }
}

/// Whether the metric is a level that falls as replicas are added, and no total.
fn is_value(metric: &MetricSpec) -> bool {
    matches!(
        metric,
        MetricSpec::External {
            target: ValueTarget::Value(_),
            ..
        } | MetricSpec::Object {
            target: ValueTarget::Value(_),
            ..
        }
    )
}

/// Replays a sequence in closed loop. Changes that somebody else made are made as recorded.
pub(crate) fn replay(sequence: &Sequence, run: Run) -> Outcome {
    let mut controller = sequence.controller.clone();
    let mut hpa = sequence.spec_defaulted.clone();
    let compile = |controller: &Controller, hpa: &_| {
        let mut spec = controller.compile(hpa);
        if !matches!(run, Run::Hpa(_)) {
            let defaults = Settings::default();
            spec.settings.reversal_hold = defaults.reversal_hold;
            spec.settings.sync_period = defaults.sync_period;
            spec.settings.noise_margin = defaults.noise_margin;
        }
        spec
    };
    let mut machine = Machine {
        spec: compile(&controller, &hpa),
        state: DecisionState::default(),
        current: sequence.steps.first().map_or(0, |step| step.spec_replicas),
        deadline: None,
        outcome: Outcome::default(),
    };
    for (index, step) in sequence.steps.iter().enumerate() {
        if let Some(settings) = &step.set_controller {
            controller = settings.clone();
        }
        if let Some(edited) = &step.set_spec_defaulted {
            hpa = edited.clone();
        }
        machine.spec = compile(&controller, &hpa);
        if step.manual_scale {
            machine.current = step.spec_replicas;
            machine.outcome.last = None;
        }
        let data = StepData::of(sequence, step);
        let now = at(step.t_ms);
        let readings = data.readings(&machine.spec, step, now);
        let noisy: Vec<Moved> = match run.noise() {
            Some(seed) => {
                let mut noise = Noise::at(seed, now);
                let each = readings.iter();
                each.map(|reading| Moved::of(reading, reading, 0.0, &mut noise))
                    .collect()
            }
            None => Vec::new(),
        };
        let readings = moved(&readings, &noisy);
        machine.evaluate(&data, step, &readings, now);
        machine.outcome.at_instants.push(machine.current);
        if let Some(next) = sequence.steps.get(index + 1) {
            between(&mut machine, sequence, (step, &data), next, run);
        }
    }
    machine.outcome
}

/// What happens between two instants.
fn between(
    machine: &mut Machine,
    sequence: &Sequence,
    (step, data): (&Step, &StepData),
    next: &Step,
    run: Run,
) {
    let next_data = StepData::of(sequence, next);
    let end = at(next.t_ms);
    let mut now = at(step.t_ms);
    loop {
        now = match run {
            Run::Hpa(_) => now + Duration::from_secs(15),
            Run::EverySecond(_) => now + Duration::from_secs(1),
            Run::Deadlines => machine.deadline.unwrap_or(Timestamp::MAX),
        };
        if now >= end {
            return;
        }
        let readings = data.readings(&machine.spec, step, now);
        let noisy: Vec<Moved> = match run.noise() {
            Some(seed) => {
                let towards = next_data.readings(&machine.spec, next, now);
                let share = (now.as_millis() - step.t_ms) as f64 / (next.t_ms - step.t_ms) as f64;
                let mut noise = Noise::at(seed, now);
                let each = readings.iter().zip(&towards);
                each.map(|(from, to)| Moved::of(from, to, share, &mut noise))
                    .collect()
            }
            None => Vec::new(),
        };
        let readings = moved(&readings, &noisy);
        machine.evaluate(data, step, &readings, now);
    }
}

/// The readings, those that were moved in their new place.
fn moved<'a>(readings: &[Reading<'a>], moved: &'a [Moved]) -> Vec<Reading<'a>> {
    let each = readings.iter().enumerate();
    each.map(|(index, reading)| {
        moved
            .get(index)
            .map_or(*reading, |moved| moved.reading(reading))
    })
    .collect()
}

/// A reading on its way from one instant to the next.
struct Moved {
    values: Vec<MilliValue>,
    samples: Vec<Option<Sample>>,
}

impl Moved {
    fn of(from: &Reading<'_>, to: &Reading<'_>, share: f64, noise: &mut Noise) -> Self {
        let mut between = |from: MilliValue, to: Option<MilliValue>| {
            let to = to.unwrap_or(from).get() as f64;
            let straight = from.get() as f64 * (1.0 - share) + to * share;
            MilliValue::new((straight * noise.factor()) as i64)
        };
        let (mut values, mut samples) = (Vec::new(), Vec::new());
        match (from, to) {
            (Reading::Values(from), to) => {
                let to = match to {
                    Reading::Values(to) => to.values,
                    _ => &[],
                };
                let each = from.values.iter().enumerate();
                values = each
                    .map(|(index, value)| between(*value, to.get(index).copied()))
                    .collect();
            }
            (Reading::Pods(from), to) => {
                let to = match to {
                    Reading::Pods(to) => to.samples,
                    _ => &[],
                };
                let each = from.samples.iter().enumerate();
                samples = each
                    .map(|(index, sample)| {
                        let sample = (*sample)?;
                        let to = to.get(index).copied().flatten().map(|to| to.value);
                        Some(Sample {
                            value: between(sample.value, to),
                            ..sample
                        })
                    })
                    .collect();
            }
            (Reading::Failed(_), _) => {}
        }
        Self { values, samples }
    }

    fn reading<'a>(&'a self, of: &Reading<'a>) -> Reading<'a> {
        match *of {
            Reading::Values(values) => Reading::Values(ValueReading {
                values: &self.values,
                ..values
            }),
            Reading::Pods(pods) => Reading::Pods(PodReadings {
                samples: &self.samples,
                ..pods
            }),
            Reading::Failed(failure) => Reading::Failed(failure),
        }
    }
}

/// Factors from 0.9 to 1.1, fixed for each moment and place in a reading, so that both runs see the
/// same load.
struct Noise {
    seed: u64,
    at: Timestamp,
    place: u64,
}

impl Noise {
    fn at(seed: u64, at: Timestamp) -> Self {
        Self { seed, at, place: 0 }
    }

    fn factor(&mut self) -> f64 {
        self.place += 1;
        // SplitMix64.
        let moment = self.at.as_millis().unsigned_abs();
        let mut x = self.seed ^ moment.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = x.wrapping_add(self.place.wrapping_mul(0xbf58_476d_1ce4_e5b9));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        0.9 + (x >> 11) as f64 / (1_u64 << 53) as f64 * 0.2
    }
}
