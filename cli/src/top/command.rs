//! The command: asks the leader, prints, and with `-w` again and again.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use neap_triggers::LabelSelector;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::{NodeRow, PodRow, Top};
use super::text::{self, Columns};
use crate::cluster::{ClusterFlags, Coordinator, CoordinatorFlags, Whom, block_on, namespace};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::table::Table;

/// With `-w`, so often.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor home and clears the terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `neap top`.
#[derive(Debug, Args)]
#[command(
    after_help = "CPU and pressure are means over 15 s; memory is the working set, queue the connections that wait to be accepted.\nWhat the agents do not read is <unknown>: pods that nobody scales are read each 10 s, queues only under a trigger."
)]
pub(crate) struct TopArgs {
    /// What to show
    #[arg(value_enum, default_value = "pods", hide_default_value = true)]
    what: What,

    /// Names of pods or nodes; all if absent
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// By what to sort, the largest first
    #[arg(long, value_enum, default_value = "cpu")]
    sort_by: SortBy,

    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Only pods with these labels, such as app=web,tier!=cache
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// At most so many rows; the others are counted
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,

    /// Output format
    #[arg(short = 'o', long, value_enum)]
    output: Option<TopOutput>,

    /// Show it again each second
    #[arg(short = 'w', long)]
    watch: bool,

    /// Do not print the columns' names
    #[arg(long)]
    no_headers: bool,

    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    coordinator: CoordinatorFlags,
}

/// Pods or nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Pods
    #[value(aliases = ["pod", "po"])]
    Pods,
    /// Nodes with an agent
    #[value(aliases = ["node", "no"])]
    Nodes,
}

impl What {
    /// The resource in paths.
    fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Nodes => "nodes",
        }
    }
}

/// `--sort-by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    /// CPU time
    Cpu,
    /// Working set
    Memory,
    /// Connections that wait to be accepted
    Queue,
    /// The largest of CPU, memory and I/O pressure
    Pressure,
}

/// `-o` of `neap top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TopOutput {
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Runs `neap top`.
pub(crate) fn run(args: &TopArgs, out: &mut dyn Write) -> Result<(), CliError> {
    block_on(top(args, out))
}

async fn top(args: &TopArgs, out: &mut dyn Write) -> Result<(), CliError> {
    if !args.names.is_empty() && args.all_namespaces && args.what == What::Pods {
        return Err(CliError::client(
            "a resource cannot be retrieved by name across all namespaces",
        ));
    }
    if let Some(selector) = &args.selector {
        LabelSelector::parse(selector)
            .map_err(|error| CliError::client(format!("--selector: {error}")))?;
        if args.what == What::Nodes {
            return Err(CliError::client(
                "--selector: the labels of nodes are not known to Neap; name the nodes instead",
            ));
        }
    }
    let namespace = match (args.what, args.all_namespaces) {
        (What::Nodes, _) | (_, true) => None,
        (What::Pods, false) => Some(namespace(&args.cluster, &args.coordinator).await?),
    };
    let coordinator = Coordinator::find(Whom::Leader, &args.coordinator, &args.cluster).await?;
    let path = path(args, namespace.as_deref())?;
    let clears = args.watch && args.output.is_none() && std::io::stdout().is_terminal();
    loop {
        let answer: Option<Value> = coordinator.get(&path).await?;
        let answer = answer.ok_or_else(|| {
            CliError::client(
                "the coordinator does not say what its agents see; is it of another version?",
            )
        })?;
        if clears {
            write!(out, "{CLEAR}")?;
        }
        show(args, namespace.as_deref(), answer, out)?;
        if !args.watch {
            return Ok(());
        }
        if !clears && args.output != Some(TopOutput::Json) {
            let between = if args.output == Some(TopOutput::Yaml) {
                "---"
            } else {
                ""
            };
            writeln!(out, "{between}")?;
        }
        out.flush()?;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// The question, with what is asked for encoded as a query.
fn path(args: &TopArgs, namespace: Option<&str>) -> Result<String, CliError> {
    // Only the path and the query of this address are used.
    let base = format!("http://coordinator/api/v1/top/{}", args.what.plural());
    let mut url =
        reqwest::Url::parse(&base).map_err(|error| CliError::client(error.to_string()))?;
    let sort = args.sort_by.to_possible_value();
    let sort = sort
        .as_ref()
        .map_or("cpu", clap::builder::PossibleValue::get_name);
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("sort", sort);
        query.append_pair("limit", &args.limit.to_string());
        if let Some(namespace) = namespace {
            query.append_pair("namespace", namespace);
        }
        if !args.names.is_empty() {
            query.append_pair("names", &args.names.join(","));
        }
        if let Some(selector) = &args.selector {
            query.append_pair("selector", selector);
        }
    }
    Ok(format!(
        "{}?{}",
        url.path(),
        url.query().unwrap_or_default()
    ))
}

fn show(
    args: &TopArgs,
    namespace: Option<&str>,
    answer: Value,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let columns = Columns {
        header: !args.no_headers,
        namespace: args.all_namespaces,
        wide: args.output == Some(TopOutput::Wide),
    };
    let (table, names, omitted) = match args.what {
        What::Pods => {
            let top: Top<PodRow> = read(&answer)?;
            let names: Vec<String> = top.items.iter().map(|row| row.name.clone()).collect();
            (text::pods(&top.items, columns), names, top.omitted)
        }
        What::Nodes => {
            let top: Top<NodeRow> = read(&answer)?;
            let names = top.items.iter().map(|row| row.name.clone()).collect();
            (text::nodes(&top.items, columns), names, top.omitted)
        }
    };
    match args.output {
        Some(TopOutput::Json) => output::write(&answer, Structured::Json, out)?,
        Some(TopOutput::Yaml) => output::write(&answer, Structured::Yaml, out)?,
        None | Some(TopOutput::Wide) => {
            print(args, namespace, (&table, names.len(), omitted), out)?
        }
    }
    match args.names.iter().find(|name| !names.contains(name)) {
        Some(missing) if omitted == 0 => Err(CliError::Server {
            reason: "NotFound".to_owned(),
            message: format!(
                "{} \"{missing}\" not found, or not on a node",
                args.what.plural()
            ),
        }),
        _ => Ok(()),
    }
}

fn print(
    args: &TopArgs,
    namespace: Option<&str>,
    (table, rows, omitted): (&Table, usize, u64),
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if rows == 0 {
        if args.names.is_empty() {
            match namespace {
                Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
                None => eprintln!("No resources found"),
            }
        }
        return Ok(());
    }
    table.write(out)?;
    if omitted > 0 {
        out.flush()?;
        eprintln!("{omitted} more are not shown (--limit, at most 10000)");
    }
    Ok(())
}

fn read<T: DeserializeOwned>(answer: &Value) -> Result<Top<T>, CliError> {
    serde_json::from_value(answer.clone()).map_err(|error| {
        CliError::client(format!(
            "the coordinator's answer cannot be read: {error}; -o json shows it as it is"
        ))
    })
}
