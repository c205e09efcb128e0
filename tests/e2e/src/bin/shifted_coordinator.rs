//! The coordinator with a wall clock that is wrong: its name's last digit says how. The first is ten minutes ahead, the
//! second ten minutes behind, and the third is right. All else is the coordinator as it is.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use neap_coordinator::clock::{Boottime, Clock, SystemClock};

const OFF: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug)]
struct ShiftedWall {
    by: SignedDuration,
}

impl Clock for ShiftedWall {
    fn boottime(&self) -> Boottime {
        SystemClock.boottime()
    }

    fn wall(&self) -> Timestamp {
        let right = SystemClock.wall();
        right.saturating_add(self.by).unwrap_or(right)
    }

    fn sleep_until(&self, deadline: Boottime) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(deadline)
    }
}

fn main() -> anyhow::Result<()> {
    let name = std::env::var("NEAP_POD_NAME")?;
    let by = match name.rsplit('-').next() {
        Some("0") => OFF,
        Some("1") => -OFF,
        _ => SignedDuration::ZERO,
    };
    Ok(neap_coordinator::process::run(Arc::new(ShiftedWall {
        by,
    }))?)
}
