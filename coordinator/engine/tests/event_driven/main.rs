//! Deciding whenever a signal changes instead of every 15 s.
//!
//! Every recorded sequence is replayed twice: once at the HPA's instants, as the HPA decides, and
//! once at 1 Hz between them with the engine's defaults. Then the changes of direction are counted.

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

use replay::{Load, Run, replay};
use sequences::Sequence;

fn sequences() -> Vec<Sequence> {
    let folder = match std::env::var_os("NEAP_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    };
    let files = vectors::files(&folder);
    let files = files
        .iter()
        .filter(|file| matches!(file.schema(), Some(vectors::Schema::Sequences)));
    files
        .flat_map(|file| file.cases::<Sequence>().collect::<Vec<_>>())
        .collect()
}

fn compare(load: Load) {
    let (mut hpa_turns, mut turns, mut more) = (0, 0, Vec::new());
    let only = std::env::var("ONLY").ok();
    for sequence in sequences() {
        if only.as_ref().is_some_and(|only| *only != sequence.id) { continue; }
        println!("hpa");
        let hpa = if std::env::var_os("FAIR").is_some() { replay(&sequence, Run::Every15Seconds(load)) } else { replay(&sequence, Run::AtInstants) };
        println!("here");
        let here = replay(&sequence, Run::EverySecond(load));
        hpa_turns += hpa.turns;
        turns += here.turns;
        if here.turns > hpa.turns {
            more.push(format!(
                "{} {}: {} instead of {}",
                sequence.id, sequence.family, here.turns, hpa.turns
            ));
        }
    }
    println!("{load:?}: {turns} changes of direction, the HPA's {hpa_turns}");
    assert!(
        more.is_empty(),
        "{} sequences turn more often: {}",
        more.len(),
        more.join("; ")
    );
}

#[test]
fn with_the_load_held_it_turns_no_more_often_than_the_hpa() {
    compare(Load::Held);
}

#[test]
fn with_a_moving_and_noisy_load_it_turns_no_more_often_than_the_hpa() {
    compare(Load::Noisy);
}
