//! Bytes on disk and in snapshots: a version, a checksum, and postcard.
//!
//! The records here are this crate's own, so that an upgrade of openraft cannot change what is on
//! disk unnoticed.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{
    Command, Entry, LogId, Membership, Payload, Peer, SnapshotMeta, StoredMembership, Vote, log_id,
};

/// Version of every record below. A change of any record raises it; readers keep the older forms.
pub(crate) const FORMAT: u8 = 1;

const HEADER: usize = 5;

/// Bytes that are not a record of this crate, or not whole.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CodecError {
    /// Shorter than a header.
    #[error("{0} bytes are too short for a record")]
    Short(usize),
    /// Written by a later version.
    #[error("record has format {0}; this version reads up to {FORMAT}")]
    Format(u8),
    /// The checksum does not match.
    #[error("checksum is {found:08x}; the record's bytes have {computed:08x}")]
    Checksum { found: u32, computed: u32 },
    /// The checksum matches and the content does not decode.
    #[error("record does not decode: {0}")]
    Content(String),
}

/// Puts the version and the checksum before `body`.
fn seal(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(FORMAT);
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Checks version and checksum and gives the body.
fn unseal(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(CodecError::Short(bytes.len()));
    };
    let [version, crc @ ..] = header else {
        return Err(CodecError::Short(bytes.len()));
    };
    if *version == 0 || *version > FORMAT {
        return Err(CodecError::Format(*version));
    }
    let found = u32::from_le_bytes(crc.try_into().map_err(|_| CodecError::Short(bytes.len()))?);
    let computed = crc32fast::hash(body);
    if found != computed {
        return Err(CodecError::Checksum { found, computed });
    }
    Ok(body)
}

fn to_postcard<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_stdvec(value).map_err(|error| CodecError::Content(error.to_string()))
}

fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::Content(format!(
            "{} bytes too many",
            rest.len()
        ))),
        Err(error) => Err(CodecError::Content(error.to_string())),
    }
}

/// A record with version and checksum.
pub(crate) trait Record: Sized {
    /// Encodes, sealed.
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError>;
    /// Decodes what [`to_bytes`](Record::to_bytes) gave.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError>;
}

#[derive(Serialize, Deserialize)]
struct LogIdRecord {
    term: u64,
    node: u64,
    index: u64,
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(id: LogIdRecord) -> Self {
        log_id(id.term, id.node, id.index)
    }
}

#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    configs: Vec<Vec<u64>>,
    members: Vec<(u64, Peer)>,
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let configs = membership.get_joint_config().iter();
        Self {
            configs: configs.map(|ids| ids.iter().copied().collect()).collect(),
            members: membership
                .nodes()
                .map(|(id, peer)| (*id, peer.clone()))
                .collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = CodecError;

    fn try_from(record: MembershipRecord) -> Result<Self, CodecError> {
        if record.configs.is_empty() && record.members.is_empty() {
            return Ok(Membership::default());
        }
        let configs = record
            .configs
            .into_iter()
            .map(|ids| ids.into_iter().collect())
            .collect();
        let members: std::collections::BTreeMap<u64, Peer> = record.members.into_iter().collect();
        Membership::new(configs, members).map_err(|error| CodecError::Content(error.to_string()))
    }
}

#[derive(Serialize, Deserialize)]
enum PayloadRecord {
    Blank,
    Command(Command),
    Membership(MembershipRecord),
}

/// An entry's payload, as it goes on the wire and, in an entry's record, to disk.
pub(crate) fn payload_to_bytes(payload: &Payload) -> Result<Vec<u8>, CodecError> {
    let record = match payload {
        Payload::Blank => PayloadRecord::Blank,
        Payload::Normal(command) => PayloadRecord::Command(command.clone()),
        Payload::Membership(membership) => PayloadRecord::Membership(membership.into()),
    };
    let mut bytes = vec![FORMAT];
    bytes.extend(to_postcard(&record)?);
    Ok(bytes)
}

/// Decodes what [`payload_to_bytes`] gave.
pub(crate) fn payload_from_bytes(bytes: &[u8]) -> Result<Payload, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short(0)),
        Some((&version, _)) if version == 0 || version > FORMAT => Err(CodecError::Format(version)),
        Some((_, record)) => Ok(match from_postcard(record)? {
            PayloadRecord::Blank => Payload::Blank,
            PayloadRecord::Command(command) => Payload::Normal(command),
            PayloadRecord::Membership(record) => Payload::Membership(record.try_into()?),
        }),
    }
}

#[derive(Serialize, Deserialize)]
struct EntryRecord {
    id: LogIdRecord,
    payload: Vec<u8>,
}

impl Record for Entry {
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let payload = payload_to_bytes(&self.payload)?;
        let id = (&self.log_id).into();
        Ok(seal(&to_postcard(&EntryRecord { id, payload })?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let record: EntryRecord = from_postcard(unseal(bytes)?)?;
        Ok(Entry {
            log_id: record.id.into(),
            payload: payload_from_bytes(&record.payload)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

impl Record for Vote {
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let record = VoteRecord {
            term: self.leader_id.term,
            node: self.leader_id.node_id,
            committed: self.committed,
        };
        Ok(seal(&to_postcard(&record)?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let record: VoteRecord = from_postcard(unseal(bytes)?)?;
        Ok(if record.committed {
            Vote::new_committed(record.term, record.node)
        } else {
            Vote::new(record.term, record.node)
        })
    }
}

impl Record for Option<LogId> {
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(seal(&to_postcard(&self.as_ref().map(LogIdRecord::from))?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let record: Option<LogIdRecord> = from_postcard(unseal(bytes)?)?;
        Ok(record.map(LogId::from))
    }
}

#[derive(Serialize, Deserialize)]
struct SnapshotMetaRecord {
    last: Option<LogIdRecord>,
    membership_at: Option<LogIdRecord>,
    membership: MembershipRecord,
}

impl Record for SnapshotMeta {
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let record = SnapshotMetaRecord {
            last: self.last_log_id.as_ref().map(LogIdRecord::from),
            membership_at: self
                .last_membership
                .log_id()
                .as_ref()
                .map(LogIdRecord::from),
            membership: self.last_membership.membership().into(),
        };
        Ok(seal(&to_postcard(&record)?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let record: SnapshotMetaRecord = from_postcard(unseal(bytes)?)?;
        let at = record.membership_at.map(LogId::from);
        Ok(SnapshotMeta {
            last_log_id: record.last.map(LogId::from),
            last_membership: StoredMembership::new(at, record.membership.try_into()?),
        })
    }
}

/// Who this member is, as its disk remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `LINEAGE.GENERATION`.
    pub(crate) cluster: String,
    /// Its id in that cluster.
    pub(crate) node: u64,
    /// It formed the cluster. Until its log has a first entry, it may have to finish that.
    pub(crate) founder: bool,
}

impl Record for Identity {
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(seal(&to_postcard(self)?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        from_postcard(unseal(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::Bytes;

    use super::*;

    fn peer(name: &str) -> Peer {
        Peer {
            name: name.into(),
            address: format!("{name}:9701"),
        }
    }

    fn entries() -> Vec<Entry> {
        let members = BTreeMap::from([(1, peer("a")), (4, peer("b"))]);
        let configs = vec![BTreeSet::from([1]), BTreeSet::from([1, 4])];
        let membership = Membership::new(configs, members).unwrap();
        [
            Payload::Blank,
            Payload::Normal(Command::App(Bytes::from_static(b"\x01state"))),
            Payload::Normal(Command::Allocate { name: "c".into() }),
            Payload::Normal(Command::Announce { node: 4, format: 2 }),
            Payload::Membership(membership),
        ]
        .into_iter()
        .zip(7..)
        .map(|(payload, index)| Entry {
            log_id: log_id(3, 4, index),
            payload,
        })
        .collect()
    }

    #[test]
    fn every_record_survives_a_round_trip() {
        for entry in entries() {
            assert_eq!(
                Entry::from_bytes(&entry.to_bytes().unwrap()).unwrap(),
                entry
            );
        }
        for vote in [Vote::new(3, 1), Vote::new_committed(4, 2)] {
            assert_eq!(Vote::from_bytes(&vote.to_bytes().unwrap()).unwrap(), vote);
        }
        for id in [None, Some(log_id(1, 2, 3))] {
            assert_eq!(
                Option::<LogId>::from_bytes(&id.to_bytes().unwrap()).unwrap(),
                id
            );
        }
        let Payload::Membership(membership) = &entries()[4].payload else {
            panic!("no membership");
        };
        for meta in [
            SnapshotMeta::default(),
            SnapshotMeta {
                last_log_id: Some(log_id(3, 4, 11)),
                last_membership: StoredMembership::new(Some(log_id(3, 4, 11)), membership.clone()),
            },
        ] {
            assert_eq!(
                SnapshotMeta::from_bytes(&meta.to_bytes().unwrap()).unwrap(),
                meta
            );
        }
        let identity = Identity {
            cluster: "a1.1".into(),
            node: 7,
            founder: true,
        };
        assert_eq!(
            Identity::from_bytes(&identity.to_bytes().unwrap()).unwrap(),
            identity
        );
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for entry in entries() {
            let good = entry.to_bytes().unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(Entry::from_bytes(&bad).is_err(), "bit {bit} of {entry:?}");
            }
        }
    }

    #[test]
    fn a_cut_record_is_noticed() {
        let good = entries()[1].to_bytes().unwrap();
        for length in 0..good.len() {
            assert!(
                Entry::from_bytes(&good[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let mut later = entries()[0].to_bytes().unwrap();
        later[0] = FORMAT + 1;
        assert_eq!(
            Entry::from_bytes(&later),
            Err(CodecError::Format(FORMAT + 1))
        );
        assert_eq!(
            payload_from_bytes(&[FORMAT + 1, 0]),
            Err(CodecError::Format(FORMAT + 1))
        );
    }

    /// What a released version wrote must stay readable: these bytes were written by format 1.
    #[test]
    fn format_one_is_stable() {
        let bytes = entries()[3].to_bytes().unwrap();
        assert_eq!(bytes, [1, 255, 214, 73, 163, 3, 4, 10, 5, 1, 1, 2, 4, 2]);
    }
}
