//! Deciding whenever a signal changes instead of every 15 s.
//!
//! Every recorded sequence is replayed in closed loop: as the HPA decides, looking each 15 s, and
//! with the engine's defaults each second. Both see the same load at the same times. Then the changes
//! of direction are counted. `NEAP_VECTORS` names another folder of sequences.

#[path = "../conformance/report.rs"]
#[allow(dead_code)]
mod report;
#[path = "../conformance/sequences.rs"]
#[allow(dead_code)]
mod sequences;
#[path = "../conformance/vectors.rs"]
#[allow(dead_code)]
mod vectors;

mod replay;

use std::path::PathBuf;

use neap_engine::hpa_spec::{HpaScalingRules, HpaSpec};
use replay::{Load, Run, replay};
use sequences::Sequence;

fn sequences() -> Vec<Sequence> {
    let open = || PathBuf::from("tests/vectors");
    let folder = std::env::var_os("NEAP_VECTORS").map_or_else(open, PathBuf::from);
    let files = vectors::files(&folder);
    let files = files
        .iter()
        .filter(|file| matches!(file.schema(), Some(vectors::Schema::Sequences)));
    files
        .flat_map(|file| file.cases::<Sequence>().collect::<Vec<_>>())
        .collect()
}

struct Comparison {
    sequences: usize,
    here: usize,
    hpa: usize,
    /// Sequences that turn more often here.
    more: Vec<String>,
}

fn compare(load: Load) -> Comparison {
    let mut comparison = Comparison {
        sequences: 0,
        here: 0,
        hpa: 0,
        more: Vec::new(),
    };
    for sequence in sequences() {
        let hpa = replay(&sequence, Run::Hpa(load)).turns;
        let here = replay(&sequence, Run::EverySecond(load)).turns;
        comparison.sequences += 1;
        comparison.hpa += hpa;
        comparison.here += here;
        if here > hpa {
            comparison
                .more
                .push(format!("{}: {here} instead of {hpa}", sequence.id));
        }
    }
    println!(
        "{load:?}: {} changes of direction in {} sequences, the HPA's {}; more often in {}: {}",
        comparison.here,
        comparison.sequences,
        comparison.hpa,
        comparison.more.len(),
        comparison.more.join(", ")
    );
    comparison
}

#[test]
fn with_the_load_held_no_sequence_turns_more_often_than_the_hpa() {
    let comparison = compare(Load::Held);
    assert!(comparison.sequences > 0);
    assert!(comparison.more.is_empty(), "{:?}", comparison.more);
}

/// Between two instants the load moves in a straight line, with noise of up to 10 % each second.
/// `NEAP_NOISE_SEEDS` takes more seeds than the fixed handful.
#[test]
fn with_a_moving_and_noisy_load_no_sequence_turns_more_often_than_the_hpa() {
    let seeds = std::env::var("NEAP_NOISE_SEEDS").map_or(5, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        let comparison = compare(Load::Noisy(seed));
        assert!(comparison.sequences > 0);
        assert!(comparison.more.is_empty(), "{:?}", comparison.more);
    }
}

/// Where the load stands still between the HPA's looks, and windows and periods are whole looks, the
/// replicas at those looks are the HPA's, although limits and windows are released in between.
#[test]
fn at_the_hpas_looks_the_replicas_are_the_hpas() {
    let mut compared = 0;
    for mut sequence in sequences() {
        if sequence.family != "rec" {
            continue;
        }
        for (look, step) in sequence.steps.iter_mut().enumerate() {
            step.t_ms = i64::try_from(look).unwrap() * 15_000;
        }
        in_whole_looks(&mut sequence.spec_defaulted);
        let hpa = replay(&sequence, Run::Hpa(Load::Held)).at_instants;
        let here = replay(&sequence, Run::Deadlines).at_instants;
        let differs = hpa.iter().zip(&here).position(|(hpa, here)| hpa != here);
        assert!(
            differs.is_none(),
            "{} at look {differs:?}: {here:?}, not {hpa:?}",
            sequence.id
        );
        compared += hpa.len();
    }
    println!("{compared} looks compared");
    assert!(compared > 0);
}

fn in_whole_looks(hpa: &mut HpaSpec) {
    let whole = |seconds: i32| (seconds + 14) / 15 * 15;
    let round = |rules: &mut Option<HpaScalingRules>| {
        let Some(rules) = rules else { return };
        rules.stabilization_window_seconds = rules.stabilization_window_seconds.map(whole);
        for policy in rules.policies.iter_mut().flatten() {
            policy.period_seconds = whole(policy.period_seconds);
        }
    };
    if let Some(behavior) = &mut hpa.behavior {
        round(&mut behavior.scale_up);
        round(&mut behavior.scale_down);
    }
}
