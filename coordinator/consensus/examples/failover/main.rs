//! How long the cluster is without a leader that may act, over many faults.
//!
//! `failover [--kills N] [--partitions N] [--hand-overs N] [--history DIRECTORY]`
//!
//! A leader acts when it holds a lease and has committed a command. Each figure is the time from
//! the fault to the first act of its successor. Kills are SIGKILLs of real processes; partitions
//! and hand-overs happen among members in this process, over TCP with TLS and real disks. After
//! each series every acknowledged command must be on every member, once, in the same order. What clients saw
//! meanwhile goes to `kill.jsonl`, `partition.jsonl` and `handover.jsonl` in the directory.

// A program to measure with: it ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod history;
mod inside;
mod kills;
mod member;

use std::path::PathBuf;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if arguments.first().is_some_and(|first| first == "member") {
        runtime.block_on(member::run(&arguments[1..]));
        return;
    }
    let count = |flag: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == flag);
        let value = at.map(|at| arguments.get(at + 1).expect("a number after each flag"));
        value.map_or(default, |value| {
            value.parse().expect("a number after each flag")
        })
    };
    let (kills, partitions) = (count("--kills", 50), count("--partitions", 30));
    let hand_overs = count("--hand-overs", 50);
    let saving = arguments
        .iter()
        .position(|argument| argument == "--history");
    let saving = saving.map(|at| PathBuf::from(arguments.get(at + 1).expect("a directory")));
    let save = |name: &str| Some(saving.as_ref()?.join(format!("{name}.jsonl")));
    runtime.block_on(async {
        if kills > 0 {
            print("kill", kills::series(kills, save("kill").as_deref()).await);
        }
        if partitions > 0 {
            print(
                "partition",
                inside::partitions(partitions, save("partition").as_deref()).await,
            );
        }
        if hand_overs > 0 {
            print(
                "handover",
                inside::hand_overs(hand_overs, save("handover").as_deref()).await,
            );
        }
    });
}

/// Prints the figures of one series.
fn print(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let rank = |share: usize| {
        // Nearest rank.
        let rank = (times.len() * share).div_ceil(100).max(1);
        times[rank - 1].as_secs_f64() * 1e3
    };
    for (label, share) in [("p50", 50), ("p99", 99), ("max", 100)] {
        println!("figure {name}_{label} {:.0} ms", rank(share));
    }
}
