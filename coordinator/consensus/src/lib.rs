//! Replicated decision state.
//!
//! A [`Consensus`] carries opaque commands through a Raft log to a [`StateMachine`] that is handed
//! in, on one replica or several, over the same code path. It knows nothing of scaling. The Raft
//! implementation (openraft), its log store (redb) and the peer network (tonic over mTLS) stay
//! behind this façade: no type of theirs is part of the public interface.
//!
//! `docs/consensus.md` tells how the pieces work together and what an operator sees of them.

mod clock;
mod config;
mod consensus;
mod error;
mod leadership;
mod position;
mod state_machine;
mod status;

pub use clock::{BootClock, Clock};
pub use config::{Bootstrap, Config, ConfigError, PeerConfig, PeerTls, Timings};
pub use consensus::{Consensus, Shared};
pub use error::{HandOverError, LeaveError, OpenError, ProposeError};
pub use leadership::{Leader, Leadership, Lease};
pub use position::{LeaderId, LogPosition, NodeId};
pub use state_machine::{ApplyError, RestoreError, SnapshotWriter, StateMachine};
pub use status::{FsyncStats, MemberStatus, Role, Status};
