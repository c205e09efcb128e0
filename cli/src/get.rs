//! `neap get`: every target in the columns of `kubectl get hpa`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use neap_triggers::LabelSelector;
use serde_json::{Value, json};

use crate::answers::{AsOf, Target, Targets};
use crate::cluster::{
    ClusterFlags, Coordinator, CoordinatorFlags, Scope, ScopeFlags, Whom, block_on, namespace,
};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::run::Surroundings;
use crate::table::Table;
use crate::{age, as_of, measured};

/// With `-w`, the list is asked for so often.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// `neap get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Names of ScaledObjects; all if absent
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    scope: ScopeFlags,

    /// Output format
    #[arg(short = 'o', long, value_enum)]
    output: Option<GetOutput>,

    /// After the list, print each target whose line changes
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

/// `-o` of `neap get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GetOutput {
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names only
    Name,
}

/// Runs `neap get`.
pub(crate) fn run(
    args: &GetArgs,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    block_on(get(args, around, out))
}

async fn get(args: &GetArgs, around: &Surroundings, out: &mut dyn Write) -> Result<(), CliError> {
    let namespace = namespace(&args.cluster, &args.coordinator).await?;
    let scope = Scope::new(&args.names, Some(namespace), &args.scope)?;
    let labels = scope.labels()?;
    let coordinator = Coordinator::find(Whom::Any, &args.coordinator, &args.cluster).await?;
    let mut view = View {
        args,
        scope,
        labels,
        widths: Vec::new(),
    };
    let seen = view.ask(&coordinator).await?;
    as_of::warn(seen.as_of.as_ref());
    view.first(&seen, around.now, out)?;
    if !args.watch {
        return Ok(());
    }
    out.flush()?;
    let mut shown = keyed(&seen);
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let now = around.now + (around.elapsed)();
        let mut seen = view.ask(&coordinator).await?;
        let now_shown = keyed(&seen);
        seen.targets.retain(|(target, _)| {
            shown.get(&(target.namespace.clone(), target.name.clone())) != Some(target)
        });
        if !seen.targets.is_empty() {
            view.changed(&seen, now, out)?;
            out.flush()?;
        }
        shown = now_shown;
    }
}

fn keyed(seen: &Seen) -> BTreeMap<(String, String), Target> {
    let key = |target: &Target| (target.namespace.clone(), target.name.clone());
    let targets = seen.targets.iter();
    targets
        .map(|(target, _)| (key(target), target.clone()))
        .collect()
}

/// The targets in view, each also as it was answered.
struct Seen {
    targets: Vec<(Target, Value)>,
    as_of: Option<AsOf>,
}

impl Seen {
    fn raw(&self) -> Value {
        let targets: Vec<&Value> = self.targets.iter().map(|(_, raw)| raw).collect();
        json!({"targets": targets})
    }
}

struct View<'a> {
    args: &'a GetArgs,
    scope: Scope,
    labels: Option<LabelSelector>,
    /// How wide the columns of the table are; empty before its header.
    widths: Vec<usize>,
}

impl View<'_> {
    async fn ask(&self, coordinator: &Coordinator) -> Result<Seen, CliError> {
        let answer: Option<Value> = coordinator.get("/api/v1/targets").await?;
        let answer = answer.unwrap_or_default();
        let raw = answer["targets"].as_array().cloned().unwrap_or_default();
        let answer: Targets = serde_json::from_value(answer).map_err(|error| {
            CliError::client(format!("the coordinator's answer cannot be read: {error}"))
        })?;
        let targets = answer.targets.into_iter().zip(raw);
        Ok(Seen {
            targets: targets
                .filter(|(target, _)| self.scope.shows(target, self.labels.as_ref()))
                .collect(),
            as_of: answer.as_of,
        })
    }

    fn first(
        &mut self,
        seen: &Seen,
        now: jiff::Timestamp,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        let table = matches!(self.args.output, None | Some(GetOutput::Wide));
        if !table || !seen.targets.is_empty() {
            self.write(seen, now, out)?;
        } else if self.scope.names.is_empty() {
            eprintln!("{}", self.scope.nothing());
        }
        self.scope
            .all_found(seen.targets.iter().map(|(target, _)| target))
    }

    /// What changed, under the columns of the first table.
    fn changed(
        &mut self,
        seen: &Seen,
        now: jiff::Timestamp,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        if self.args.output == Some(GetOutput::Yaml) {
            writeln!(out, "---")?;
        }
        self.write(seen, now, out)
    }

    fn write(
        &mut self,
        seen: &Seen,
        now: jiff::Timestamp,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        match self.args.output {
            Some(GetOutput::Json) => output::write(&seen.raw(), Structured::Json, out),
            Some(GetOutput::Yaml) => output::write(&seen.raw(), Structured::Yaml, out),
            Some(GetOutput::Name) => {
                for (target, _) in &seen.targets {
                    writeln!(out, "scaledobject.keda.sh/{}", target.name)?;
                }
                Ok(())
            }
            None | Some(GetOutput::Wide) => self.table(seen, now, out),
        }
    }

    fn table(
        &mut self,
        seen: &Seen,
        now: jiff::Timestamp,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        let all = self.scope.namespace.is_none();
        let wide = self.args.output == Some(GetOutput::Wide);
        let mut table = Table::new();
        if self.widths.is_empty() && !self.args.no_headers {
            let mut names = vec![
                "NAME",
                "REFERENCE",
                "TARGETS",
                "MINPODS",
                "MAXPODS",
                "REPLICAS",
                "AGE",
            ];
            if all {
                names.insert(0, "NAMESPACE");
            }
            if wide {
                names.extend(["DESIRED", "SCALED-BY", "FAULT"]);
            }
            table.row(names);
        }
        for (target, _) in &seen.targets {
            let count = |count: Option<i32>| {
                count.map_or_else(|| "<unknown>".to_owned(), |count| count.to_string())
            };
            let reference = match (&target.target_kind, &target.target_name) {
                (Some(kind), Some(name)) => format!("{kind}/{name}"),
                _ => "<unknown>".to_owned(),
            };
            let age = target
                .created
                .map(|created| age::human(age::since(created, now)));
            let targets = if target.fault.is_some() && target.triggers.is_empty() {
                "<invalid>".to_owned()
            } else {
                measured::column(&target.triggers)
            };
            let mut row = vec![
                target.name.clone(),
                reference,
                targets,
                count(target.min_replicas),
                count(target.max_replicas),
                count(target.status_replicas.or(target.current)),
                age.unwrap_or_else(|| "<unknown>".to_owned()),
            ];
            if all {
                row.insert(0, target.namespace.clone());
            }
            if wide {
                row.push(count(target.desired));
                row.push(
                    target
                        .owner
                        .clone()
                        .unwrap_or_else(|| "<unknown>".to_owned()),
                );
                row.push(target.fault.clone().unwrap_or_else(|| "<none>".to_owned()));
            }
            table.row(row);
        }
        table.write_under(&mut self.widths, out)?;
        Ok(())
    }
}
