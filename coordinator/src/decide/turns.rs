//! Scale writes in turns: so many on their way at most, each under the lease that holds when its
//! turn comes, and none while the server has asked to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use neap_consensus::{Consensus, Lease};
use tokio::sync::Semaphore;

use crate::clock::{Boottime, Clock};
use crate::keys::{LeaderId, TargetRef};
use crate::metrics::Metrics;
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
    metrics: Arc<Metrics>,
    free: Arc<Semaphore>,
    /// From when on the server takes writes again, as [`Boottime::as_micros`]. What it asks for holds
    /// for all targets.
    open_from: Arc<AtomicI64>,
}

impl Turns {
    pub(super) fn new(
        scaler: Arc<dyn Scaler>,
        consensus: Consensus,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            scaler,
            consensus,
            clock,
            metrics,
            free: Arc::new(Semaphore::new(AT_ONCE)),
            open_from: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    /// From when on the server takes writes again; a time of the past where it does.
    pub(super) fn open_from(&self) -> Boottime {
        Boottime::from_micros(self.open_from.load(Ordering::Relaxed))
    }

    /// Writes as `leader` what was decided on version `resource_version`, and gives the time at which
    /// the turn came with what became of it. By then `leader` may lead no more, which is a
    /// [`ScaleError::Timeout`], or the server may have asked another write to wait, which is a
    /// [`ScaleError::Throttled`] for this one as well: neither is sent.
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
        let retry_after = self.open_from().since(now);
        if !retry_after.is_zero() {
            return (now, Err(ScaleError::Throttled { retry_after }));
        }
        let Some(lease) = self.lease(leader) else {
            return (now, Err(ScaleError::Timeout));
        };
        let deadline = now + lease.remaining.saturating_sub(LEASE_MARGIN);
        let write = self
            .scaler
            .write(target, replicas, resource_version, leader, deadline);
        let result = write.await;
        if let Err(ScaleError::Throttled { retry_after }) = &result {
            let until = self.clock.boottime() + *retry_after;
            self.open_from
                .fetch_max(until.as_micros(), Ordering::Relaxed);
        }
        // A process that was stopped meanwhile; whoever leads now sees the scale, and puts it right.
        if result.is_ok() && self.lease(leader).is_none() {
            self.metrics.scale_writes_late.inc();
        }
        (now, result)
    }

    fn lease(&self, leader: LeaderId) -> Option<Lease> {
        let lease = self.consensus.lease();
        lease.filter(|lease| lease.leader() == leader)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::{BoxFuture, join_all};

    use super::*;
    use crate::clock::SystemClock;
    use crate::scaler::Scale;
    use crate::testing::replicas::Replicas;

    const RETRY_AFTER: Duration = Duration::from_secs(60);

    /// Asks every write to wait, once so many are on their way as may be.
    struct Busy {
        sent: AtomicUsize,
        full: tokio::sync::Barrier,
    }

    impl Scaler for Busy {
        fn read<'a>(&'a self, _: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
            Box::pin(async { Err(ScaleError::NotFound) })
        }

        fn write<'a>(
            &'a self,
            _: &'a TargetRef,
            _: i32,
            _: &'a str,
            _: LeaderId,
            _: Boottime,
        ) -> BoxFuture<'a, Result<Written, ScaleError>> {
            Box::pin(async {
                self.sent.fetch_add(1, Ordering::Relaxed);
                self.full.wait().await;
                let retry_after = RETRY_AFTER;
                Err(ScaleError::Throttled { retry_after })
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_for_its_turn_is_not_sent_once_the_server_asks_to_wait() {
        let replicas = Replicas::formed(1).await;
        let member = replicas.members()[replicas.leader().await].clone();
        let busy = Arc::new(Busy {
            sent: AtomicUsize::new(0),
            full: tokio::sync::Barrier::new(AT_ONCE),
        });
        let turns = Turns::new(
            busy.clone(),
            member.clone(),
            Arc::new(SystemClock),
            Arc::new(Metrics::new()),
        );
        let target = TargetRef::new("ns", "apps/v1", "Deployment", "web");
        let lease = member.lease().expect("it leads");
        let write = |_| turns.write(&target, 2, "1", lease.leader());
        let all = join_all((0..2 * AT_ONCE).map(write));
        let done = tokio::time::timeout(RETRY_AFTER, all).await;
        for (_, result) in done.expect("nothing waits") {
            let Err(ScaleError::Throttled { retry_after }) = result else {
                panic!("{result:?}");
            };
            assert!(retry_after <= RETRY_AFTER && !retry_after.is_zero());
        }
        assert_eq!(busy.sent.load(Ordering::Relaxed), AT_ONCE);
    }
}
