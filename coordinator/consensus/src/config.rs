//! What a member is opened with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Everything that one member needs beside its state machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory for the log, the snapshots and the member's identity. One process at a time.
    pub data_dir: PathBuf,
    /// The peer network. Without it the member is a cluster of one that nobody can join.
    pub peer: Option<PeerConfig>,
    /// Latest version of the command format that this build's state machine reads.
    /// [`Consensus::format`](crate::Consensus::format) tells the latest that all voters read.
    pub reads_format: u8,
    /// Time bounds.
    pub timings: Timings,
    /// A snapshot is written after this many entries since the last one, and the log before it is
    /// cut. At least 10.
    pub snapshot_every: u64,
}

impl Config {
    /// Default for [`snapshot_every`](Config::snapshot_every).
    pub const SNAPSHOT_EVERY: u64 = 5_000;
    /// Largest command, in bytes.
    pub const MAX_COMMAND: usize = 4 << 20;

    /// A cluster of one without a peer network, with default bounds.
    pub fn single(data_dir: impl Into<PathBuf>, reads_format: u8) -> Self {
        Self {
            data_dir: data_dir.into(),
            peer: None,
            reads_format,
            timings: Timings::default(),
            snapshot_every: Self::SNAPSHOT_EVERY,
        }
    }

    /// Checks every field that has bounds.
    ///
    /// # Errors
    /// The first field out of bounds, its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.timings.validate()?;
        if self.snapshot_every < 10 {
            return Err(ConfigError::new(
                "snapshot_every",
                self.snapshot_every,
                "at least 10",
            ));
        }
        if let Some(peer) = &self.peer {
            peer.validate()?;
        }
        Ok(())
    }
}

/// How this member meets the others.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Stable name of this member; in a cluster, the pod's. A member that comes with a new disk
    /// takes the place of the older one of the same name. Other members must find it among the
    /// names of its certificate.
    pub name: String,
    /// Socket to listen on.
    pub listen: SocketAddr,
    /// `host:port` at which the others reach this member: a DNS name that outlives its address.
    pub advertise: String,
    /// How the cluster comes to be.
    pub bootstrap: Bootstrap,
    /// Certificates in PEM, read anew for each connection: send a new value and new connections use
    /// it.
    pub tls: watch::Receiver<Arc<PeerTls>>,
}

impl PeerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > 253 {
            return Err(ConfigError::new(
                "peer.name",
                &self.name,
                "1 to 253 characters",
            ));
        }
        validate_address("peer.advertise", &self.advertise)?;
        for (name, address) in &self.bootstrap.members {
            if name.is_empty() {
                return Err(ConfigError::new(
                    "peer.bootstrap.members",
                    address,
                    "a name for each",
                ));
            }
            validate_address("peer.bootstrap.members", address)?;
        }
        if !self
            .bootstrap
            .members
            .iter()
            .any(|(name, _)| *name == self.name)
        {
            return Err(ConfigError::new(
                "peer.bootstrap.members",
                format!("{} names", self.bootstrap.members.len()),
                format!("a list that holds this member's own name {}", self.name),
            ));
        }
        Ok(())
    }
}

fn validate_address(field: &'static str, address: &str) -> Result<(), ConfigError> {
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        if host.is_empty() {
            None
        } else {
            port.parse::<u16>().ok()
        }
    });
    match port {
        Some(port) if port != 0 => Ok(()),
        _ => Err(ConfigError::new(
            field,
            address,
            "host:port with a port from 1 to 65535",
        )),
    }
}

/// The members that a new cluster is formed from.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Name and `host:port` of each expected member, this one among them; the same list on all.
    /// The first forms the cluster, once the others have said that they are in none; they join it.
    pub members: Vec<(String, String)>,
    /// Members that are there and will not stay. They are not waited for; but while one of them is in
    /// a cluster, that has the state, and none is formed beside it.
    pub leaving: Vec<(String, String)>,
    /// The first forms the cluster without the answer of a minority once this time has passed since
    /// it started, and since a member answered that it is in a cluster. Before it, every expected
    /// member has to answer.
    pub form_without_minority_after: Duration,
}

/// Certificates of the peer network, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// Bundle of certificate authorities that a peer's certificate must chain to.
    pub ca: String,
    /// This member's certificate chain, leaf first; used as server and as client.
    pub certificate: String,
    /// Private key of the leaf (PKCS #8, SEC 1 or PKCS #1).
    pub key: String,
}

/// The key stays out of logs.
impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

/// Time bounds of one member; the same on all members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// The leader is heard of at least this often.
    pub heartbeat: Duration,
    /// Shortest random wait before a member stands for election.
    pub election_min: Duration,
    /// Longest random wait before a member stands for election; also the length of a lease.
    pub election_max: Duration,
    /// Bound of one `propose`.
    pub propose: Duration,
    /// Bound of one `hand_over`.
    pub hand_over: Duration,
    /// Bound of sending one snapshot to one member.
    pub snapshot: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            propose: Duration::from_secs(5),
            hand_over: Duration::from_secs(1),
            snapshot: Duration::from_secs(30),
        }
    }
}

impl Timings {
    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: Duration, allowed: String| {
            Err(ConfigError::new(field, format!("{value:?}"), allowed))
        };
        if self.heartbeat < Duration::from_millis(10) {
            return refuse("timings.heartbeat", self.heartbeat, "at least 10ms".into());
        }
        if self.election_min < self.heartbeat * 2 {
            let allowed = format!("at least twice timings.heartbeat ({:?})", self.heartbeat);
            return refuse("timings.election_min", self.election_min, allowed);
        }
        if self.election_max <= self.election_min {
            let allowed = format!("more than timings.election_min ({:?})", self.election_min);
            return refuse("timings.election_max", self.election_max, allowed);
        }
        for (field, value) in [
            ("timings.propose", self.propose),
            ("timings.hand_over", self.hand_over),
            ("timings.snapshot", self.snapshot),
        ] {
            if value < self.heartbeat {
                let allowed = format!("at least timings.heartbeat ({:?})", self.heartbeat);
                return refuse(field, value, allowed);
            }
        }
        Ok(())
    }
}

/// A field of the configuration that is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}: allowed is {allowed}")]
pub struct ConfigError {
    /// Path of the field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl ConfigError {
    /// Certificates that cannot be used.
    pub(crate) fn certificates(reason: &dyn std::fmt::Display) -> Self {
        let allowed =
            "a PEM bundle of authorities, a certificate chain of one of them, and its key";
        Self::new("peer.tls", reason, allowed)
    }

    fn new(field: &'static str, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}
