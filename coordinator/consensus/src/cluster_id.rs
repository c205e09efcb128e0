//! Which cluster a member belongs to, and which recovery of it.

use std::fmt;
use std::str::FromStr;

/// `LINEAGE.GENERATION`. All members that ever stemmed from one bootstrap share the lineage; each
/// recovery of a lost majority makes a later generation, and every earlier one is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterId {
    pub(crate) lineage: String,
    pub(crate) generation: u32,
}

/// Text that is not a cluster id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no cluster id: LINEAGE.GENERATION is expected")]
pub(crate) struct ClusterIdError(String);

impl ClusterId {
    /// The first generation of the lineage that `draw` names: 64 random bits are enough, for only
    /// clusters that can reach each other must differ.
    pub(crate) fn form(draw: u64) -> Self {
        Self {
            lineage: format!("{draw:016x}"),
            generation: 1,
        }
    }

    /// The generation after this one.
    pub(crate) fn next(&self) -> Self {
        Self {
            lineage: self.lineage.clone(),
            generation: self.generation + 1,
        }
    }

    /// Whether `other` is a later recovery of this very cluster, so that this one is void.
    pub(crate) fn is_superseded_by(&self, other: &Self) -> bool {
        self.lineage == other.lineage && self.generation < other.generation
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.lineage, self.generation)
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let parsed = text.rsplit_once('.').and_then(|(lineage, generation)| {
            let generation = generation.parse().ok()?;
            let lineage = lineage.to_owned();
            Some(Self {
                lineage,
                generation,
            })
        });
        parsed
            .filter(|id| !id.lineage.is_empty())
            .ok_or_else(|| ClusterIdError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_generation_of_the_same_lineage_supersedes() {
        let first = ClusterId::form(7);
        let later = first.next();
        assert!(first.is_superseded_by(&later));
        assert!(!later.is_superseded_by(&first));
        assert!(!first.is_superseded_by(&first));
        assert!(!first.is_superseded_by(&ClusterId::form(8).next()));
    }

    #[test]
    fn text_round_trips_and_other_text_is_refused() {
        let id = ClusterId::form(7).next();
        assert_eq!(id.to_string(), "0000000000000007.2");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", ".1", "a", "a.", "a.b", "a.-1"] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
    }
}
