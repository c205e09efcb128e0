//! A simulation decides as the engine's own tests expect: the recorded sequences of the HPA
//! controller, as loads.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use neap::load::{Point, Series};
use neap::simulate::{Change, Input, Pace, PodModel, Scenario, simulate};
use neap_engine::hpa_spec::HpaSpec;
use neap_engine::{Settings, ZeroHandling};
use neap_units::{MilliValue, Timestamp};
use serde::Deserialize;

#[derive(Deserialize)]
struct Sequence {
    id: String,
    family: String,
    #[serde(default)]
    tags: Vec<String>,
    controller: Controller,
    spec_defaulted: HpaSpec,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Controller {
    tolerance: f64,
    downscale_stabilization_ms: u64,
    gate_hpa_configurable_tolerance: bool,
}

#[derive(Deserialize)]
struct Step {
    t_ms: i64,
    spec_replicas: i32,
    recommendation: Option<i32>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    scaled_to: Option<i32>,
}

/// What a load cannot carry: edits of the spec, restarts, and refused writes.
const NOT_OF_A_LOAD: [&str; 4] = [
    "has_restart",
    "has_set_spec",
    "has_update_failure",
    "has_set_controller",
];

#[test]
fn recorded_sequences_come_out_as_recorded() {
    let folder = Path::new("../coordinator/engine/tests/vectors");
    let path = folder.join("behavior_sequences.open.jsonl.gz");
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines();
    let (mut run, mut changed) = (0, 0);
    for line in lines {
        let sequence: Sequence = serde_json::from_str(&line.unwrap()).unwrap();
        let carried = !sequence
            .tags
            .iter()
            .any(|tag| NOT_OF_A_LOAD.contains(&tag.as_str()));
        if sequence.family != "rec" || !carried {
            continue;
        }
        let changes = replay(&sequence);
        let decided = changes.iter().filter(|change| change.why.is_some());
        let decided: Vec<(i64, i32)> = decided
            .map(|change| (change.at.as_millis(), change.to))
            .collect();
        let recorded: Vec<(i64, i32)> = sequence
            .steps
            .iter()
            .filter_map(|step| Some((step.t_ms, step.expect.scaled_to?)))
            .collect();
        assert_eq!(decided, recorded, "{}", sequence.id);
        run += 1;
        changed += decided.len();
    }
    assert!(
        run > 50 && changed > 500,
        "{run} sequences with {changed} changes"
    );
}

fn replay(sequence: &Sequence) -> Vec<Change> {
    let settings = Settings {
        tolerance: sequence.controller.tolerance,
        downscale_stabilization: Duration::from_millis(
            sequence.controller.downscale_stabilization_ms,
        ),
        configurable_tolerance: sequence.controller.gate_hpa_configurable_tolerance,
        reversal_hold: Duration::ZERO,
        sync_period: Duration::ZERO,
        ..Settings::default()
    };
    let spec = sequence
        .spec_defaulted
        .to_scaling_spec("ns", ZeroHandling::Disabled, settings);
    let series = |value: &dyn Fn(&Step) -> Option<i32>| {
        let points = sequence.steps.iter().map(|step| Point {
            at: Timestamp::from_millis(step.t_ms),
            value: value(step).map(|value| MilliValue::from_units(i64::from(value))),
        });
        Series::new(points.collect()).unwrap()
    };
    // One pod per unit: the load is what the controller was recommended.
    let load = series(&|step| step.recommendation);
    let outside = series(&|step| Some(step.spec_replicas));
    simulate(&Scenario {
        spec: &spec,
        inputs: &[Input::Value(&load)],
        outside: Some(&outside),
        pods: PodModel {
            ready_after: Duration::ZERO,
            ..PodModel::default()
        },
        replicas: sequence.steps[0].spec_replicas,
        pace: Pace::Rows,
        start: load.start(),
        end: load.end(),
    })
    .changes
}
