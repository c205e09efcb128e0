//! The types that openraft is instantiated with. They stay inside this crate.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::position::{LeaderId, LogPosition, NodeId};

openraft::declare_raft_types!(
    /// Openraft's type family for this crate.
    pub(crate) TypeConfig:
        D = Command,
        R = (),
        NodeId = u64,
        Node = Peer,
);

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type RaftLeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, Peer>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, Bytes>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;

/// How one member reaches another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Stable name.
    pub(crate) name: String,
    /// `host:port`.
    pub(crate) address: String,
}

/// What the log carries beside openraft's own entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// For the state machine that was handed in.
    App(#[serde(with = "raw_bytes")] Bytes),
    /// Takes an identity out of the log: the entry's index is the new member's id.
    Allocate {
        /// Name of the member it is for.
        name: String,
    },
    /// A member says which command format it reads.
    Announce {
        /// The member.
        node: u64,
        /// Latest version that it reads.
        format: u8,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::App(bytes) => write!(f, "app({} bytes)", bytes.len()),
            Command::Allocate { name } => write!(f, "allocate({name})"),
            Command::Announce { node, format } => write!(f, "announce({node}, format {format})"),
        }
    }
}

/// The façade's form of an entry's place.
pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition {
        term: id.leader_id.term,
        node: NodeId(id.leader_id.node_id),
        index: id.index,
    }
}

/// The façade's form of a leadership.
pub(crate) fn leader_id(id: &RaftLeaderId) -> LeaderId {
    LeaderId {
        term: id.term,
        node: NodeId(id.node_id),
    }
}

/// Openraft's form of an entry's place.
pub(crate) fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId {
        leader_id: RaftLeaderId {
            term,
            node_id: node,
        },
        index,
    }
}

/// `Bytes` as serde's bytes. The feature of `bytes` that does this would be switched on for the
/// whole workspace.
mod raw_bytes {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Raw;

        impl Visitor<'_> for Raw {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes::from(bytes))
            }
        }

        from.deserialize_bytes(Raw)
    }
}
