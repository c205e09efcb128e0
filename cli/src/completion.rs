//! `neap completion`.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;

use crate::error::CliError;

/// Writes the completion script of `shell` for `command` as it is installed under `name`.
pub(crate) fn write(
    shell: Shell,
    command: &mut Command,
    name: &str,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    out.write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [
            Shell::Bash,
            Shell::Zsh,
            Shell::Fish,
            Shell::PowerShell,
            Shell::Elvish,
        ] {
            let mut script = Vec::new();
            write(shell, &mut Cli::command(), "neap", &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for known in ["simulate", "top", "diff", "sort-by"] {
                assert!(script.contains(known), "{shell}: no {known} in {script}");
            }
        }
    }
}
