//! The arguments of `neap simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::drive::Pace;
use super::workload::PodModel;
use crate::duration;
use crate::load::LoadSource;

const EXAMPLES: &str = "\
Examples:
  # A recorded load, against a change of the spec, with a picture
  neap simulate -f scaledobject.yaml --load load.csv --against changed.yaml --chart out.svg

  # A day made up
  neap simulate -f scaledobject.yaml --load generate:sine,low=0,high=200,period=24h,for=24h,step=1m

  # What it would have done in the last week, by the query that its prometheus trigger has
  neap simulate -f scaledobject.yaml --load prometheus --since 7d --step 1m

A CSV file begins with a line of names, the first of them \"time\": seconds, or times such as
2026-11-01T09:00:00Z. Each further column is what one trigger reads, named like the trigger (its
name, its metric name such as s0-prometheus, or its type); with one trigger any name will do. For
cpu, memory and Neap's node triggers it is the sum over all pods. An empty cell is a source that
gave no answer. A column \"spec.replicas\" sets replicas as somebody else would.";

/// `neap simulate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// File with the ScaledObject (or a HorizontalPodAutoscaler); - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) filename: PathBuf,

    /// Simulate this object of the file, where it has several
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// A second object under the same load, side by side
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,

    /// A CSV file, generate:SHAPE,KEY=VALUE,... or prometheus[:ADDRESS]; several are put together
    #[arg(long, required = true, value_name = "SOURCE")]
    pub(crate) load: Vec<LoadSource>,

    /// What pods are like: ready=DURATION,cpu=REQUEST,memory=REQUEST,cpu-limit=LIMIT
    #[arg(long, value_name = "KEY=VALUE,...", default_value = "ready=10s")]
    pub(crate) pods: PodModel,

    /// Replicas at the start; minReplicaCount if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) replicas: Option<i32>,

    /// When decisions are made: events as the coordinator, rows of the load, or an interval as the HPA (15s); events for a ScaledObject, 15s for an HPA
    #[arg(long, value_name = "events|rows|DURATION")]
    pub(crate) pace: Option<PaceArg>,

    /// The target of a trigger that cannot be built here, per replica
    #[arg(long, value_name = "TRIGGER=VALUE", value_parser = trigger_value)]
    pub(crate) target: Vec<(String, f64)>,

    /// With prometheus: the query of a trigger, where it is not a prometheus trigger
    #[arg(long, value_name = "[TRIGGER=]PROMQL")]
    pub(crate) query: Vec<String>,

    /// With prometheus: from this time on
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    pub(crate) from: Option<jiff::Timestamp>,

    /// With prometheus: until this time; now if absent
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<jiff::Timestamp>,

    /// With prometheus: from this long before the end; 24h if absent
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) since: Option<Duration>,

    /// With prometheus: the time between two values
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1m")]
    pub(crate) step: Duration,

    /// With prometheus: a header to send, such as "Authorization: Bearer TOKEN"
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, env = "NEAP_PROMETHEUS_HEADER", hide_env_values = true)]
    pub(crate) header: Vec<(String, String)>,

    /// Also draw a chart, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) chart: Option<PathBuf>,

    /// Output format
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// How the outcome is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people
    Text,
    /// Figures and every change
    Json,
    /// Replicas, ready and needed over time, a line each
    Csv,
}

/// `--pace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaceArg {
    Events,
    Rows,
    Every(Duration),
}

impl std::str::FromStr for PaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "events" => Ok(Self::Events),
            "rows" => Ok(Self::Rows),
            _ => match duration::parse(text) {
                Ok(every) if every >= Duration::from_secs(1) => Ok(Self::Every(every)),
                _ => Err("it must be events, rows or a duration of at least 1s".to_owned()),
            },
        }
    }
}

impl PaceArg {
    /// The pace, for an object that polls its sources every `polling`.
    pub(super) fn pace(self, polling: Duration) -> Pace {
        match self {
            Self::Events => Pace::Events { polling },
            Self::Rows => Pace::Rows,
            Self::Every(interval) => Pace::Every(interval),
        }
    }
}

fn trigger_value(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("it must be TRIGGER=VALUE")?;
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && !name.is_empty() => {
            Ok((name.to_owned(), number))
        }
        _ => Err("it must be TRIGGER=VALUE with a value above 0".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("it must be NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
