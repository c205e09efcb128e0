//! The coordinator, by the machine's own clocks.

use std::process::ExitCode;
use std::sync::Arc;

use neap_coordinator::clock::SystemClock;
use neap_coordinator::process;

fn main() -> ExitCode {
    match process::run(Arc::new(SystemClock)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!(error = format!("{error:#}"), "the coordinator ends");
            ExitCode::FAILURE
        }
    }
}
