//! Replicated decision state.
//!
//! A [`Consensus`] carries opaque commands through a Raft log to a [`StateMachine`] that is handed
//! in, on one replica or several, over the same code path. It knows nothing of scaling. The Raft
//! implementation (openraft), its log store (redb) and the peer network (tonic over mTLS) stay
//! behind this façade: no type of theirs is part of the public interface.
//!
//! `docs/consensus.md` tells how the pieces work together and what an operator sees of them.

mod bootstrap;
mod clock;
mod cluster_id;
mod codec;
mod config;
mod consensus;
mod election;
mod error;
mod hand_over;
mod leadership;
mod lease;
mod log_store;
mod machine;
mod membership;
mod memory_disk;
mod net;
mod node;
pub mod ports;
mod position;
mod recover;
mod snapshot_store;
mod state_machine;
mod status;
#[cfg(test)]
mod suite_test;
mod types;
mod void;
mod watching;

pub use clock::{BootClock, Clock};
pub use config::{Bootstrap, Config, ConfigError, PeerConfig, PeerTls, Timings};
pub use consensus::Consensus;
pub use error::{HandOverError, LeaveError, OpenError, ProposeError, RemoveError};
pub use leadership::{Leader, Leadership, Lease};
pub use net::{BoxFuture, Io, Listener, Stream, TcpTransport, Transport};
pub use node::Shared;
pub use position::{LeaderId, LogPosition, NodeId};
pub use recover::{RecoverError, Recovered, recover};
pub use state_machine::{ApplyError, RestoreError, SnapshotWriter, StateMachine};
pub use status::{FsyncStats, MemberStatus, Role, Status};
