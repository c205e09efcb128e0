//! Deciding whenever a signal changes instead of every 15 s.
//!
//! Every recorded sequence is replayed in closed loop: as the HPA decides, looking each 15 s, and
//! with the engine's defaults each second. Both see the same load at the same times. Then the changes
//! of direction are counted.

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
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
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

/// One look in fifteen misses most of the noise, so here and there a sequence turns once where the
/// HPA happens not to look; over all of them the engine turns far less often.
#[test]
fn with_a_moving_and_noisy_load_it_turns_less_often_than_the_hpa() {
    for seed in 1..=3 {
        let comparison = compare(Load::Noisy(seed));
        assert!(comparison.sequences > 0);
        assert!(
            comparison.here * 2 <= comparison.hpa,
            "{} {}",
            comparison.here,
            comparison.hpa
        );
        assert!(
            comparison.more.len() * 50 <= comparison.sequences,
            "{:?}",
            comparison.more
        );
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
