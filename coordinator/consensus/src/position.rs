//! Where an entry stands in the replicated log, and under which leader.

use std::fmt;

/// Identity of one member of the cluster, allocated by the cluster when the member joins.
///
/// It is bound to the member's disk, not to its name: a replica that comes back with an empty disk
/// joins under a new id, because a vote or an entry that it once acknowledged may be lost with the
/// old one (openraft, "dynamic membership").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One leadership: a member leads at most once per term. Ordered by term, then node; a later
/// leadership is always the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderId {
    /// Raft term.
    pub term: u64,
    /// Member that leads in this term.
    pub node: NodeId,
}

/// Written as `TERM.NODE`, the form that the User-Agent of writes and the logs carry.
impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.node)
    }
}

/// Position of one committed entry: unique in the cluster's life and ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Member that proposed the entry.
    pub node: NodeId,
    /// Index in the log. Indexes grow by one; the entries of the cluster itself (membership, a new
    /// leader's first entry) use some of them, so commands see gaps.
    pub index: u64,
}

impl LogPosition {
    /// The leadership under which the entry was proposed.
    pub fn leader(&self) -> LeaderId {
        LeaderId {
            term: self.term,
            node: self.node,
        }
    }
}

/// Written as `TERM.NODE/INDEX`.
impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.term, self.node, self.index)
    }
}
