//! Leaders that go, and how soon the next one scales a target whose signal crosses only then.
//!
//! `load-decisions run ROOT COORDINATOR KILLS HAND_OVERS`, by tests/suites/failover, in a network and with a hosts file of
//! its own (`load-decisions hosts` prints it).
//!
//! Three real coordinators, each a process of the program as it is shipped, with its log on disk and certificates that
//! they made; the agent's own code for streams, with one stream to the leader and an idle one to the replica that leads
//! next; and an API server that takes the time at which a PATCH arrives. It is at the wire that faults are looked at: who
//! wrote what, on which version, in which order.

mod agent;
mod faults;
mod scales;

use std::path::Path;

use anyhow::{Context, Result, bail};
use neap_load::replicas::names;
use neap_load::{figure, install_tls_provider, percentile};

use faults::Bench;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    install_tls_provider()?;
    match words.as_slice() {
        ["hosts"] => {
            print!("{}", names::hosts());
            Ok(())
        }
        ["run", root, program, kills, hand_overs] => {
            let (kills, hand_overs) = (count(kills)?, count(hand_overs)?);
            run(Path::new(root), Path::new(program), kills, hand_overs).await
        }
        _ => bail!("usage: load-decisions run ROOT COORDINATOR KILLS HAND_OVERS"),
    }
}

fn count(word: &str) -> Result<usize> {
    word.parse()
        .with_context(|| format!("{word:?} is not a number"))
}

async fn run(root: &Path, program: &Path, kills: usize, hand_overs: usize) -> Result<()> {
    let mut bench = Bench::start(root, program).await?;
    let mut times = Vec::new();
    for _ in 0..kills {
        times.push(bench.kill().await?);
    }
    print("decision_kill", &times);
    let (mut times, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..hand_overs {
        let (next, longest) = bench.hand_over().await?;
        times.push(next);
        waits.push(longest);
    }
    print("decision_handover", &times);
    print("decision_handover_wait", &waits);
    bench.end().await
}

/// Prints the figures of one kind of fault, of which there may have been none.
fn print(name: &str, times: &[f64]) {
    for (label, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        if let Some(value) = percentile(times, share) {
            figure(&format!("{name}_{label}"), value, "ms");
        }
    }
}
