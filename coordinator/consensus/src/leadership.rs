//! Who leads, and for how long that is certain.

use std::time::Duration;

use crate::position::{LeaderId, NodeId};

/// The leader as one member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Term and member of this leadership.
    pub id: LeaderId,
    /// The leader's stable name ([`PeerConfig::name`](crate::PeerConfig::name)); in a cluster, the
    /// pod's.
    pub name: String,
    /// `host:port` at which other members reach it.
    pub address: String,
}

/// What one member knows of leadership. It is a hint to route by: only a [`Lease`] says that a
/// leader still leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// This member; `None` until it has joined a cluster.
    pub node: Option<NodeId>,
    /// Latest term seen; 0 before the first.
    pub term: u64,
    /// The leader of that term, while one is known.
    pub leader: Option<Leader>,
    /// This member leads, and its state machine has applied everything that earlier leaders
    /// committed. A new leader names itself in `leader` a moment sooner.
    pub is_self: bool,
}

/// A promise of the voters not to elect another leader for a while: at least until
/// [`remaining`](Lease::remaining) has passed. Check it before each external write, and bound the
/// write by it. It is no fence: a write sent in time may arrive late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Term of the leadership that the lease is for.
    pub term: u64,
    /// This member.
    pub node: NodeId,
    /// Time left, above zero, with the margin for clock drift taken off.
    pub remaining: Duration,
}

impl Lease {
    /// The leadership that the lease is for.
    pub fn leader(&self) -> LeaderId {
        LeaderId {
            term: self.term,
            node: self.node,
        }
    }
}
