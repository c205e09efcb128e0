use std::io::Write;

use clap::Args;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Client, ResourceExt};
use neap_api::ScaledObject;

use super::api::{HpasByTarget, Server, is_handed_back, target_name};
use super::convert::{self, Plan};
use crate::answers::Status;
use crate::cluster::{
    Cluster, ClusterFlags, Coordinator, CoordinatorFlags, Scope, ScopeFlags, Whom, block_on,
};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::run::Surroundings;

/// `neap handback`.
#[derive(Debug, Args)]
#[command(after_help = "\
It needs no coordinator: use it when all are gone for long. Each ScaledObject gets a plain HPA: cpu and
memory triggers as they are; where there are others, never fewer replicas than now. A coordinator
that comes back only observes these targets until neap takeback. Targets that an HPA scales already,
and paused ones, are left as they are.")]
pub(crate) struct HandbackArgs {
    /// Names of ScaledObjects; all of the namespace if absent
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    scope: ScopeFlags,

    /// Ask the API server what it would do, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print the HPAs, and change nothing
    #[arg(short = 'o', long, value_enum)]
    output: Option<Structured>,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// `neap takeback`.
#[derive(Debug, Args)]
#[command(after_help = "\
It deletes the HPAs that neap handback made, and no other, once a coordinator leads. Replicas stay
as they are until Neap decides.")]
pub(crate) struct TakebackArgs {
    /// Names of ScaledObjects; all of the namespace if absent
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    scope: ScopeFlags,

    /// Ask the API server what it would do, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Also where no coordinator answers: nothing scales these targets then
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    coordinator: CoordinatorFlags,
}

/// Runs `neap handback`.
pub(crate) fn handback(
    args: &HandbackArgs,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let scope = Scope::new(&args.names, Some(cluster.namespace), &args.scope)?;
        let how = How {
            dry_run: args.dry_run,
            print: args.output,
        };
        hand_back(cluster.client, &scope, how, around.now, out).await
    })
}

/// Runs `neap takeback`.
pub(crate) fn takeback(args: &TakebackArgs, out: &mut dyn Write) -> Result<(), CliError> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let scope = Scope::new(&args.names, Some(cluster.namespace), &args.scope)?;
        if !args.force && !args.dry_run {
            leader(&args.coordinator, &args.cluster)
                .await
                .map_err(|error| {
                    let error = error.to_string();
                    let error = error.strip_prefix("error: ").unwrap_or(&error);
                    CliError::client(format!(
                        "{error}. Nothing would scale these targets; --force does it all the same"
                    ))
                })?;
        }
        take_back(cluster.client, &scope, args.dry_run, out).await
    })
}

/// Fails unless a coordinator answers and knows a leader.
async fn leader(flags: &CoordinatorFlags, cluster: &ClusterFlags) -> Result<(), CliError> {
    let coordinator = Coordinator::find(Whom::Leader, flags, cluster).await?;
    let status: Option<Status> = coordinator.get("/api/v1/status").await?;
    match status.and_then(|status| status.leader) {
        Some(_) => Ok(()),
        None => Err(CliError::client("no coordinator leads at the moment")),
    }
}

/// What is done with the plans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) print: Option<Structured>,
}

/// Hands back the ScaledObjects of `scope`. One that cannot be handed back does not keep the others
/// from it.
pub(super) async fn hand_back(
    client: Client,
    scope: &Scope,
    how: How,
    now: jiff::Timestamp,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut server = Server::new(client);
    let objects = server.scaled_objects(scope).await?;
    if objects.is_empty() {
        eprintln!("{}", scope.nothing());
        return Ok(());
    }
    let hpas = server.hpas(scope.namespace.as_deref()).await?;
    let mut faults = Vec::new();
    let mut printed = Vec::new();
    for object in &objects {
        let label = format!(
            "{}/{}",
            object.namespace().unwrap_or_default(),
            object.name_any()
        );
        match one(&mut server, object, &hpas, now).await {
            Ok(Next::Done(said)) => writeln!(out, "{said}")?,
            Ok(Next::Left(why)) => eprintln!("Warning: {label} {why}"),
            Ok(Next::Create { hpa, notes }) => {
                for note in notes {
                    eprintln!("Warning: {label}: {note}");
                }
                if how.print.is_some() {
                    printed.push(*hpa);
                    continue;
                }
                let dry = if how.dry_run { " (server dry run)" } else { "" };
                match server.create(&hpa, how.dry_run).await {
                    Ok(()) => {
                        writeln!(out, "horizontalpodautoscaler.autoscaling/{} created{dry}", hpa.name_any())?;
                    }
                    Err(CliError::Server { reason, .. }) if reason == "AlreadyExists" => faults.push(format!(
                        "{label}: an HPA named {:?} is there and is not Neap's; it is left as it is",
                        hpa.name_any()
                    )),
                    Err(error) => faults.push(format!("{label}: {error}")),
                }
            }
            Err(fault) => faults.push(format!("{label}: {fault}")),
        }
    }
    if let Some(form) = how.print {
        output::write(&as_list(printed), form, out)?;
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(faults))
    }
}

/// What is next for one object.
enum Next {
    /// Nothing; the line says why.
    Done(String),
    /// It is left as it is.
    Left(String),
    Create {
        hpa: Box<HorizontalPodAutoscaler>,
        notes: Vec<String>,
    },
}

async fn one(
    server: &mut Server,
    object: &ScaledObject,
    hpas: &HpasByTarget,
    now: jiff::Timestamp,
) -> Result<Next, String> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Left(
            "is being deleted; no HPA is made for it".to_owned(),
        ));
    }
    let key = (
        object.namespace().unwrap_or_default(),
        target_name(&convert::target(object)),
    );
    if let Some(there) = hpas.get(&key).and_then(|there| there.first()) {
        let name = there.name_any();
        if is_handed_back(there) {
            return Ok(Next::Done(format!(
                "horizontalpodautoscaler.autoscaling/{name} unchanged"
            )));
        }
        return Err(format!(
            "the HPA {name:?} scales its target already; it is left as it is"
        ));
    }
    let current = server
        .replicas(object)
        .await
        .map_err(|error| format!("its target cannot be read: {error}"))?;
    match convert::plan(object, current, now) {
        Plan::Create { hpa, notes } => Ok(Next::Create { hpa, notes }),
        Plan::Leave(why) => Ok(Next::Left(why)),
        Plan::Refuse(fault) => Err(fault),
    }
}

/// A list as kubectl prints and applies it.
fn as_list(hpas: Vec<HorizontalPodAutoscaler>) -> serde_json::Value {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": hpas})
}

/// Deletes the HPAs of `scope` that were handed back.
pub(super) async fn take_back(
    client: Client,
    scope: &Scope,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let server = Server::new(client);
    let handed_back = server.handed_back(scope).await?;
    if handed_back.is_empty() {
        eprintln!("{}", scope.nothing());
        return Ok(());
    }
    let dry = if dry_run { " (server dry run)" } else { "" };
    let mut faults = Vec::new();
    for hpa in &handed_back {
        let name = hpa.name_any();
        match server.delete(hpa, dry_run).await {
            Ok(()) => writeln!(
                out,
                "horizontalpodautoscaler.autoscaling {name:?} deleted{dry}"
            )?,
            Err(error) => faults.push(format!(
                "{}/{name}: {error}",
                hpa.namespace().unwrap_or_default()
            )),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CliError::Several(faults))
    }
}
