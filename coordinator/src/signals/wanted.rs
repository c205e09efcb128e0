//! What the leader wants the agents to read, as `ingest` turns it into directives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use neap_units::{NodeName, PodUid};
use tokio::sync::watch;

use super::spools::Spool;

/// What to read of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// CPU and throttling of each container, and the pod's pressure.
    Resources,
    /// Memory of each container.
    Memory,
    /// Backlog, limit and drops of the listeners of a TCP port.
    AcceptQueue {
        /// The port the container listens on.
        port: u16,
    },
    /// Arrivals into the accept queues of the pod's network namespace.
    PassiveOpens,
    /// Backlog and limit of a Unix listening socket.
    UnixQueue {
        /// Path of the socket inside the pod.
        path: Arc<str>,
    },
}

/// One reading that a scaled target needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WantedSignal {
    /// The pod to read.
    pub pod: PodUid,
    /// What to read.
    pub what: Wanted,
    /// How often to read it.
    pub every: Duration,
}

/// All wanted readings, by the node whose agent does them. Cheap to clone; a node whose list did
/// not change keeps the same `Arc`, so that a stream can tell by pointer.
#[derive(Debug, Clone, Default)]
pub struct WantedSignals {
    /// Sorted and free of duplicates for each node.
    pub by_node: HashMap<NodeName, Arc<[WantedSignal]>>,
    /// Directories to look into on every node whose agent may. Sorted and free of duplicates.
    pub spools: Arc<[Spool]>,
}

/// Follows what is wanted. Followers publish the same set as the leader would, so that an
/// agent's directives do not change with the leader.
pub type WantedWatch = watch::Receiver<Arc<WantedSignals>>;
