//! Where a member meets its machine. Production takes [`Ports::default`]; tests put a network that
//! can be cut, a disk that stalls or a simulation in their place.

use std::io;
use std::sync::Arc;

pub use crate::memory_disk::{Logged, MemoryDisk};
use crate::net::{TcpTransport, Transport};

/// Called by the log's writer before each commit.
pub type CommitHook = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// The outside of one member.
#[derive(Clone)]
pub struct Ports {
    /// How members reach each other.
    pub transport: Arc<dyn Transport>,
    /// TLS runs above the transport. A simulation has nothing to gain from it.
    pub tls: bool,
    /// Where the log and the snapshots lie.
    pub storage: Storage,
    /// Called by the log's writer before each commit: it may wait, as a slow disk does, or fail.
    pub before_commit: Option<CommitHook>,
    /// The random number that names a new cluster; drawn from the system where it is `None`.
    pub draw: Option<u64>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            transport: Arc::new(TcpTransport),
            tls: true,
            storage: Storage::Disk,
            before_commit: None,
            draw: None,
        }
    }
}

/// Where the log and the snapshots lie.
#[derive(Clone)]
pub enum Storage {
    /// In the data directory.
    Disk,
    /// In memory.
    Memory(MemoryDisk),
}
