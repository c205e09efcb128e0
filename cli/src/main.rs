//! `neap`, also installed as `kubectl-neap`.

use std::process::ExitCode;

fn main() -> ExitCode {
    neap::main(std::env::args_os())
}
