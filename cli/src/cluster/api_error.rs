//! The API server's refusals in kubectl's words.

use crate::error::CliError;

/// `error` as kubectl would print it.
pub(crate) fn from_api(error: kube::Error) -> CliError {
    match error {
        kube::Error::Api(status) => {
            let reason = if status.reason.is_empty() {
                format!("{}", status.code)
            } else {
                status.reason.clone()
            };
            CliError::Server {
                reason,
                message: status.message.clone(),
            }
        }
        other => CliError::Unreachable(innermost(&other)),
    }
}

/// The last cause, which says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
