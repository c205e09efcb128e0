//! What the three forms of output have in common.

use neap_coordinator::local::Report;

use super::rows::Row;
use crate::error::CliError;

/// What is known when everything has been started.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    /// The folder.
    pub(super) folder: String,
    /// The state folder.
    pub(super) state: String,
    /// The HTTP API.
    pub(super) http: String,
    /// Replicas that an earlier run left behind.
    pub(super) orphans: usize,
}

/// Shows what happens. `at` is the time since the start.
pub(super) trait View {
    /// Everything has been started.
    fn begun(&mut self, begun: &Begun) -> Result<(), CliError>;

    /// The first decision was made.
    fn first_decision(&mut self, at: std::time::Duration) -> Result<(), CliError>;

    /// A report came.
    fn report(&mut self, at: std::time::Duration, report: &Report) -> Result<(), CliError>;

    /// All targets as they are now.
    fn rows(&mut self, at: std::time::Duration, rows: &[Row]) -> Result<(), CliError>;

    /// Everything is being stopped.
    fn stopping(&mut self, at: std::time::Duration) -> Result<(), CliError>;

    /// Everything has been stopped.
    fn stopped(&mut self, at: std::time::Duration) -> Result<(), CliError>;

    /// Whether the user asked to stop by a key.
    fn asked_to_stop(&mut self) -> bool {
        false
    }
}
