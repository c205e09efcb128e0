use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// `neap up`.
#[derive(Debug, Args)]
#[command(
    after_help = "A Deployment or StatefulSet needs a command: programs of this machine are run, not images.\nEach replica gets a port of its own in $PORT, in a command $(PORT).\nIn another terminal: neap explain scaledobject/NAME --local"
)]
pub(crate) struct UpArgs {
    /// Folder of manifests
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,

    /// Print a line for each change, as is done where the output is no terminal
    #[arg(long, conflicts_with = "json")]
    pub(super) plain: bool,

    /// Print a JSON object a line for each change
    #[arg(long)]
    pub(super) json: bool,

    /// Where decisions, scales and the output of replicas are kept; DIR/.neap if absent
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,

    /// Where the HTTP API is served; any free port if absent
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:0",
        hide_default_value = true
    )]
    pub(super) http: SocketAddr,

    /// A change against the direction of the last one waits so many seconds from it; a cluster's
    /// coordinator waits 15
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub(super) reversal_hold: u32,
}
