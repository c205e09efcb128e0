//! Recommendations inside the stabilisation windows.

use neap_units::Timestamp;
use serde::{Deserialize, Serialize};

/// The recommendations that stabilisation can still need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub(crate) entries: Vec<Recommendation>,
}

/// A number that the metrics proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The number.
    pub replicas: i32,
    /// When.
    pub at: Timestamp,
}
