//! `neap demo`: the programs that examples/quickstart runs. Each is as small as a program can be that
//! has the problem which Neap solves; they know nothing of Neap.

mod load;
mod web;
mod worker;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::error::CliError;

/// `neap demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    program: Program,
}

/// The programs.
#[derive(Debug, Subcommand)]
enum Program {
    /// One worker of a pre-fork HTTP server: it serves one connection at a time
    Web {
        /// Port to listen on
        #[arg(long, env = "PORT")]
        port: u16,
        /// How long it works on a request, in milliseconds
        #[arg(long, default_value_t = 100)]
        service_ms: u64,
    },
    /// A worker that takes one file at a time from a directory
    Worker {
        /// The directory
        #[arg(long)]
        spool: PathBuf,
        /// How long it works on a file, in milliseconds
        #[arg(long, default_value_t = 250)]
        service_ms: u64,
    },
    /// Clients of both: a rush, then quiet, again and again
    Load {
        /// The server's port
        #[arg(long, env = "WEB_SERVICE_PORT")]
        port: u16,
        /// The directory
        #[arg(long)]
        spool: PathBuf,
        /// Clients at once, each of which waits for its answer and asks again
        #[arg(long, default_value_t = 16)]
        clients: usize,
        /// Files put into the directory in each rush
        #[arg(long, default_value_t = 60)]
        files: usize,
        /// Seconds before the first rush
        #[arg(long, default_value_t = 3)]
        rest: u64,
        /// Seconds of rush
        #[arg(long, default_value_t = 14)]
        rush: u64,
        /// Seconds from one rush to the next
        #[arg(long, default_value_t = 90)]
        every: u64,
    },
}

/// Runs `neap demo`.
pub(crate) fn run(args: DemoArgs) -> Result<(), CliError> {
    match args.program {
        Program::Web { port, service_ms } => web::run(port, service_ms)?,
        Program::Worker { spool, service_ms } => worker::run(&spool, service_ms)?,
        Program::Load {
            port,
            spool,
            clients,
            files,
            rest,
            rush,
            every,
        } => {
            let load = load::Load {
                port,
                spool,
                clients,
                files,
                rest,
                rush,
                every,
            };
            load.run()?;
        }
    }
    Ok(())
}
