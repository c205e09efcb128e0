//! `neap status`: who leads, who follows, what is connected.

use std::io::Write;

use clap::Args;

use crate::answers::Status;
use crate::cluster::{ClusterFlags, Coordinator, CoordinatorFlags, Whom, block_on};
use crate::error::CliError;
use crate::output::{self, Structured};
use crate::table::Table;
use crate::{as_of, duration};

/// `neap status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Output format
    #[arg(short = 'o', long, value_enum)]
    output: Option<Structured>,

    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    coordinator: CoordinatorFlags,
}

/// Runs `neap status`. It fails where no leader is known, so that scripts can wait for one.
pub(crate) fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let status = block_on(async {
        let coordinator = Coordinator::find(Whom::Any, &args.coordinator, &args.cluster).await?;
        let status: Option<Status> = coordinator.get("/api/v1/status").await?;
        status.ok_or_else(|| {
            CliError::client("the coordinator has no status; is it of another version?")
        })
    })?;
    match args.output {
        Some(form) => output::write(&status, form, out)?,
        None => text(&status, out)?,
    }
    if status.leader.is_none() {
        return Err(CliError::client(
            "no leader is known; replicas stay as they are",
        ));
    }
    Ok(())
}

/// Which replica it is, and what.
fn answered_by(status: &Status) -> String {
    let name = status.name.as_deref().filter(|name| !name.is_empty());
    match name {
        Some(name) => format!("{name} ({})", status.role),
        None => status.role.clone(),
    }
}

/// How old it is what a leader alone knows: members' lags, nodes and series.
fn told(status: &Status) -> String {
    match &status.as_of {
        _ if status.leads => "now".to_owned(),
        Some(as_of) => format!(
            "{} ago, as {} told",
            duration::format(as_of::age(as_of)),
            as_of::leader(as_of)
        ),
        None => "<unknown>, no leader has told this replica anything yet".to_owned(),
    }
}

fn text(status: &Status, out: &mut dyn Write) -> Result<(), CliError> {
    let leader = status.leader.as_ref().map_or_else(
        || "<none>".to_owned(),
        |leader| match leader.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => format!("{name} ({})", leader.id),
            None => leader.id.clone(),
        },
    );
    let mut table = Table::new();
    let mut line = |name: &str, value: String| table.row([format!("{name}:"), value]);
    line("Version", status.version.clone());
    line("Answered by", answered_by(status));
    line("As of", told(status));
    line("Leader", leader);
    line("Term", status.term.to_string());
    line("Committed", status.committed.to_string());
    line("ScaledObjects", status.scaled_objects.to_string());
    line("Pods", status.pods.to_string());
    line(
        "Nodes",
        format!(
            "{} with an agent, {} of them heard from lately",
            status.nodes.known, status.nodes.fresh
        ),
    );
    line("Series", status.series.to_string());
    line("Questions", status.questions.to_string());
    table.write(out)?;
    // The only member of a neap up has neither a name nor an address.
    if status.members.iter().any(|member| !member.name.is_empty()) {
        writeln!(out)?;
        let mut table = Table::new();
        table.row(["MEMBER", "ADDRESS", "ROLE", "LAG"]);
        for member in &status.members {
            let leads = status
                .leader
                .as_ref()
                .is_some_and(|leader| leader.name.as_deref() == Some(member.name.as_str()));
            let role = match (leads, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            let lag = member
                .lag
                .map_or_else(|| "-".to_owned(), |lag| lag.to_string());
            table.row([
                member.name.clone(),
                member.address.clone(),
                role.to_owned(),
                lag,
            ]);
        }
        table.write(out)?;
    }
    let late: Vec<_> = status
        .objects
        .iter()
        .filter(|(_, kind)| !kind.synced || kind.error.is_some())
        .collect();
    if !late.is_empty() {
        writeln!(out)?;
        let mut table = Table::new();
        table.row(["OBJECTS", "STATE"]);
        for (name, kind) in late {
            let state = kind
                .error
                .clone()
                .unwrap_or_else(|| "not listed yet".to_owned());
            table.row([name.clone(), state]);
        }
        table.write(out)?;
    }
    Ok(())
}
