//! The engine against recorded behaviour of Kubernetes 1.36.3: every case of every vector file.
//!
//! Runs the open vectors in `tests/vectors`. `NEAP_VECTORS=/dir` runs every `*.jsonl` and
//! `*.jsonl.gz` file of these schemas in that folder instead. Prints `FILE: passed N of M` for each
//! file and the first ten differences with both answers, and fails if any case differs.
//!
//! Cases that Kubernetes answers with an accident of Go's arithmetic are counted apart, by tag, and
//! only if the engine says that it saturated.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

mod kept_history;
mod quantity;
mod replica_calculator;
mod report;
mod sequences;
mod validation;
mod vectors;

use std::path::PathBuf;

use report::Report;
use vectors::{Schema, VectorFile};

fn folder() -> PathBuf {
    match std::env::var_os("NEAP_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from("tests/vectors"),
    }
}

fn run(file: &VectorFile) -> Option<Report> {
    let mut report = Report::new(&file.name);
    match file.schema()? {
        Schema::ReplicaCalculator => replica_calculator::run(file, &mut report),
        Schema::Sequences => sequences::run(file, &mut report),
        Schema::Quantity => quantity::run(file, &mut report),
        Schema::SpecValidation => validation::run(file, &mut report),
    }
    Some(report)
}

#[test]
fn every_case_of_every_vector_file() {
    let folder = folder();
    let files = vectors::files(&folder);
    assert!(!files.is_empty(), "no vector file in {}", folder.display());
    let mut cases = 0;
    let mut failed = Vec::new();
    for file in &files {
        match run(file) {
            Some(report) => {
                println!("{report}");
                cases += report.cases();
                if report.failed() > 0 {
                    failed.push(format!("{}: {} differ", file.name, report.failed()));
                }
            }
            None => println!("{}: not of these schemas, left out", file.name),
        }
    }
    assert!(cases > 0, "no case in {}", folder.display());
    assert!(failed.is_empty(), "{}", failed.join("; "));
}

#[test]
fn history_that_survives_a_restart_does_better() {
    let mut better = 0;
    for file in vectors::files(&folder()) {
        if matches!(file.schema(), Some(Schema::Sequences)) {
            let comparison = kept_history::compare(&file);
            println!("{comparison}");
            better += comparison.better();
        }
    }
    if std::env::var_os("NEAP_VECTORS").is_none() {
        assert!(
            better > 0,
            "the open vectors have sequences that lose limits at a restart"
        );
    }
}
