//! The façade.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{HandOverError, LeaveError, OpenError, ProposeError};
use crate::leadership::{Leadership, Lease};
use crate::position::{LogPosition, NodeId};
use crate::state_machine::StateMachine;
use crate::status::Status;

/// One open member. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct Consensus {}

impl Consensus {
    /// Opens the member in `config.data_dir`, listens for peers and starts to form, join or rejoin
    /// its cluster. Returns at once after the local work; follow [`leadership`](Self::leadership)
    /// for the rest.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        config: Config,
        state_machine: impl StateMachine,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let _ = (config, state_machine, clock);
        unimplemented!()
    }

    /// Proposes one command and waits until it is committed and applied here. On the leader only.
    ///
    /// # Errors
    /// See [`ProposeError`]; after `Lost` and `Timeout` the outcome is unknown, so commands must be
    /// safe to repeat.
    pub async fn propose(&self, command: Bytes) -> Result<LogPosition, ProposeError> {
        let _ = command;
        unimplemented!()
    }

    /// Who leads, as this member knows it, and each change of that.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        unimplemented!()
    }

    /// The lease of this member's own leadership, or `None` where it has none. Costs a few atomic
    /// reads; check it before each external write.
    pub fn lease(&self) -> Option<Lease> {
        unimplemented!()
    }

    /// Latest version of the command format that every voter reads; propose nothing later.
    pub fn format(&self) -> u8 {
        unimplemented!()
    }

    /// Says whether this member is fit to lead (it is at first). An unfit one takes no hand-over
    /// and goes on voting.
    pub fn set_fit(&self, fit: bool) {
        let _ = fit;
        unimplemented!()
    }

    /// Hands leadership to the fit voter that is closest in the log, and waits until it leads. From
    /// the call on, this member has no lease.
    ///
    /// # Errors
    /// See [`HandOverError`]; except for `Stopped` this member may lead on.
    pub async fn hand_over(&self) -> Result<NodeId, HandOverError> {
        unimplemented!()
    }

    /// Leaves the cluster for good: hands leadership over where this member has it, and waits until
    /// the leader has removed it. For a replica that will not come back.
    ///
    /// # Errors
    /// See [`LeaveError`]; the member is then still in the cluster.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        unimplemented!()
    }

    /// Stops the member in order: raft, the peer network, the log. Without a hand-over the others
    /// elect a leader after the lease.
    pub async fn shutdown(&self) {
        unimplemented!()
    }

    /// What the member is and knows.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Gives the leader's table of soft state (values and reasons, outside the log) to the other
    /// members; each call replaces the last table. On other members it does nothing.
    pub fn share(&self, table: Bytes) {
        let _ = table;
        unimplemented!()
    }

    /// The latest table that a leader shared, on every member.
    pub fn shared(&self) -> watch::Receiver<Option<Shared>> {
        unimplemented!()
    }

    /// Resolves when the member has stopped for good, with the reason. The process must then exit.
    pub async fn stopped(&self) -> String {
        unimplemented!()
    }
}

/// A table of soft state, as the leader gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The leadership under which it was shared.
    pub from: crate::position::LeaderId,
    /// When it arrived, on tokio's clock.
    pub received: tokio::time::Instant,
    /// The table.
    pub table: Bytes,
}
