//! The command line.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::demo::DemoArgs;
use crate::diff::DiffArgs;
use crate::explain::ExplainArgs;
use crate::get::GetArgs;
use crate::handback::{HandbackArgs, TakebackArgs};
use crate::simulate::SimulateArgs;
use crate::status::StatusArgs;
use crate::top::TopArgs;
use crate::up::UpArgs;

/// Neap on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "neap",
    version,
    about = "Tries Neap without a cluster, asks it about its decisions and rehearses them",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the workloads of a folder as processes of this machine, and scale them
    Up(UpArgs),
    /// Show why a ScaledObject has the replicas it has, now and at its last changes
    Explain(ExplainArgs),
    /// List what is scaled, in the columns of an HPA
    Get(GetArgs),
    /// Show what the agents see: pods or nodes by CPU, memory, pressure and queue
    Top(TopArgs),
    /// Show where Neap would scale otherwise than the KEDA or HPA that it observes
    Diff(DiffArgs),
    /// Show what a ScaledObject would have done under a recorded or generated load
    Simulate(Box<SimulateArgs>),
    /// Show who leads, who follows and what is connected
    Status(StatusArgs),
    /// Make plain HPAs that scale in Neap's place, without any coordinator
    Handback(HandbackArgs),
    /// Remove the HPAs that handback made
    Takeback(TakebackArgs),
    /// The programs that examples/quickstart runs
    #[command(hide = true)]
    Demo(DemoArgs),
    /// Print the completion script of a shell
    Completion(CompletionArgs),
}

/// `neap completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "Load it with, for example:\n  source <(neap completion bash)\n  neap completion zsh > \"${fpath[1]}/_neap\"\n  neap completion fish > ~/.config/fish/completions/neap.fish"
)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
