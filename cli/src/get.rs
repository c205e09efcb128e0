//! `neap get`: every target in the columns of `kubectl get hpa`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use neap_triggers::LabelSelector;
use serde_json::{Value, json};

use crate::answers::{Target, Targets};
use crate::cluster::{
    Cluster, ClusterFlags, Coordinator, CoordinatorFlags, Scope, ScopeFlags, block_on,
};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::run::Surroundings;
use crate::table::Table;
use crate::{age, measured};

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
    let namespace = namespace(args).await?;
    let scope = Scope::new(&args.names, Some(namespace), &args.scope)?;
    let selector = scope
        .selector
        .as_deref()
        .map(LabelSelector::parse)
        .transpose();
    let selector = selector.map_err(|error| CliError::client(format!("--selector: {error}")))?;
    let coordinator = Coordinator::find(&args.coordinator, &args.cluster).await?;
    let view = View {
        args,
        scope,
        selector,
    };
    let (targets, raw) = view.ask(&coordinator).await?;
    view.first(&targets, raw, around.now, out)?;
    if !args.watch {
        return Ok(());
    }
    out.flush()?;
    let mut shown: BTreeMap<(String, String), Target> = keyed(targets);
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let now = around.now + (around.elapsed)();
        let (targets, _) = view.ask(&coordinator).await?;
        let changed = targets.iter().filter(|target| {
            shown.get(&(target.namespace.clone(), target.name.clone())) != Some(*target)
        });
        let changed: Vec<Target> = changed.cloned().collect();
        view.table(&changed, now, false, out)?;
        out.flush()?;
        shown = keyed(targets);
    }
}

/// The namespace of the flag or of the context; a coordinator at an address has no context.
async fn namespace(args: &GetArgs) -> Result<String, CliError> {
    match (
        &args.cluster.namespace,
        args.coordinator.address(&args.cluster)?,
    ) {
        (Some(namespace), _) => Ok(namespace.clone()),
        (None, Some(_)) => Ok("default".to_owned()),
        (None, None) => Ok(Cluster::connect(&args.cluster).await?.namespace),
    }
}

fn keyed(targets: Vec<Target>) -> BTreeMap<(String, String), Target> {
    let key = |target: &Target| (target.namespace.clone(), target.name.clone());
    targets
        .into_iter()
        .map(|target| (key(&target), target))
        .collect()
}

struct View<'a> {
    args: &'a GetArgs,
    scope: Scope,
    selector: Option<LabelSelector>,
}

impl View<'_> {
    /// The targets in view, each also as it was answered.
    async fn ask(&self, coordinator: &Coordinator) -> Result<(Vec<Target>, Vec<Value>), CliError> {
        let answer: Option<Value> = coordinator.get("/api/v1/targets").await?;
        let answer = answer.unwrap_or_default();
        let raw = answer["targets"].as_array().cloned().unwrap_or_default();
        let targets: Targets = serde_json::from_value(answer).map_err(|error| {
            CliError::client(format!("the coordinator's answer cannot be read: {error}"))
        })?;
        let seen = targets
            .targets
            .into_iter()
            .zip(raw)
            .filter(|(target, _)| self.shows(target));
        Ok(seen.unzip())
    }

    fn shows(&self, target: &Target) -> bool {
        let here = self
            .scope
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == target.namespace);
        let named = self.scope.names.is_empty() || self.scope.names.contains(&target.name);
        let label = |key: &str| target.labels.get(key).map(String::as_str);
        here && named
            && self
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches(label))
    }

    fn first(
        &self,
        targets: &[Target],
        raw: Vec<Value>,
        now: jiff::Timestamp,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        match self.args.output {
            Some(GetOutput::Json) => {
                output::write(&json!({"targets": raw}), Structured::Json, out)?
            }
            Some(GetOutput::Yaml) => {
                output::write(&json!({"targets": raw}), Structured::Yaml, out)?
            }
            Some(GetOutput::Name) => {
                for target in targets {
                    writeln!(out, "scaledobject.keda.sh/{}", target.name)?;
                }
            }
            None | Some(GetOutput::Wide) if targets.is_empty() => {
                if self.scope.names.is_empty() {
                    eprintln!("{}", self.scope.nothing());
                }
            }
            None | Some(GetOutput::Wide) => self.table(targets, now, !self.args.no_headers, out)?,
        }
        let missing = self
            .scope
            .names
            .iter()
            .filter(|name| targets.iter().all(|target| target.name != **name));
        let missing: Vec<&String> = missing.collect();
        match missing.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(CliError::Server {
                reason: "NotFound".to_owned(),
                message: format!("scaledobjects.keda.sh \"{first}\" not found"),
            }),
        }
    }

    fn table(
        &self,
        targets: &[Target],
        now: jiff::Timestamp,
        header: bool,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        let all = self.scope.namespace.is_none();
        let wide = self.args.output == Some(GetOutput::Wide);
        let mut table = Table::new();
        if header {
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
        for target in targets {
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
                count(target.current),
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
        table.write(out)?;
        Ok(())
    }
}
