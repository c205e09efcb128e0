//! What the fuzz targets were given and what they found, replayed in an ordinary build.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests by clippy

#[path = "../../../tests/fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
mod targets;

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new("../../tests/fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no input in {}", folder.display());
}

#[test]
fn every_formula_of_the_corpus() {
    replay("formula", targets::formula);
}

#[test]
fn every_state_of_the_corpus() {
    replay("state", targets::state);
}
