//! What an operator and the metrics see of a member.

use std::time::Duration;

use crate::position::{LeaderId, LogPosition, NodeId};

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not yet in a cluster.
    #[default]
    Joining,
    /// Receives the log and does not vote.
    Learner,
    /// Votes and follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped for good.
    Stopped,
}

impl Role {
    /// The role in lower case, as metrics and the API print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Joining => "joining",
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        }
    }
}

/// One member's view of itself and, while it leads, of the others. The default is that of a member
/// that has not joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Identity of the cluster; changes when a lost majority was recovered. Empty before joining.
    pub cluster: String,
    /// This member; `None` until it has joined.
    pub node: Option<NodeId>,
    /// What it is.
    pub role: Role,
    /// Latest term seen.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<LeaderId>,
    /// While it hears no leader: the cluster that an expected member is led in, where that has nothing
    /// to do with this member's. Only its own disk keeps this one from joining there.
    pub stranger: Option<String>,
    /// Time since it last heard a leader. `None` where it never has, and while it leads.
    pub leader_heard: Option<Duration>,
    /// Index of the last entry in its log.
    pub last_index: u64,
    /// Index of the last entry that it knows to be committed.
    pub committed_index: u64,
    /// The last entry that its state machine has applied.
    pub applied: Option<LogPosition>,
    /// Index of the last entry in its last snapshot.
    pub snapshot_index: u64,
    /// Index of the last entry cut from its log.
    pub purged_index: u64,
    /// All members, itself among them. Voters stand for election in this order when a leader is lost.
    pub members: Vec<MemberStatus>,
    /// It is a voter, by the last list of members that it has. While the members change and two sets of
    /// voters have to agree, it is in both: one that is just being made a voter is not yet.
    pub votes: bool,
    /// No change of members is under way. While one is, the old voters and the new ones each have
    /// to agree, so fewer may be lost.
    pub settled: bool,
    /// How long its disk takes.
    pub fsync: FsyncStats,
    /// Bytes of commands in its log, which it holds in memory as well.
    pub log_bytes: usize,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}

/// One member as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub node: NodeId,
    /// Its stable name.
    pub name: String,
    /// `host:port` at which it is reached.
    pub address: String,
    /// It votes; else it is a learner.
    pub voter: bool,
    /// Entries that it has not acknowledged yet. Known to the leader only.
    pub lag: Option<u64>,
    /// Time since it last acknowledged the leader. Known to the leader only.
    pub last_ack: Option<Duration>,
}

/// Times of the log's commits to disk, since the member was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsyncStats {
    /// Number of commits.
    pub count: u64,
    /// Sum of their times.
    pub total: Duration,
    /// Time of the last one.
    pub last: Duration,
    /// Longest.
    pub max: Duration,
    /// For a histogram: number of commits that took at most each of [`FsyncStats::BOUNDS`], and at
    /// the end all. Cumulative.
    pub buckets: [u64; FsyncStats::BOUNDS.len() + 1],
}

impl FsyncStats {
    /// Upper bounds of [`buckets`](FsyncStats::buckets).
    pub const BOUNDS: [Duration; 11] = [
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(2),
    ];
}
