//! What went wrong, worded and numbered as kubectl words and numbers it.

use std::io;

/// Why a command failed. Its text goes to standard error as it is; the exit code is 1, as kubectl's, or 2
/// of `neap diff`.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Something the user can put right: an argument, a file, a field.
    #[error("error: {0}")]
    Client(String),
    /// Several faults of one input, each on a line of its own.
    #[error("{}", lines(.0))]
    Several(Vec<String>),
    /// The API server, or the coordinator, refused.
    #[error("Error from server ({reason}): {message}")]
    Server {
        /// The reason in a word, such as `NotFound`.
        reason: String,
        /// What the server said.
        message: String,
    },
    /// No answer.
    #[error("Unable to connect to the server: {0}")]
    Unreachable(String),
    /// The output could not be written.
    #[error("error: writing the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A fault the user can put right.
    pub fn client(message: impl Into<String>) -> Self {
        Self::Client(message.into())
    }

    /// Whether the reader of the output went away (`neap ... | head`), which is no error.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn lines(faults: &[String]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("error: {fault}"))
        .collect();
    lines.join("\n")
}

/// The error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The error's last cause, which says most; the error itself where it has none.
pub(crate) fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a dyn std::error::Error {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last
}
