//! `neap simulate`, from its arguments to its output.

use std::io::Write;
use std::time::Duration;

use neap_units::MilliValue;

use super::args::{Format, SimulateArgs};
use super::drive::{Outcome, Scenario, simulate};
use super::print;
use super::rehearsal::{self, OUTSIDE, Rehearsal};
use crate::chart;
use crate::error::CliError;
use crate::load::{Column, Load, LoadSource, RangeQuery, fetch_prometheus, merge};
use crate::run::Surroundings;

/// One object with what came of it.
pub(super) struct Simulated {
    pub(super) label: String,
    pub(super) outcome: Outcome,
}

/// Runs `neap simulate`.
///
/// # Errors
/// [`CliError`] for what the user can put right.
pub(crate) fn run(
    args: &SimulateArgs,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut rehearsals = vec![rehearsal::read(&args.filename, args)?];
    if let Some(against) = &args.against {
        rehearsals.push(rehearsal::read(against, args)?);
    }
    for rehearsal in &rehearsals {
        for warning in &rehearsal.warnings {
            eprintln!("Warning: {}: {warning}", rehearsal.label);
        }
    }
    let load = load(args, &rehearsals, around)?;
    let columns = columns(&rehearsals, &load)?;
    let outside = load.columns.iter().find(|column| column.name == OUTSIDE);
    let begun = (around.elapsed)();
    let mut simulated = Vec::new();
    for (rehearsal, columns) in rehearsals.into_iter().zip(columns) {
        let inputs = rehearsal.inputs(&load, &columns);
        let mut spec = rehearsal.spec;
        spec.created_at = load.start();
        let scenario = Scenario {
            spec: &spec,
            inputs: &inputs,
            outside: outside.map(|column| &column.series),
            pods: args.pods,
            replicas: args.replicas.unwrap_or_else(|| first_replicas(&spec)),
            pace: rehearsal.pace,
            start: load.start(),
            end: load.end(),
        };
        simulated.push(Simulated {
            label: rehearsal.label,
            outcome: simulate(&scenario),
        });
    }
    let took = (around.elapsed)().saturating_sub(begun);
    match args.output {
        Format::Text => print::text(&simulated, &load, out)?,
        Format::Json => print::json(&simulated, &load, out)?,
        Format::Csv => print::csv(&simulated, &load, out)?,
    }
    if let Some(path) = &args.chart {
        let runs: Vec<chart::Run<'_>> = simulated
            .iter()
            .map(|one| chart::Run {
                label: &one.label,
                track: &one.outcome.track,
            })
            .collect();
        let svg = chart::draw(&load, &runs);
        std::fs::write(path, svg).map_err(|error| {
            CliError::client(format!(
                "--chart: {} cannot be written: {error}",
                path.display()
            ))
        })?;
    }
    let decisions: u64 = simulated
        .iter()
        .map(|one| one.outcome.figures.decisions)
        .sum();
    // To standard error: the figures themselves are the same each time.
    eprintln!("{decisions} decisions in {:.2} s", took.as_secs_f64());
    Ok(())
}

/// A workload that nobody has touched stands at its idle count, or at its fewest.
fn first_replicas(spec: &neap_engine::ScalingSpec) -> i32 {
    spec.idle_replicas.unwrap_or(spec.min_replicas)
}

/// The column of every trigger of every object. A column that no object reads is a mistake.
fn columns(rehearsals: &[Rehearsal], load: &Load) -> Result<Vec<Vec<Option<usize>>>, CliError> {
    let columns: Result<Vec<_>, String> = rehearsals.iter().map(|one| one.columns(load)).collect();
    let columns = columns.map_err(CliError::Client)?;
    let read = |at: usize| columns.iter().flatten().any(|column| *column == Some(at));
    let unread = (0..load.columns.len()).find(|at| load.columns[*at].name != OUTSIDE && !read(*at));
    if let Some(at) = unread {
        let names: Vec<String> = rehearsals
            .iter()
            .flat_map(|one| {
                (0..one.spec.triggers.len())
                    .filter(|at| one.reads_load(*at))
                    .map(|at| one.names(at).swap_remove(0))
            })
            .collect();
        return Err(CliError::client(format!(
            "the load's column {:?} belongs to no trigger; triggers are {}",
            load.columns[at].name,
            names.join(", ")
        )));
    }
    Ok(columns)
}

fn load(
    args: &SimulateArgs,
    rehearsals: &[Rehearsal],
    around: &Surroundings,
) -> Result<Load, CliError> {
    let mut loads = Vec::new();
    for source in &args.load {
        match source.read()? {
            Some(load) => loads.push(load),
            None => loads.push(ask(args, source, rehearsals, around)?),
        }
    }
    merge(loads)
}

/// Asks Prometheus for every trigger that has a query, its own or one that the user gave.
fn ask(
    args: &SimulateArgs,
    source: &LoadSource,
    rehearsals: &[Rehearsal],
    around: &Surroundings,
) -> Result<Load, CliError> {
    let LoadSource::Prometheus(server) = source else {
        return Err(CliError::client("--load: this source is no server"));
    };
    let to = args.to.unwrap_or(around.now);
    let since = args.since.unwrap_or(Duration::from_secs(86_400));
    let from = match args.from {
        Some(from) => from,
        None => to
            .checked_sub(since)
            .map_err(|error| CliError::client(format!("--since: {error}")))?,
    };
    let mut questions: Vec<(String, RangeQuery)> = Vec::new();
    for rehearsal in rehearsals {
        for at in (0..rehearsal.spec.triggers.len()).filter(|at| rehearsal.reads_load(*at)) {
            let names = rehearsal.names(at);
            let own = rehearsal.queries[at].as_ref();
            let given = given_query(&args.query, &names);
            let Some(query) = given.or_else(|| own.map(|own| own.query.clone())) else {
                continue;
            };
            let address = server
                .address
                .clone()
                .or_else(|| own.map(|own| own.address.clone()));
            let Some(address) = address else {
                return Err(CliError::client(format!(
                    "--load: trigger {} names no Prometheus: say which, as in --load prometheus:http://prometheus:9090",
                    names[0]
                )));
            };
            if questions.iter().any(|(name, _)| *name == names[0]) {
                continue;
            }
            let gaps_are_zero = own.is_some_and(|own| own.gaps_are_zero);
            let question = RangeQuery {
                address,
                query,
                from,
                to,
                step: args.step,
                headers: args.header.clone(),
                gap: gaps_are_zero.then_some(MilliValue::ZERO),
            };
            questions.push((names[0].clone(), question));
        }
    }
    if questions.is_empty() {
        return Err(CliError::client(
            "--load prometheus: no trigger is a prometheus trigger: give a query for one with --query TRIGGER=PROMQL",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::client(format!("no runtime for network requests: {error}")))?;
    let mut columns = Vec::new();
    for (name, question) in questions {
        let series = runtime
            .block_on(fetch_prometheus(&question))
            .map_err(|error| CliError::client(error.to_string()))?;
        columns.push(Column { name, series });
    }
    Ok(Load {
        columns,
        calendar: true,
    })
}

/// The query that the user gave for a trigger with one of `names`; one without a name is for all.
fn given_query(given: &[String], names: &[String]) -> Option<String> {
    let named = given.iter().find_map(|given| {
        let (name, query) = given.split_once('=')?;
        names
            .iter()
            .any(|own| own == name)
            .then(|| query.to_owned())
    });
    named.or_else(|| {
        let is_named = |given: &&String| {
            given.split_once('=').is_some_and(|(name, _)| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                    && !name.is_empty()
            })
        };
        given.iter().find(|given| !is_named(given)).cloned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_find_their_trigger() {
        let names = ["queue".to_owned(), "s0-kafka".to_owned()];
        let given = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
            given_query(&list, &names)
        };
        assert_eq!(given(&["s0-kafka=sum(lag)"]), Some("sum(lag)".to_owned()));
        assert_eq!(
            given(&["sum(lag{group=\"a\"})"]),
            Some("sum(lag{group=\"a\"})".to_owned())
        );
        assert_eq!(given(&["other=sum(lag)"]), None);
        assert_eq!(given(&["other=1", "queue=2"]), Some("2".to_owned()));
    }
}
