//! The outcome of a simulation: tables, JSON, CSV.

use std::io::{self, Write};
use std::time::Duration;

use neap_units::Timestamp;
use serde::Serialize;

use super::drive::{Change, Outcome, Track};
use super::figures::Figures;
use super::run::Simulated;
use crate::duration;
use crate::load::Load;
use crate::table::Table;

/// More changes than this are printed as stretches of time.
const MAX_CHANGES: usize = 40;
/// Into so many.
const STRETCHES: i64 = 24;

/// Tables for people.
pub(super) fn text(simulated: &[Simulated], load: &Load, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    let head = std::iter::once(String::new());
    table.row(head.chain(simulated.iter().map(|one| one.label.clone())));
    let figures: Vec<&Figures> = simulated.iter().map(|one| &one.outcome.figures).collect();
    type Show = fn(&Figures) -> String;
    let rows: [(&str, Show); 10] = [
        ("time simulated", |f| span(f.seconds)),
        ("replicas, fewest / mean / most", |f| {
            format!("{} / {:.2} / {}", f.least, f.mean, f.most)
        }),
        ("replica-seconds", |f| count(Some(f.replica_seconds))),
        ("  beyond what the load needs", |f| {
            count(f.surplus_replica_seconds)
        }),
        ("time under-provisioned", |f| {
            share(f.under_provisioned_seconds, f.seconds)
        }),
        ("  replica-seconds missing", |f| {
            count(f.missing_replica_seconds)
        }),
        ("changes, up / down", |f| {
            format!("{} / {}", f.changes_up, f.changes_down)
        }),
        ("time at zero", |f| share(Some(f.zero_seconds), f.seconds)),
        ("time at the most allowed", |f| {
            share(Some(f.at_max_seconds), f.seconds)
        }),
        ("decisions", |f| f.decisions.to_string()),
    ];
    for (name, show) in rows {
        table.row(
            std::iter::once(name.to_owned()).chain(figures.iter().map(|figures| show(figures))),
        );
    }
    table.write(out)?;
    for one in simulated {
        writeln!(out, "\n{}", one.label)?;
        if one.outcome.changes.len() <= MAX_CHANGES {
            changes(&one.outcome, load, out)?;
        } else {
            stretches(&one.outcome, load, out)?;
        }
    }
    Ok(())
}

fn changes(outcome: &Outcome, load: &Load, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table.row(["TIME", "REPLICAS", "NEEDED", "WHY"]);
    if let Some(first) = outcome.track.first() {
        let began = outcome
            .changes
            .first()
            .map_or(first.replicas, |change| change.from);
        table.row([
            time(load.start(), load),
            began.to_string(),
            String::new(),
            "at the start".to_owned(),
        ]);
    }
    for change in &outcome.changes {
        let needed = at(&outcome.track, change.at).and_then(|track| track.needed);
        table.row([
            time(change.at, load),
            format!("{} -> {}", change.from, change.to),
            needed.map_or_else(|| "-".to_owned(), |needed| needed.to_string()),
            why(change).to_owned(),
        ]);
    }
    table.write(out)
}

fn why(change: &Change) -> &str {
    change.why.as_deref().unwrap_or("set from outside")
}

/// The entry in force at `now`.
fn at(track: &[Track], now: Timestamp) -> Option<&Track> {
    let after = track.partition_point(|entry| entry.at <= now);
    track.get(after.checked_sub(1)?)
}

fn stretches(outcome: &Outcome, load: &Load, out: &mut dyn Write) -> io::Result<()> {
    let (start, end) = (load.start().as_millis(), load.end().as_millis());
    let mut table = Table::new();
    table.row(["FROM", "REPLICAS", "NEEDED", "CHANGES"]);
    for stretch in 0..STRETCHES {
        let edge = |number: i64| Timestamp::from_millis(start + (end - start) / STRETCHES * number);
        let (from, to) = (
            edge(stretch),
            if stretch + 1 == STRETCHES {
                load.end()
            } else {
                edge(stretch + 1)
            },
        );
        let first = outcome
            .track
            .partition_point(|entry| entry.at <= from)
            .saturating_sub(1);
        let held = outcome.track[first..]
            .iter()
            .take_while(|entry| entry.at < to);
        let held: Vec<&Track> = held.collect();
        let changed = outcome.changes.partition_point(|change| change.at < to)
            - outcome.changes.partition_point(|change| change.at < from);
        table.row([
            time(from, load),
            range(held.iter().map(|entry| entry.replicas)),
            range(held.iter().filter_map(|entry| entry.needed)),
            changed.to_string(),
        ]);
    }
    table.write(out)?;
    writeln!(
        out,
        "{} changes; -o json lists each with its reason",
        outcome.changes.len()
    )
}

fn range(values: impl Iterator<Item = i32> + Clone) -> String {
    match (values.clone().min(), values.max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least}..{most}"),
        _ => "-".to_owned(),
    }
}

/// A moment: wall time, or hours, minutes and seconds from the start.
fn time(at: Timestamp, load: &Load) -> String {
    if load.calendar {
        return wall(at);
    }
    let seconds = at.as_millis().div_euclid(1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    );
    if days > 0 {
        format!("{days}d {clock}")
    } else {
        clock
    }
}

fn wall(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(wall) => wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

fn span(seconds: f64) -> String {
    duration::format(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn share(part: Option<f64>, whole: f64) -> String {
    match part {
        Some(part) if whole > 0.0 => format!("{} ({:.1} %)", span(part), part / whole * 100.0),
        _ => "-".to_owned(),
    }
}

fn count(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"))
}

#[derive(Serialize)]
struct Json<'a> {
    simulations: Vec<JsonSimulation<'a>>,
}

#[derive(Serialize)]
struct JsonSimulation<'a> {
    name: &'a str,
    figures: &'a Figures,
    changes: Vec<JsonChange<'a>>,
}

#[derive(Serialize)]
struct JsonChange<'a> {
    /// Wall time, or seconds from the start.
    time: String,
    from: i32,
    to: i32,
    why: &'a str,
}

/// Figures and every change.
pub(super) fn json(simulated: &[Simulated], load: &Load, out: &mut dyn Write) -> io::Result<()> {
    let simulations = simulated.iter().map(|one| JsonSimulation {
        name: &one.label,
        figures: &one.outcome.figures,
        changes: one
            .outcome
            .changes
            .iter()
            .map(|change| JsonChange {
                time: machine_time(change.at, load),
                from: change.from,
                to: change.to,
                why: why(change),
            })
            .collect(),
    });
    serde_json::to_writer_pretty(
        &mut *out,
        &Json {
            simulations: simulations.collect(),
        },
    )?;
    writeln!(out)
}

/// Replicas, ready and needed over time.
pub(super) fn csv(simulated: &[Simulated], load: &Load, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "name,time,replicas,ready,needed")?;
    for one in simulated {
        let name = one.label.replace([',', '"'], " ");
        for entry in &one.outcome.track {
            let needed = entry
                .needed
                .map(|needed| needed.to_string())
                .unwrap_or_default();
            let time = machine_time(entry.at, load);
            writeln!(
                out,
                "{name},{time},{},{},{needed}",
                entry.replicas, entry.ready
            )?;
        }
    }
    Ok(())
}

fn machine_time(at: Timestamp, load: &Load) -> String {
    if load.calendar {
        return match jiff::Timestamp::from_millisecond(at.as_millis()) {
            Ok(wall) => wall.to_string(),
            Err(_) => at.as_millis().to_string(),
        };
    }
    let millis = at.as_millis();
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        part => format!("{}.{part:03}", millis / 1000),
    }
}
