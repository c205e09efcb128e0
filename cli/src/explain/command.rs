use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::text;
use crate::answers::Explained;
use crate::as_of;
use crate::cluster::{
    ClusterFlags, Coordinator, CoordinatorFlags, Whom, block_on, names, namespace,
};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::run::Surroundings;

/// `neap explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// scaledobject/NAME, or only NAME
    #[arg(required = true, value_name = "scaledobject/NAME")]
    object: Vec<String>,

    /// How many of the last changes to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    changes: usize,

    /// Output format; everything the coordinator keeps
    #[arg(short = 'o', long, value_enum)]
    output: Option<Structured>,

    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    coordinator: CoordinatorFlags,
}

/// Runs `neap explain`.
pub(crate) fn run(
    args: &ExplainArgs,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let names = names(&args.object)?;
    if names.is_empty() {
        return Err(CliError::client(
            "name a ScaledObject, as in: neap explain scaledobject/NAME",
        ));
    }
    block_on(async {
        let namespace = namespace(&args.cluster, &args.coordinator).await?;
        let coordinator = Coordinator::find(Whom::Any, &args.coordinator, &args.cluster).await?;
        for (at, name) in names.iter().enumerate() {
            let path = format!("/api/v1/targets/{namespace}/{name}");
            let answer: Option<Value> = coordinator.get(&path).await?;
            let Some(answer) = answer else {
                return Err(CliError::Server {
                    reason: "NotFound".to_owned(),
                    message: format!(
                        "scaledobjects.keda.sh \"{name}\" not found in namespace {namespace:?}, or not decided on yet"
                    ),
                });
            };
            if let Some(form) = args.output {
                output::write(&answer, form, out)?;
                continue;
            }
            let explained: Explained = serde_json::from_value(answer).map_err(|error| {
                CliError::client(format!(
                    "the coordinator's answer cannot be read: {error}; -o json shows it as it is"
                ))
            })?;
            if at > 0 {
                writeln!(out)?;
            }
            let now = around.now + (around.elapsed)();
            as_of::warn(explained.as_of.as_ref());
            text::write(&explained, args.changes, now, out)?;
        }
        Ok(())
    })
}
