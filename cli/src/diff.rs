//! `neap diff`: where what Neap would do differs from what KEDA or an HPA does, for objects it only observes.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::answers::{Explained, Target, Targets};
use crate::cluster::{
    ClusterFlags, Coordinator, CoordinatorFlags, Scope, ScopeFlags, Whom, block_on, namespace,
};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::table::Table;
use crate::{as_of, reason};

/// `neap diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes, as those of kubectl diff: 0 where all agree, 1 where something differs, 2 where that could not be found out."
)]
pub(crate) struct DiffArgs {
    /// Names of ScaledObjects; all if absent
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    scope: ScopeFlags,

    /// Output format
    #[arg(short = 'o', long, value_enum)]
    output: Option<Structured>,

    /// Do not print the columns' names
    #[arg(long)]
    no_headers: bool,

    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    coordinator: CoordinatorFlags,
}

/// One object that Neap would scale otherwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    namespace: String,
    name: String,
    owner: String,
    /// `spec.replicas` at Neap's last decision.
    now: Option<i32>,
    /// What Neap would set; absent where it cannot decide.
    neap: Option<i32>,
    why: String,
}

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    differences: Vec<Difference>,
    /// Objects that KEDA or an HPA scales.
    observed: usize,
    /// Objects that Neap scales itself.
    scaled: usize,
}

/// Runs `neap diff`. Gives whether something differs.
pub(crate) fn run(args: &DiffArgs, out: &mut dyn Write) -> Result<bool, CliError> {
    let compared = block_on(compare(args))?;
    let differs = !compared.differences.is_empty();
    match args.output {
        Some(form) => output::write(
            &json!({"differences": compared.differences, "observed": compared.observed}),
            form,
            out,
        )?,
        None if differs => table(&compared, args, out)?,
        None => writeln!(out, "{}", agreement(&compared))?,
    }
    Ok(differs)
}

async fn compare(args: &DiffArgs) -> Result<Compared, CliError> {
    let namespace = namespace(&args.cluster, &args.coordinator).await?;
    let scope = Scope::new(&args.names, Some(namespace), &args.scope)?;
    let labels = scope.labels()?;
    let coordinator = Coordinator::find(Whom::Any, &args.coordinator, &args.cluster).await?;
    let answer: Option<Targets> = coordinator.get("/api/v1/targets").await?;
    let answer = answer.ok_or_else(|| {
        CliError::client("the coordinator has no list of targets; is it of another version?")
    })?;
    as_of::warn(answer.as_of.as_ref());
    let targets: Vec<&Target> = answer
        .targets
        .iter()
        .filter(|target| scope.shows(target, labels.as_ref()))
        .collect();
    scope.all_found(targets.iter().copied())?;
    let mut compared = Compared::default();
    for target in targets {
        let Some(owner) = owner(target) else {
            compared.scaled += usize::from(target.owner_kind.as_deref() == Some("neap"));
            continue;
        };
        compared.observed += 1;
        if target.fault.is_none() && target.desired.is_some() && target.desired == target.current {
            continue;
        }
        // The reasons are in the explanation; its numbers belong together.
        let path = format!("/api/v1/targets/{}/{}", target.namespace, target.name);
        let explained: Option<Explained> = coordinator.get(&path).await?;
        compared
            .differences
            .extend(difference(target, owner, explained));
    }
    Ok(compared)
}

/// Who scales an object that Neap only observes; `None` where Neap does, or another ScaledObject.
fn owner(target: &Target) -> Option<String> {
    match (target.owner_kind.as_deref(), &target.owner_name) {
        (Some("keda"), _) => Some("KEDA".to_owned()),
        (Some("hpa" | "leftoverHpa"), Some(name)) => Some(format!("HPA/{name}")),
        _ => None,
    }
}

fn difference(target: &Target, owner: String, explained: Option<Explained>) -> Option<Difference> {
    let fault = |fault: Option<String>| fault.or_else(|| target.fault.clone());
    let (latest, fault) = match explained {
        Some(explained) => (explained.latest, fault(explained.fault)),
        None => (None, fault(None)),
    };
    let (now, neap, why) = match (latest, fault) {
        // Where it cannot decide it cannot agree either.
        (latest, Some(fault)) => (
            latest.map(|latest| latest.evaluation.why.current),
            None,
            fault,
        ),
        (None, None) => (None, None, "nothing has been decided yet".to_owned()),
        (Some(latest), None) => {
            let why = &latest.evaluation.why;
            if why.current == why.desired {
                return None;
            }
            let text = reason::of(&latest.evaluation.events, &why.steps);
            (Some(why.current), Some(why.desired), text)
        }
    };
    Some(Difference {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        owner,
        now: now.or(target.spec_replicas),
        neap,
        why,
    })
}

fn table(compared: &Compared, args: &DiffArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let mut table = Table::new();
    if !args.no_headers {
        table.row(["NAMESPACE", "NAME", "OWNER", "NOW", "NEAP", "WHY"]);
    }
    for difference in &compared.differences {
        let count = |count: Option<i32>| {
            count.map_or_else(|| "<unknown>".to_owned(), |count| count.to_string())
        };
        table.row([
            difference.namespace.clone(),
            difference.name.clone(),
            difference.owner.clone(),
            count(difference.now),
            count(difference.neap),
            difference.why.replace('\n', " "),
        ]);
    }
    table.write(out)?;
    Ok(())
}

/// What to say where nothing differs.
fn agreement(compared: &Compared) -> String {
    match (compared.observed, compared.scaled) {
        (0, 0) => {
            "Nothing to compare: no ScaledObject here is scaled by KEDA or an HPA.".to_owned()
        }
        (0, scaled) => format!(
            "Nothing to compare: Neap scales all {scaled} ScaledObjects here itself, and only observes none."
        ),
        (observed, _) => format!(
            "No differences: Neap would set what KEDA and HPAs set for all {observed} ScaledObjects that it only observes."
        ),
    }
}
