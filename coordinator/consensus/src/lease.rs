//! How long this member is certain to lead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Timings;
use crate::leadership::Lease;
use crate::position::LeaderId;

/// The clocks may drift this much against each other while a lease runs: a twentieth of it, far
/// above what a quartz does, for the sake of a slewing NTP.
const DRIFT_SHARE: u32 = 20;
/// Boottime may run ahead of the monotonic clock by this much before the machine counts as having
/// slept: the two are read one after the other.
const SLEEP_TOLERANCE: Duration = Duration::from_millis(10);

/// What is left of the lease of the only voter, at any time. Nobody else can lead while its requests
/// are on their way, so an API server that is slow need not be given up after a fraction of a second.
const ALONE: Duration = Duration::from_secs(2);

/// Keeps the lease of one member. Reading takes no lock.
pub(crate) struct LeaseKeeper {
    held: ArcSwapOption<Held>,
    /// Leaderships up to this term were given away; their leases are void for good.
    given_up: AtomicU64,
    length: Duration,
    epoch: Instant,
    /// When the offset of the clocks was looked at, and what it was; the last few times.
    offsets: Mutex<VecDeque<(Instant, Duration)>>,
}

/// Together they reach back over two leases, however often is looked.
const OFFSETS: usize = 64;
/// An offset that has not changed is noted at most once in this time.
const SPACING: Duration = Duration::from_millis(20);

struct Held {
    leader: LeaderId,
    /// When the messages were sent that a majority has acknowledged; `None` for the only voter,
    /// whose lease never ends.
    acknowledged: Option<Instant>,
    /// How far boottime was ahead of the monotonic clock when those messages were sent, or sooner.
    ahead: Duration,
}

impl LeaseKeeper {
    pub(crate) fn new(timings: &Timings) -> Self {
        Self {
            held: ArcSwapOption::empty(),
            given_up: AtomicU64::new(0),
            length: timings.election_max - timings.election_max / DRIFT_SHARE,
            epoch: Instant::now(),
            offsets: Mutex::default(),
        }
    }

    /// How far boottime has run ahead of the monotonic clock, from an arbitrary origin.
    fn ahead(&self, clock: &dyn Clock) -> Duration {
        clock.boottime().saturating_sub(self.epoch.elapsed())
    }

    /// This member leads as `leader`; a majority acknowledged what it sent at `acknowledged`, or it
    /// is the only voter.
    pub(crate) fn hold(&self, leader: LeaderId, acknowledged: Option<Instant>, clock: &dyn Clock) {
        let ahead = self.offset_at(acknowledged, self.ahead(clock));
        let held = Held {
            leader,
            acknowledged,
            ahead,
        };
        self.held.store(Some(Arc::new(held)));
    }

    /// Notes the present offset, and gives the one of time `at`: a sleep between the sending of a
    /// message and the arrival of its acknowledgement must count against the lease.
    fn offset_at(&self, at: Option<Instant>, present: Duration) -> Duration {
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = offsets.back().is_some_and(|(looked, offset)| {
            looked.elapsed() < SPACING && offset.abs_diff(present) <= SLEEP_TOLERANCE
        });
        if !known {
            if offsets.len() == OFFSETS {
                offsets.pop_front();
            }
            offsets.push_back((Instant::now(), present));
        }
        let before = |at: Instant| {
            let sooner = offsets.iter().rev().find(|(looked, _)| *looked < at);
            sooner.or(offsets.front()).map(|(_, offset)| *offset)
        };
        at.and_then(before).unwrap_or(present)
    }

    /// Notes the present offset of the clocks. Called at every change in raft, so that one was noted
    /// shortly before a new leader sends its first message.
    pub(crate) fn note(&self, clock: &dyn Clock) {
        self.offset_at(None, self.ahead(clock));
    }

    /// This member does not lead.
    pub(crate) fn clear(&self) {
        self.held.store(None);
    }

    /// Gives up the leadership of `term`: its successor may be elected from now on.
    pub(crate) fn give_up(&self, term: u64) {
        self.given_up.fetch_max(term, Ordering::SeqCst);
    }

    /// Whether the leadership of `term` was given up.
    pub(crate) fn is_given_up(&self, term: u64) -> bool {
        term <= self.given_up.load(Ordering::SeqCst)
    }

    /// The lease, if there is one.
    pub(crate) fn get(&self, clock: &dyn Clock) -> Option<Lease> {
        let held = self.held.load();
        let held = held.as_ref()?;
        if self.is_given_up(held.leader.term) {
            return None;
        }
        let remaining = match held.acknowledged {
            None => self.length.max(ALONE),
            Some(at) => {
                let slept = self.ahead(clock).saturating_sub(held.ahead);
                if slept > SLEEP_TOLERANCE {
                    return None;
                }
                self.length.checked_sub(at.elapsed())?
            }
        };
        (!remaining.is_zero()).then_some(Lease {
            term: held.leader.term,
            node: held.leader.node,
            remaining,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::NodeId;

    struct Boot {
        start: Instant,
        slept: Mutex<Duration>,
    }

    impl Clock for Boot {
        fn boottime(&self) -> Duration {
            self.start.elapsed() + *self.slept.lock().unwrap()
        }
    }

    fn keeper() -> (LeaseKeeper, Boot) {
        let boot = Boot {
            start: Instant::now(),
            slept: Mutex::default(),
        };
        (LeaseKeeper::new(&Timings::default()), boot)
    }

    const LEADER: LeaderId = LeaderId {
        term: 3,
        node: NodeId(1),
    };

    #[tokio::test(start_paused = true)]
    async fn a_lease_runs_from_the_acknowledged_message_less_the_margin() {
        let (keeper, boot) = keeper();
        assert_eq!(keeper.get(&boot), None);
        keeper.hold(LEADER, Some(Instant::now()), &boot);
        tokio::time::advance(Duration::from_millis(500)).await;
        let lease = keeper.get(&boot).unwrap();
        assert_eq!(
            (lease.leader(), lease.remaining),
            (LEADER, Duration::from_millis(70))
        );
        tokio::time::advance(Duration::from_millis(70)).await;
        assert_eq!(keeper.get(&boot), None);
        keeper.hold(LEADER, Some(Instant::now()), &boot);
        assert!(keeper.get(&boot).is_some());
        keeper.clear();
        assert_eq!(keeper.get(&boot), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leadership_that_was_given_up_never_has_a_lease_again() {
        let (keeper, boot) = keeper();
        keeper.hold(LEADER, Some(Instant::now()), &boot);
        keeper.give_up(LEADER.term);
        assert_eq!(keeper.get(&boot), None);
        keeper.hold(LEADER, Some(Instant::now()), &boot);
        assert_eq!(keeper.get(&boot), None);
        let next = LeaderId { term: 4, ..LEADER };
        keeper.hold(next, Some(Instant::now()), &boot);
        assert_eq!(keeper.get(&boot).unwrap().leader(), next);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_has_no_lease_until_it_is_acknowledged_anew() {
        let (keeper, boot) = keeper();
        let acknowledged = Instant::now();
        keeper.hold(LEADER, Some(acknowledged), &boot);
        tokio::time::advance(Duration::from_millis(5)).await;
        let sent_before = Instant::now();
        *boot.slept.lock().unwrap() = Duration::from_secs(30);
        assert_eq!(keeper.get(&boot), None);
        // Acknowledged after the sleep, sent before it.
        keeper.hold(LEADER, Some(sent_before), &boot);
        assert_eq!(keeper.get(&boot), None);
        tokio::time::advance(Duration::from_millis(5)).await;
        keeper.hold(LEADER, Some(Instant::now()), &boot);
        assert!(keeper.get(&boot).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_noticed_however_often_is_looked() {
        let (keeper, boot) = keeper();
        keeper.note(&boot);
        tokio::time::advance(Duration::from_millis(5)).await;
        let sent = Instant::now();
        *boot.slept.lock().unwrap() = Duration::from_secs(30);
        for _ in 0..10 * OFFSETS {
            tokio::time::advance(Duration::from_micros(100)).await;
            keeper.note(&boot);
        }
        keeper.hold(LEADER, Some(sent), &boot);
        assert_eq!(keeper.get(&boot), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_voter_keeps_its_lease() {
        let (keeper, boot) = keeper();
        keeper.hold(LEADER, None, &boot);
        tokio::time::advance(Duration::from_secs(60)).await;
        *boot.slept.lock().unwrap() = Duration::from_secs(60);
        assert_eq!(keeper.get(&boot).unwrap().remaining, ALONE);
    }
}
