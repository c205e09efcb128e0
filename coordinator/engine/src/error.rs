/// Why a serialised state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// No bytes at all.
    #[error("decision state: empty")]
    Empty,
    /// Written by another version.
    #[error("decision state: version {found}, this program reads version {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The version known.
        known: u8,
    },
    /// The bytes are not a state.
    #[error("decision state: {0}")]
    Malformed(String),
    /// A list is longer than the engine ever writes.
    #[error("decision state: {what} has {found} entries, at most {max} are allowed")]
    TooLong {
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length allowed.
        max: usize,
    },
}
