//! What can fail, per operation.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::ConfigError;
use crate::leadership::Leader;
use crate::position::NodeId;

/// A member could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A field of the configuration is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process holds the data directory.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// What is on disk fails its checks.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// File that failed.
        path: PathBuf,
        /// Which check failed.
        reason: String,
    },
    /// What is on disk was written by a later version.
    #[error("{} has format {found}; this version reads up to {readable}", path.display())]
    Format {
        /// File that was refused.
        path: PathBuf,
        /// Format version found.
        found: u8,
        /// Latest format version that can be read.
        readable: u8,
    },
    /// The state machine refused the last snapshot.
    #[error(transparent)]
    Restore(#[from] crate::state_machine::RestoreError),
    /// A file, a directory or the listening socket.
    #[error("{what}")]
    Io {
        /// What was being done, with the path or address.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The Raft core refused to start.
    #[error("cannot start raft: {0}")]
    Start(String),
}

/// A command was not, or not certainly, committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead, or cannot reach a majority. The command was not proposed.
    #[error("not the leader")]
    NotLeader {
        /// The leader to try instead, where one is known.
        hint: Option<Leader>,
    },
    /// Leadership ended while the command was on its way. It may yet be committed by the next
    /// leader, or never: the outcome is unknown.
    #[error("leadership was lost before the command was committed; its outcome is unknown")]
    Lost,
    /// No majority acknowledged the command in time. It may yet be committed: the outcome is
    /// unknown.
    #[error("command was not committed within {after:?}; its outcome is unknown")]
    Timeout {
        /// The bound that passed ([`Timings::propose`](crate::Timings::propose)).
        after: Duration,
    },
    /// The command is larger than the log takes. It was not proposed.
    #[error("command of {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Size of the command in bytes.
        size: usize,
        /// Largest allowed size in bytes.
        limit: usize,
    },
    /// There is a voter that cannot read the command's format. It was not proposed.
    #[error("command in format {format}; there is a voter that reads up to {readable} only")]
    Format {
        /// Format of the command.
        format: u8,
        /// Latest that every voter reads.
        readable: u8,
    },
    /// This member has stopped (disk failure, an unreadable entry, or shutdown) and does not start
    /// again by itself: the process must exit.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
}

/// Leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// This member does not lead; there is nothing to hand over.
    #[error("not the leader")]
    NotLeader,
    /// No other voter is there, is known to be reachable and fit, and is close enough in the log.
    #[error("no other voter can take over")]
    NoSuccessor,
    /// The successor did not take over in time.
    #[error("{to} did not take over within {after:?}")]
    Timeout {
        /// The successor asked.
        to: NodeId,
        /// The bound that passed ([`Timings::hand_over`](crate::Timings::hand_over)).
        after: Duration,
    },
    /// This member has stopped.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
}

/// Another member was not removed from the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// This member does not lead.
    #[error("not the leader")]
    NotLeader,
    /// The leader goes by [`leave`](crate::Consensus::leave), which hands leadership over first.
    #[error("the leader does not remove itself")]
    Itself,
    /// It is the only voter: removing it would end the cluster.
    #[error("the only voter cannot be removed")]
    LastVoter,
    /// It was not confirmed. Asking again may help, and does no harm.
    #[error("removal was not confirmed: {reason}")]
    Failed {
        /// What stood in the way.
        reason: String,
    },
    /// This member has stopped.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
}

/// This member was not removed from the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    /// It is the only voter: removing it would end the cluster.
    #[error("the only voter cannot leave")]
    LastVoter,
    /// No leader confirmed the removal in time.
    #[error("removal was not confirmed within {after:?}: {last}")]
    Timeout {
        /// The bound that passed.
        after: Duration,
        /// What the last attempt ended with.
        last: String,
    },
    /// This member has stopped.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
}
