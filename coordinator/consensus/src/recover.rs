//! Going on from one survivor after a majority was lost for good.

use std::path::Path;

use crate::cluster_id::ClusterId;
use crate::codec::Identity;
use crate::error::OpenError;
use crate::log_store::{Change, LogFile, RedbFile};
use crate::types::{Entry, LogId, Membership, Payload, Peer, Vote, log_id};

/// What a recovery made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster. Members of the old one are refused, and stop when they meet it.
    pub cluster: String,
    /// The cluster before.
    pub before: String,
    /// Index of the last entry of the survivor, committed or not: all of them count now.
    pub last_index: u64,
}

/// A recovery that was not made; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory cannot be opened: in use, damaged, or of a later version.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory holds no member, so there is nothing to go on from.
    #[error("{0} holds no member of a cluster; nothing can be recovered from it")]
    NoMember(std::path::PathBuf),
    /// The member is of another cluster than the one that was to be recovered; of a later generation,
    /// where that was done already.
    #[error("{path} holds a member of cluster {found}, not of {asked}")]
    OtherCluster {
        /// The directory.
        path: std::path::PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster asked for.
        asked: String,
    },
    /// The changes could not be written.
    #[error("cannot write the recovered cluster")]
    Write(#[source] std::io::Error),
}

/// Makes the member in `data_dir`, which must not be running, the only voter of a new generation of
/// its cluster, which must be `cluster`: so the same call, made again, changes nothing. What the lost majority had committed and this member had not yet received is lost;
/// what this member had received and nobody had committed is kept. `name` and `address` (`host:port`)
/// are what the others will know it by.
///
/// # Errors
/// See [`RecoverError`].
pub fn recover(
    data_dir: &Path,
    cluster: &str,
    name: &str,
    address: &str,
) -> Result<Recovered, RecoverError> {
    if !data_dir.join(RedbFile::NAME).exists() {
        return Err(RecoverError::NoMember(data_dir.into()));
    }
    let mut file = RedbFile::open(data_dir)?;
    let loaded = file.load()?;
    let none = || RecoverError::NoMember(data_dir.into());
    let identity = loaded.identity.ok_or_else(none)?;
    if identity.cluster != cluster {
        return Err(RecoverError::OtherCluster {
            path: data_dir.into(),
            found: identity.cluster,
            asked: cluster.into(),
        });
    }
    let last = loaded
        .entries
        .last()
        .map(|entry| entry.log_id)
        .or(loaded.purged);
    let last: LogId = last.ok_or_else(none)?;
    let before: ClusterId = identity.cluster.parse().map_err(|_| none())?;

    // A term above all that this member has seen, so that what it writes is the latest.
    let voted = loaded.vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    let peer = Peer {
        name: name.into(),
        address: address.into(),
    };
    let alone = std::collections::BTreeMap::from([(identity.node, peer)]);
    let voters = vec![[identity.node].into()];
    let membership = Membership::new(voters, alone).map_err(|_| none())?;
    let cluster = before.next();
    let changes = [
        Change::Identity(Identity {
            cluster: cluster.to_string(),
            node: identity.node,
            founder: false,
        }),
        Change::Vote(Vote::new(term, identity.node)),
        Change::Append(vec![Entry {
            log_id: log_id(term, identity.node, last.index + 1),
            payload: Payload::Membership(membership),
        }]),
    ];
    file.commit(&changes).map_err(RecoverError::Write)?;
    Ok(Recovered {
        cluster: cluster.to_string(),
        before: before.to_string(),
        last_index: last.index,
    })
}
