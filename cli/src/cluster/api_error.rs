//! The API server's refusals in kubectl's words.

use crate::error::{CliError, innermost};

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
        other => CliError::Unreachable(innermost(&other).to_string()),
    }
}
