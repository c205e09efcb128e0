//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{CommandFactory, FromArgMatches};

use crate::args::{Cli, Command};
use crate::error::CliError;
use crate::{completion, demo, diff, explain, get, handback, simulate, status, top, up};

/// What a command may know of the machine beyond its arguments.
pub(crate) struct Surroundings {
    /// The time on the wall when the command began.
    pub(crate) now: jiff::Timestamp,
    /// The time since the command began.
    pub(crate) elapsed: Box<dyn Fn() -> Duration>,
}

impl Surroundings {
    /// This is the command's only look at a clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge at which time enters the command"
    )]
    fn of_this_machine() -> Self {
        let begun = Instant::now();
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        Self {
            now,
            elapsed: Box::new(move || begun.elapsed()),
        }
    }
}

/// Runs the command line `args`, the program's name first. Results go to standard output, faults to
/// standard error. The exit code is 0, or 1 as kubectl's; of `diff` it is 1 where something differs and 2 for
/// faults.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let name = program_name(args.first());
    // As of kubectl diff, whose 1 is no fault.
    let fault = if args.get(1).is_some_and(|command| command == "diff") {
        2
    } else {
        1
    };
    let parsed = Cli::command()
        .bin_name(name)
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no faults; kubectl's code for a wrong argument is 1.
            let code = if error.use_stderr() { fault } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // One provider for every TLS connection; it can only have been set already by a test.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = run(cli, name, &Surroundings::of_this_machine(), &mut out);
    match result.and_then(|code| Ok(out.flush().map(|()| code)?)) {
        Ok(code) => code,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(fault)
        }
    }
}

fn run(
    cli: Cli,
    name: &str,
    around: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let done = match cli.command {
        Command::Up(args) => up::run(&args, around, out),
        Command::Demo(args) => demo::run(args),
        Command::Explain(args) => explain::run(&args, around, out),
        Command::Get(args) => get::run(&args, around, out),
        Command::Top(args) => top::run(&args, out),
        Command::Diff(args) => {
            let differs = diff::run(&args, out)?;
            return Ok(ExitCode::from(u8::from(differs)));
        }
        Command::Status(args) => status::run(&args, out),
        Command::Handback(args) => handback::handback(&args, around, out),
        Command::Takeback(args) => handback::takeback(&args, out),
        Command::Simulate(args) => simulate::run(&args, around, out),
        Command::Completion(args) => {
            let script_for = if name == "neap" {
                "neap"
            } else {
                "kubectl-neap"
            };
            completion::write(args.shell, &mut Cli::command(), script_for, out)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// What the user typed: `neap`, or `kubectl neap` when installed as its plugin.
fn program_name(first: Option<&OsString>) -> &'static str {
    let stem = first.and_then(|path| Path::new(path).file_stem()?.to_str());
    match stem {
        Some(stem) if stem.starts_with("kubectl-") => "kubectl neap",
        _ => "neap",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_knows_itself_as_a_plugin() {
        let name = |path: &str| program_name(Some(&OsString::from(path)));
        assert_eq!(name("/usr/local/bin/neap"), "neap");
        assert_eq!(name("./kubectl-neap"), "kubectl neap");
        assert_eq!(name("kubectl-neap.exe"), "kubectl neap");
    }
}
