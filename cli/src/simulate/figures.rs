//! What a simulation adds up to.

use std::time::Duration;

use serde::Serialize;

/// The figures of one simulation. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The time simulated.
    pub seconds: f64,
    /// Pods times the seconds they existed.
    pub replica_seconds: f64,
    /// Seconds in which fewer pods were ready than the load needed; absent where what it needs is
    /// not known.
    pub under_provisioned_seconds: Option<f64>,
    /// Pods that were missing times the seconds they were.
    pub missing_replica_seconds: Option<f64>,
    /// Pods beyond what the load needed times the seconds they existed.
    pub surplus_replica_seconds: Option<f64>,
    /// Changes to more replicas.
    pub changes_up: u64,
    /// Changes to fewer replicas.
    pub changes_down: u64,
    /// Fewest replicas.
    pub least: i32,
    /// Replicas on average.
    pub mean: f64,
    /// Most replicas.
    pub most: i32,
    /// Seconds without replicas.
    pub zero_seconds: f64,
    /// Seconds at the most that the spec allows.
    pub at_max_seconds: f64,
    /// Evaluations of the engine.
    pub decisions: u64,
}

/// Adds up what holds over stretches of time, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Sums {
    time: u64,
    replicas: i128,
    under: u64,
    missing: i128,
    surplus: i128,
    known: u64,
    zero: u64,
    at_max: u64,
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) decisions: u64,
    bounds: Option<(i32, i32)>,
}

impl Sums {
    /// `replicas` pods, `ready` of them ready, while `needed` were, for `time`.
    pub(super) fn hold(
        &mut self,
        replicas: i32,
        ready: i32,
        needed: Option<i32>,
        max: i32,
        time: Duration,
    ) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return;
        }
        self.time += millis;
        let over_time = |count: i32| i128::from(count) * i128::from(millis);
        self.replicas += over_time(replicas);
        let (least, most) = self.bounds.unwrap_or((replicas, replicas));
        self.bounds = Some((least.min(replicas), most.max(replicas)));
        if replicas == 0 {
            self.zero += millis;
        }
        if replicas >= max {
            self.at_max += millis;
        }
        let Some(needed) = needed else { return };
        self.known += millis;
        if ready < needed {
            self.under += millis;
            self.missing += over_time(needed - ready);
        }
        self.surplus += over_time((replicas - needed).max(0));
    }

    pub(super) fn figures(&self) -> Figures {
        let seconds = |millis: u64| millis as f64 / 1000.0;
        let known = |figure: f64| (self.known > 0).then_some(figure);
        let (least, most) = self.bounds.unwrap_or_default();
        Figures {
            seconds: seconds(self.time),
            replica_seconds: self.replicas as f64 / 1000.0,
            under_provisioned_seconds: known(seconds(self.under)),
            missing_replica_seconds: known(self.missing as f64 / 1000.0),
            surplus_replica_seconds: known(self.surplus as f64 / 1000.0),
            changes_up: self.up,
            changes_down: self.down,
            least,
            mean: if self.time == 0 {
                0.0
            } else {
                self.replicas as f64 / self.time as f64
            },
            most,
            zero_seconds: seconds(self.zero),
            at_max_seconds: seconds(self.at_max),
            decisions: self.decisions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_add_up() {
        let mut sums = Sums::default();
        let seconds = Duration::from_secs;
        sums.hold(0, 0, Some(0), 4, seconds(60));
        sums.hold(2, 1, Some(3), 4, seconds(10));
        sums.hold(4, 4, Some(3), 4, seconds(30));
        sums.hold(4, 4, None, 4, seconds(0));
        let figures = sums.figures();
        assert_eq!(figures.seconds, 100.0);
        assert_eq!(figures.replica_seconds, 140.0);
        assert_eq!(figures.under_provisioned_seconds, Some(10.0));
        assert_eq!(figures.missing_replica_seconds, Some(20.0));
        assert_eq!(figures.surplus_replica_seconds, Some(30.0));
        assert_eq!((figures.least, figures.mean, figures.most), (0, 1.4, 4));
        assert_eq!((figures.zero_seconds, figures.at_max_seconds), (60.0, 30.0));
        let mut unknown = Sums::default();
        unknown.hold(1, 1, None, 4, seconds(5));
        assert_eq!(unknown.figures().under_provisioned_seconds, None);
    }
}
