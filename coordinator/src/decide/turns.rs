//! Scale writes in turns: so many on their way at most, and each under the lease that holds when its
//! turn comes.

use std::sync::Arc;
use std::time::Duration;

use neap_consensus::Consensus;
use tokio::sync::Semaphore;

use crate::clock::{Boottime, Clock};
use crate::keys::{LeaderId, TargetRef};
use crate::scaler::{ScaleError, Scaler, Written};

/// Writes that are on their way at most. A thousand at once would each be slower than the lease is
/// long, and none would be known to be done.
const AT_ONCE: usize = 32;
/// A write is given up so long before the lease ends.
const LEASE_MARGIN: Duration = Duration::from_millis(10);

/// Where writes wait for their turn. Clones share the turns.
#[derive(Clone)]
pub(super) struct Turns {
    scaler: Arc<dyn Scaler>,
    consensus: Consensus,
    clock: Arc<dyn Clock>,
    free: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new(
        scaler: Arc<dyn Scaler>,
        consensus: Consensus,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            scaler,
            consensus,
            clock,
            free: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Writes as `leader` what was decided on version `resource_version`, and gives the time at which
    /// the turn came with what became of it: [`ScaleError::Timeout`] if `leader` leads no more by then.
    pub(super) async fn write(
        &self,
        target: &TargetRef,
        replicas: i32,
        resource_version: &str,
        leader: LeaderId,
    ) -> (Boottime, Result<Written, ScaleError>) {
        // The semaphore is never closed.
        let _turn = self.free.acquire().await;
        let now = self.clock.boottime();
        let lease = self.consensus.lease();
        let Some(lease) = lease.filter(|lease| lease.leader() == leader) else {
            return (now, Err(ScaleError::Timeout));
        };
        let deadline = now + lease.remaining.saturating_sub(LEASE_MARGIN);
        let write = self
            .scaler
            .write(target, replicas, resource_version, leader, deadline);
        (now, write.await)
    }
}
