//! How long one decision takes, and how large its state is.
//!
//! Divan's table first, then the figures that budgets are kept against, one a line:
//! `figure NAME VALUE UNIT`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use divan::Bencher;
use neap_engine::{
    Behavior, DecisionState, Evaluation, Observation, Pod, Reading, Sample, ScalingSpec, evaluate,
};
use neap_units::{MilliValue, Timestamp};
use support::{at, cpu, external, of_pods, per_pod, pods, samples, spec, units, value};

/// One target with everything an evaluation borrows from.
struct Case {
    spec: ScalingSpec,
    state: DecisionState,
    pods: Vec<Pod>,
    samples: Vec<Option<Sample>>,
    value: MilliValue,
}

impl Case {
    /// `triggers` triggers (cpu, a backlog per pod, then external ones; one alone is external) over
    /// `count` pods, with an hour of history behind it.
    fn new(triggers: usize, count: usize) -> Self {
        let each = (0..triggers).map(|index| match index {
            _ if triggers == 1 => external("queue", 10),
            0 => cpu(70),
            1 => per_pod("backlog", units(5)),
            _ => external(&format!("queue-{index}"), 10),
        });
        let mut spec = spec(each.collect());
        spec.min_replicas = 1;
        spec.max_replicas = 2000;
        spec.behavior = Some(Behavior::default());
        let samples = samples(count, 650, at(0));
        let value = units(i64::try_from(count).unwrap_or(1) * 10);
        let mut case = Self {
            spec,
            state: DecisionState::default(),
            pods: pods(count),
            samples,
            value,
        };
        for second in 0..3600 {
            case.value = units(i64::try_from(count).unwrap_or(1) * 10 + second % 7);
            case.state = case.run(at(second)).state;
        }
        case
    }

    fn run(&self, now: Timestamp) -> Evaluation {
        let pods: Vec<&Pod> = self.pods.iter().collect();
        let readings: Vec<Reading<'_>> = self
            .spec
            .triggers
            .iter()
            .map(|trigger| match trigger.kind.as_str() {
                "mysql" => value(std::slice::from_ref(&self.value), now),
                _ => of_pods(&self.samples),
            })
            .collect();
        let count = i32::try_from(self.pods.len()).unwrap_or(i32::MAX);
        let seen = Observation {
            spec_replicas: count,
            status_replicas: count,
            ready_replicas: None,
            pods: &pods,
            selector_problem: None,
            readings: &readings,
        };
        evaluate(&self.spec, &self.state, &seen, now)
    }
}

#[divan::bench(args = [
    (1, 10), (1, 100), (1, 1000),
    (3, 10), (3, 100), (3, 1000),
    (10, 10), (10, 100), (10, 1000),
])]
fn triggers_and_pods(bencher: Bencher<'_, '_>, (triggers, pods): (usize, usize)) {
    let case = Case::new(triggers, pods);
    bencher.bench_local(|| black_box(case.run(at(3600))));
}

#[divan::bench(sample_count = 10)]
fn ten_thousand_targets(bencher: Bencher<'_, '_>) {
    let cases: Vec<Case> = (0..100).map(|_| Case::new(1, 10)).collect();
    bencher.bench_local(|| {
        for _ in 0..100 {
            for case in &cases {
                black_box(case.run(at(3600)));
            }
        }
    });
}

/// The best of several rounds: the machine may be shared.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn micros_per_call(calls: u32, mut call: impl FnMut()) -> f64 {
    let rounds = (0..15).map(|_| {
        let start = std::time::Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn main() {
    divan::main();
    let evaluation = |triggers, pods, calls| {
        let case = Case::new(triggers, pods);
        micros_per_call(calls, || {
            black_box(case.run(at(3600)));
        })
    };
    println!("figure evaluate {:.2} us", evaluation(3, 100, 2000));
    println!("figure evaluate_one {:.2} us", evaluation(1, 10, 20_000));
    let case = Case::new(1, 10);
    let pass = micros_per_call(1, || {
        for _ in 0..10_000 {
            black_box(case.run(at(3600)));
        }
    });
    println!("figure evaluate_pass {:.1} ms", pass / 1000.0);
    println!("figure state_bytes {} bytes", case.state.encode().len());
    println!(
        "figure state_bytes_new {} bytes",
        DecisionState::default().encode().len()
    );
}
