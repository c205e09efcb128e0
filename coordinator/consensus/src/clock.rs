//! The one clock that leases need beside tokio's.

use std::time::Duration;

/// Time that goes on while the machine sleeps.
///
/// Timeouts run on tokio's clock (CLOCK_MONOTONIC), which stands still during a suspend. A lease
/// that was counted on it alone would look alive after one; the difference of the two clocks tells.
pub trait Clock: Send + Sync + 'static {
    /// CLOCK_BOOTTIME, or its like in a simulation: never goes back.
    fn boottime(&self) -> Duration;
}

/// CLOCK_BOOTTIME of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn boottime(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The kernel keeps both fields of CLOCK_BOOTTIME at or above zero.
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}
