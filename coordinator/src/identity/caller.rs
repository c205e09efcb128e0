//! Who is at the other end of a stream.

use std::fmt;

use jiff::Timestamp;

use super::jwks::KeyError;
use super::token::TokenError;

/// An agent, as its verified token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the node that its pod is bound to.
    pub node_name: String,
    /// UID of that Node object.
    pub node_uid: String,
    /// `namespace/name` of its ServiceAccount.
    pub service_account: String,
    /// `namespace/name` of its pod.
    pub pod: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// End of the token's life, on the wall clock.
    pub expires: Timestamp,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} on node {}", self.pod, self.node_name)
    }
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The token is missing, broken, foreign or over.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The cluster's signing keys could not be had: it is not known whether the token is good.
    #[error(transparent)]
    Keys(#[from] KeyError),
}
