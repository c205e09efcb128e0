//! A long stream of decisions through a cluster of three on real disks: does anything grow?
//!
//! `load-soak [MINUTES] [CHANGES PER SECOND]`
//!
//! Each second a thousand records (by default) of as many targets are replaced. As a busy leader's ticks
//! do, each entry carries what has come up since the one before, fifty changes at least. Memory and disk are looked at all along; the figures compare the second
//! quarter of the time with the last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use neap_consensus::{BootClock, Consensus};
use neap_coordinator::clock::{Clock, SystemClock};
use neap_coordinator::decide::{Command, DecisionTable, FORMAT, TargetRecord};
use neap_coordinator::keys::TargetKey;
use neap_load::{figure, percentile, usage};
use neap_units::Timestamp;

#[path = "soak/members.rs"]
mod members;

/// Changes in one entry, at least.
const ENTRY: usize = 50;
/// Bytes of one target's state: some dozens of recommendations.
const STATE: usize = 400;
const LOOK: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// What was seen at one moment.
struct Look {
    memory: f64,
    disk: f64,
}

fn disk(root: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        // A snapshot that was replaced in between counts for nothing.
        let Ok(facts) = entry.metadata() else {
            continue;
        };
        bytes += if facts.is_dir() {
            disk(&entry.path())?
        } else {
            facts.len()
        };
    }
    Ok(bytes)
}

fn look(root: &Path) -> Result<Look> {
    Ok(Look {
        memory: usage(std::process::id())?.rss as f64,
        disk: disk(root)? as f64,
    })
}

async fn leader(members: &[Consensus]) -> Result<&Consensus> {
    let deadline = tokio::time::Instant::now() + MINUTE;
    loop {
        let leads = |one: &&Consensus| one.leadership().borrow().is_self && one.lease().is_some();
        if let Some(leader) = members.iter().find(leads) {
            return Ok(leader);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("no leader within {MINUTE:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next entry of the stream: the records of the next `count` targets after `first`.
fn entry(first: usize, count: usize, targets: usize, clock: &dyn Clock) -> Command {
    let changes = (first..first + count).map(|n| {
        let key = TargetKey::new("soak", format!("target-{}", n % targets).as_str());
        let record = TargetRecord {
            replicas: i32::try_from(n % 100).unwrap_or_default(),
            state: vec![u8::try_from(n % 251).unwrap_or_default(); STATE],
        };
        (key, Some(record))
    });
    Command {
        at: Timestamp::from_millis(i64::try_from(first).unwrap_or_default()),
        wall_micros: clock.wall().as_microsecond(),
        changes: changes.collect(),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| -> Result<u64> {
        let given = arguments.next().map(|word| {
            word.parse()
                .with_context(|| format!("{word:?} is not a number"))
        });
        given.unwrap_or(Ok(default))
    };
    let (minutes, rate) = (number(5)?, number(1_000)?);
    ensure!(
        minutes > 0 && rate >= ENTRY as u64,
        "at least 1 minute and {ENTRY} changes a second"
    );
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let root = tempfile::tempdir()?;
    let mut tables = Vec::new();
    let mut members = Vec::new();
    for config in members::configs(root.path(), 3)? {
        let table = DecisionTable::new(clock.clone());
        members.push(Consensus::open(config, table.machine(), Arc::new(BootClock)).await?);
        tables.push(table);
    }
    let targets = usize::try_from(rate)?;
    let every = Duration::from_secs(1) * u32::try_from(ENTRY)? / u32::try_from(rate)?;
    let began = tokio::time::Instant::now();
    let end = began + MINUTE * u32::try_from(minutes)?;
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looking = tokio::time::interval(LOOK);
    let (mut looks, mut times, mut sent, mut failed) = (Vec::new(), Vec::new(), 0, 0u64);
    while tokio::time::Instant::now() < end {
        tokio::select! {
            _ = looking.tick() => looks.push(look(root.path())?),
            _ = due.tick() => {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as usize;
                let count = due.saturating_sub(sent).clamp(ENTRY, targets);
                let command = entry(sent, count, targets, clock.as_ref());
                let started = tokio::time::Instant::now();
                // Whole records: what is in doubt comes again with the next round.
                match leader(&members).await?.propose(FORMAT, command.encode()).await {
                    Ok(_) => times.push(started.elapsed().as_secs_f64() * 1e3),
                    Err(_) => failed += 1,
                }
                sent += count;
            }
        }
    }
    let last = leader(&members).await?.status();
    let keys: Vec<usize> = tables.iter().map(|table| table.keys().len()).collect();
    for member in &members {
        member.shutdown().await;
    }
    ensure!(
        keys.iter().all(|count| *count == targets),
        "{keys:?} targets of {targets}"
    );

    let quarter = looks.len() / 4;
    ensure!(quarter > 0, "too short to compare anything");
    let mean = |looks: &[Look], of: fn(&Look) -> f64| {
        looks.iter().map(of).sum::<f64>() / looks.len() as f64 / f64::from(1 << 20)
    };
    let (early, late) = (
        &looks[quarter..2 * quarter],
        &looks[looks.len() - quarter..],
    );
    let elapsed = began.elapsed().as_secs_f64();
    figure("soak_changes", sent as f64 / elapsed, "per s");
    figure("soak_failed", failed as f64, "entries");
    figure(
        "soak_commit_p50",
        percentile(&times, 0.5).unwrap_or_default(),
        "ms",
    );
    figure(
        "soak_commit_p99",
        percentile(&times, 0.99).unwrap_or_default(),
        "ms",
    );
    figure("soak_memory_early", mean(early, |look| look.memory), "MiB");
    figure("soak_memory_late", mean(late, |look| look.memory), "MiB");
    figure("soak_disk_early", mean(early, |look| look.disk), "MiB");
    figure("soak_disk_late", mean(late, |look| look.disk), "MiB");
    figure("soak_entries", last.last_index as f64, "entries");
    figure(
        "soak_entries_kept",
        (last.last_index - last.purged_index) as f64,
        "entries",
    );
    Ok(())
}
