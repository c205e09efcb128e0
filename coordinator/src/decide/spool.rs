//! Files that wait in directories of the nodes, for `node-spool` triggers.

use std::time::Duration;

use neap_triggers::Source;
use neap_units::Timestamp;

use super::compile::Compiled;
use crate::signals::{Spool, SpoolReading};

/// How often a spool without a number is looked at again, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a spool has no number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFiles {
    pub(super) message: String,
    /// Whether it is a failure of the trigger's, as against agents that are on their way.
    pub(super) counts: bool,
    /// When it failed: once per polling interval, as the failures of a polled source.
    pub(super) at: Timestamp,
    /// When to look again.
    pub(super) again: Duration,
}

/// The spool of a source.
pub(super) fn of(source: &neap_triggers::Spool) -> Spool {
    Spool {
        path: source.path.clone(),
        max_age: source.max_age,
    }
}

/// The directories that a target reads.
pub(super) fn wanted(compiled: &Compiled) -> Vec<Spool> {
    let mut spools: Vec<Spool> = compiled
        .triggers
        .iter()
        .filter_map(|trigger| match &trigger.source {
            Source::Spool(source) => Some(of(source)),
            _ => None,
        })
        .collect();
    spools.sort_unstable();
    spools.dedup();
    spools
}

/// The files that wait. `runs`: the target has pods, which a number that may lack the half could
/// cost their lives; one at zero is woken by any.
pub(super) fn files(
    reading: &SpoolReading,
    path: &str,
    runs: bool,
    polling_interval: Duration,
    now: Timestamp,
) -> Result<u64, NoFiles> {
    if reading.settling && runs {
        return Err(NoFiles {
            message: "agents are still on their way".to_owned(),
            counts: false,
            at: now,
            again: LOOK_AGAIN,
        });
    }
    let Some(message) = reading.failure(path) else {
        return Ok(reading.files);
    };
    let counts = reading.pending == 0 && !reading.settling;
    let interval = i64::try_from(polling_interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let attempt = now.as_millis().div_euclid(interval) * interval;
    Err(NoFiles {
        message,
        counts,
        at: if counts {
            Timestamp::from_millis(attempt)
        } else {
            now
        },
        again: LOOK_AGAIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn read(reading: &SpoolReading, runs: bool, now: Timestamp) -> Result<u64, NoFiles> {
        files(reading, "/spool", runs, INTERVAL, now)
    }

    #[test]
    fn a_number_that_may_lack_the_half_wakes_and_does_not_shrink() {
        let settling = SpoolReading {
            files: 3,
            nodes: 1,
            settling: true,
            ..SpoolReading::default()
        };
        assert_eq!(read(&settling, false, at(1)), Ok(3));
        let none = read(&settling, true, at(1)).unwrap_err();
        assert!(!none.counts && none.message.contains("on their way"));
        let settled = SpoolReading {
            settling: false,
            ..settling
        };
        assert_eq!(read(&settled, true, at(1)), Ok(3));
    }

    #[test]
    fn a_failure_counts_once_per_polling_interval() {
        let forbidden = SpoolReading {
            forbidden: 2,
            ..SpoolReading::default()
        };
        let when = |seconds| read(&forbidden, true, at(seconds)).unwrap_err().at;
        assert_eq!((when(31), when(59), when(60)), (at(30), at(30), at(60)));
        assert_eq!(when(-1), at(-30));
        let pending = SpoolReading {
            pending: 1,
            ..SpoolReading::default()
        };
        assert!(!read(&pending, true, at(31)).unwrap_err().counts);
        assert!(read(&forbidden, true, at(31)).unwrap_err().counts);
    }
}
