//! Simulations of Neap: real coordinators (service, decider, consensus, log, peer network) with fake
//! agents and a fake API server, on a simulated network and in virtual time. Everything that happens
//! follows from a seed.

mod agent;
mod api;
mod bug;
mod checks;
mod faults;
mod kernel;
mod load;
mod logs;
mod net;
mod ports;
mod process;
mod sim;
mod stream;
mod time;
mod trace;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;

use crate::bug::Bug;
use crate::sim::Outcome;

/// Simulates coordinators, agents and API server under faults, and checks what must stay true.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many of them run twice: both runs must be equal to the last event.
    #[arg(long, default_value_t = 20)]
    twice: u64,
    /// This seed alone, with all that happens printed; RUST_LOG adds what the coordinators log.
    #[arg(long)]
    seed: Option<u64>,
    /// Puts a bug in. Then the checks have to notice it within the seeds.
    #[arg(long)]
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        log();
        let outcome = simulate(seed, arguments.bug, true);
        for violation in &outcome.violations {
            println!("seed {seed}: {violation}");
        }
        println!("hash {:016x} of {} events", outcome.hash, outcome.events);
        return code(outcome.violations.is_empty());
    }
    // A coordinator's panic ends it, which is noticed; `--seed` shows where it was.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments.bug {
        Some(bug) => code(notice(&arguments, bug)),
        None => code(check(&arguments)),
    }
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).init();
}

/// Runs a seed in a thread of its own. A panic is a violation like any other.
fn simulate(seed: u64, bug: Option<Bug>, print: bool) -> Outcome {
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        .spawn(move || sim::run(seed, bug, print));
    thread.unwrap().join().unwrap_or_else(|_| Outcome {
        hash: 0,
        events: 0,
        violations: vec!["the simulation itself panicked".into()],
        faults: 0,
        writes: 0,
        late: 0,
        conflicts: 0,
        elections: 0,
        time: Duration::ZERO,
    })
}

/// Runs all seeds, on all processors, until `on` says that it is enough.
fn each(arguments: &Arguments, on: impl Fn(u64, Outcome) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds {
                        return;
                    }
                    let seed = arguments.first + at;
                    if on(seed, simulate(seed, arguments.bug, false)) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Whether every seed is without a violation, and those that ran twice were equal.
fn check(arguments: &Arguments) -> bool {
    let done = Mutex::new(BTreeMap::new());
    each(arguments, |seed, outcome| {
        if let Some(first) = outcome.violations.first() {
            println!(
                "seed {seed}: {first}; again, with all that happens: tests/run sim --seed {seed}"
            );
        }
        if seed - arguments.first < arguments.twice {
            let again = simulate(seed, None, false);
            if (again.hash, again.events) != (outcome.hash, outcome.events) {
                println!(
                    "seed {seed} is not the same twice: {:016x} of {} events, then {:016x} of {}",
                    outcome.hash, outcome.events, again.hash, again.events
                );
                done.lock().unwrap().insert(seed, (outcome, false));
                return false;
            }
        }
        done.lock().unwrap().insert(seed, (outcome, true));
        false
    });
    let done = done.into_inner().unwrap();
    let outcomes = || done.values().map(|(outcome, _)| outcome);
    let sum = |of: fn(&Outcome) -> u64| outcomes().map(of).sum::<u64>();
    let failed = done
        .values()
        .filter(|(outcome, same)| !(*same && outcome.violations.is_empty()))
        .count();
    let time: Duration = outcomes().map(|outcome| outcome.time).sum();
    println!("figure sim_seeds {} seeds", done.len());
    println!("figure sim_virtual_time {} s", time.as_secs());
    println!("figure sim_events {} events", sum(|outcome| outcome.events));
    println!("figure sim_faults {} faults", sum(|outcome| outcome.faults));
    println!(
        "figure sim_elections {} elections",
        sum(|outcome| outcome.elections)
    );
    println!("figure sim_writes {} writes", sum(|outcome| outcome.writes));
    println!(
        "figure sim_conflicts {} writes",
        sum(|outcome| outcome.conflicts)
    );
    println!(
        "figure sim_late_writes {} writes",
        sum(|outcome| outcome.late)
    );
    println!("figure sim_failed {failed} seeds");
    failed == 0
}

/// Whether some seed notices the bug.
fn notice(arguments: &Arguments, bug: Bug) -> bool {
    let noticed = Mutex::new(None);
    each(arguments, |seed, outcome| {
        let Some(violation) = outcome.violations.into_iter().next() else {
            return false;
        };
        let mut noticed = noticed.lock().unwrap();
        if noticed.is_none() {
            println!("{bug:?} is noticed by seed {seed}: {violation}");
            *noticed = Some(seed);
        }
        true
    });
    let noticed = noticed.into_inner().unwrap();
    if noticed.is_none() {
        println!("{bug:?} is not noticed by {} seeds", arguments.seeds);
    }
    noticed.is_some()
}
