//! How many Jobs a ScaledJob starts (`keda-core.md` 2.11): KEDA's four strategies as pure functions.
//!
//! KEDA takes a failed listing of Jobs for none running and starts duplicates; here counts are
//! always given, and without them the caller asks nothing.

use serde::{Deserialize, Serialize};

/// KEDA's `maxReplicaCount` of a ScaledJob that sets none.
const DEFAULT_MAX: i64 = 100;

/// `scalingStrategy`, and the bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobScaling {
    /// `minReplicaCount`.
    pub min_replicas: Option<i32>,
    /// `maxReplicaCount`.
    pub max_replicas: Option<i32>,
    /// `scalingStrategy.strategy`.
    pub strategy: JobStrategy,
    /// `scalingStrategy.multipleScalersCalculation`.
    pub calculation: JobCalculation,
}

/// `scalingStrategy.strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum JobStrategy {
    /// `default`: as many as are asked for, less those that run.
    #[default]
    Default,
    /// `custom`: less a deduction and a share of those that run.
    Custom {
        /// `customScalingQueueLengthDeduction`.
        deduction: i32,
        /// `customScalingRunningJobPercentage`, a share of 1; `None`, where it does not parse, makes
        /// this the default strategy.
        running_share: Option<f64>,
    },
    /// `accurate`: the queue does not hold what is being worked on.
    Accurate,
    /// `eager`: up to the maximum as long as there is work.
    Eager,
}

/// `scalingStrategy.multipleScalersCalculation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobCalculation {
    /// The longest queue among active triggers.
    #[default]
    Max,
    /// The shortest queue among active triggers.
    Min,
    /// The mean over active triggers.
    Avg,
    /// The sum over active triggers.
    Sum,
}

/// What one trigger reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JobTrigger {
    /// The queue's length: the sum of the metric's series.
    pub queue_length: f64,
    /// The target per Job; 0 if there is none.
    pub target: f64,
    /// Whether it is active.
    pub active: bool,
}

/// Jobs of the ScaledJob that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Neither complete nor failed.
    pub running: i64,
    /// Of these, still pending: see [`is_pending`].
    pub pending: i64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDecision {
    /// Whether some trigger is active or a minimum is set.
    pub active: bool,
    /// Jobs asked for by the queue's length, rounded up.
    pub scale_to: i64,
    /// Jobs asked for by queue length to target, rounded up and bounded.
    pub max_scale: i64,
    /// How many to create now.
    pub create: i64,
}

impl JobScaling {
    /// `minReplicaCount`, no more than the maximum.
    #[must_use]
    pub fn min(&self) -> i64 {
        let min = i64::from(self.min_replicas.unwrap_or(0));
        self.max_replicas.map_or(min, |max| min.min(i64::from(max)))
    }

    /// How many Jobs there may be besides the minimum; 100 where no maximum is set, whatever the
    /// minimum. With a minimum above the maximum it is the maximum, as in KEDA.
    #[must_use]
    pub fn room(&self) -> i64 {
        match (self.max_replicas, self.min_replicas) {
            (None, _) => DEFAULT_MAX,
            (Some(max), Some(min)) if min > max => i64::from(max),
            (Some(max), _) => i64::from(max) - self.min(),
        }
    }

    /// Decides how many Jobs to create.
    #[must_use]
    pub fn decide(&self, triggers: &[JobTrigger], jobs: JobCounts) -> JobDecision {
        let room = self.room();
        let (some_active, queue_length, max_value) = self.combine(triggers, room as f64);
        let active = some_active || self.min() > 0;
        let scale_to = queue_length.ceil() as i64;
        let max_scale = max_value.min(room as f64).ceil() as i64;
        let (limit, cap) = if jobs.running < self.min() {
            let missing = self.min() - jobs.running;
            (missing, missing)
        } else {
            self.strategy.limit(
                max_scale,
                jobs.running - self.min(),
                jobs.pending,
                room,
                scale_to,
            )
        };
        let create = if active { cap.min(limit).max(0) } else { 0 };
        JobDecision {
            active,
            scale_to,
            max_scale,
            create,
        }
    }

    /// Puts the triggers together: whether one is active, the queue's length and the Jobs it asks for.
    fn combine(&self, triggers: &[JobTrigger], room: f64) -> (bool, f64, f64) {
        let active = || triggers.iter().filter(|trigger| trigger.active);
        let pair = |trigger: &JobTrigger| (trigger.queue_length, trigger.max_value(room));
        match self.calculation {
            JobCalculation::Max => {
                // Only a queue that is longer than the longest so far counts, so an empty one never.
                let longest = active().fold(None, |best: Option<(f64, f64)>, trigger| {
                    let found = pair(trigger);
                    if found.0 > best.map_or(0.0, |best| best.0) {
                        Some(found)
                    } else {
                        best
                    }
                });
                longest.map_or((false, 0.0, 0.0), |(length, value)| (true, length, value))
            }
            JobCalculation::Min => {
                // As in KEDA an empty queue gives way to whatever comes next.
                let shortest = active().fold(None, |best: Option<(f64, f64)>, trigger| {
                    let found = pair(trigger);
                    match best {
                        Some(best) if best.0 != 0.0 && found.0 >= best.0 => Some(best),
                        _ => Some(found),
                    }
                });
                shortest.map_or((false, 0.0, 0.0), |(length, value)| (true, length, value))
            }
            JobCalculation::Avg | JobCalculation::Sum => {
                let count = active().count();
                let sum = active()
                    .map(pair)
                    .fold((0.0, 0.0), |sum, found| (sum.0 + found.0, sum.1 + found.1));
                let divisor = match self.calculation {
                    JobCalculation::Avg => count.max(1) as f64,
                    _ => 1.0,
                };
                (count > 0, sum.0 / divisor, sum.1 / divisor)
            }
        }
    }
}

impl JobTrigger {
    fn max_value(&self, room: f64) -> f64 {
        if self.target == 0.0 {
            0.0
        } else {
            (self.queue_length / self.target).min(room)
        }
    }
}

impl JobStrategy {
    /// How many may be created at most, and how many the queue asks for.
    fn limit(
        self,
        max_scale: i64,
        running: i64,
        pending: i64,
        room: i64,
        scale_to: i64,
    ) -> (i64, i64) {
        match self {
            Self::Default
            | Self::Custom {
                running_share: None,
                ..
            } => (max_scale - running, scale_to),
            Self::Custom {
                deduction,
                running_share: Some(share),
            } => {
                let taken = (running as f64 * share) as i64;
                (
                    (max_scale - i64::from(deduction) - taken).min(room),
                    scale_to,
                )
            }
            Self::Accurate if max_scale + running - pending > room => (room - running, scale_to),
            Self::Accurate => (max_scale - pending, scale_to),
            Self::Eager => ((room - running - pending).min(max_scale), room),
        }
    }
}

/// One pod of a Job, as far as pending goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobPod<'a> {
    /// Whether its phase is Running or Succeeded.
    pub runs_or_succeeded: bool,
    /// The types of its conditions that are True.
    pub true_conditions: &'a [&'a str],
}

/// Whether an unfinished Job counts as pending: no pod runs or has succeeded; or, with
/// `pendingPodConditions` set, no pod has all of them.
#[must_use]
pub fn is_pending(pods: &[JobPod<'_>], pending_pod_conditions: &[&str]) -> bool {
    if pending_pod_conditions.is_empty() {
        return !pods.iter().any(|pod| pod.runs_or_succeeded);
    }
    let has_all = |pod: &JobPod<'_>| {
        pending_pod_conditions
            .iter()
            .all(|condition| pod.true_conditions.contains(condition))
    };
    !pods.iter().any(has_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(strategy: JobStrategy, max: i32) -> JobScaling {
        JobScaling {
            max_replicas: Some(max),
            strategy,
            ..JobScaling::default()
        }
    }

    fn queue(length: f64) -> JobTrigger {
        JobTrigger {
            queue_length: length,
            target: 1.0,
            active: length > 0.0,
        }
    }

    fn create(scaling: &JobScaling, length: f64, running: i64, pending: i64) -> i64 {
        scaling
            .decide(&[queue(length)], JobCounts { running, pending })
            .create
    }

    #[test]
    fn the_four_strategies() {
        let default = scaling(JobStrategy::Default, 10);
        assert_eq!(create(&default, 5.0, 2, 0), 3);
        assert_eq!(create(&default, 5.0, 7, 0), 0);
        assert_eq!(create(&default, 50.0, 4, 0), 6);

        let custom = JobStrategy::Custom {
            deduction: 1,
            running_share: Some(0.5),
        };
        assert_eq!(create(&scaling(custom, 10), 8.0, 4, 0), 5);
        let invalid = JobStrategy::Custom {
            deduction: 1,
            running_share: None,
        };
        assert_eq!(create(&scaling(invalid, 10), 8.0, 4, 0), 4);

        let accurate = scaling(JobStrategy::Accurate, 10);
        assert_eq!(create(&accurate, 3.0, 4, 1), 2);
        assert_eq!(create(&accurate, 9.0, 4, 1), 6);

        let eager = scaling(JobStrategy::Eager, 10);
        assert_eq!(create(&eager, 3.0, 4, 1), 3);
        assert_eq!(create(&eager, 9.0, 4, 1), 5);
    }

    #[test]
    fn the_minimum_comes_first_and_is_outside_the_room() {
        let mut scaling = scaling(JobStrategy::Default, 10);
        scaling.min_replicas = Some(3);
        let none = scaling.decide(&[queue(0.0)], JobCounts::default());
        assert_eq!((none.active, none.create), (true, 3));
        assert_eq!(scaling.room(), 7);
        assert_eq!(create(&scaling, 20.0, 3, 0), 7);
        scaling.max_replicas = None;
        assert_eq!(scaling.room(), 100, "not less the minimum");
        scaling.max_replicas = Some(2);
        assert_eq!((scaling.min(), scaling.room()), (2, 2));
    }

    #[test]
    fn several_triggers() {
        let triggers = [
            JobTrigger {
                queue_length: 4.0,
                target: 2.0,
                active: true,
            },
            JobTrigger {
                queue_length: 9.0,
                target: 3.0,
                active: true,
            },
            JobTrigger {
                queue_length: 90.0,
                target: 3.0,
                active: false,
            },
        ];
        let scale = |calculation| {
            let scaling = JobScaling {
                calculation,
                ..JobScaling::default()
            };
            let decision = scaling.decide(&triggers, JobCounts::default());
            (decision.scale_to, decision.max_scale)
        };
        assert_eq!(scale(JobCalculation::Max), (9, 3));
        assert_eq!(scale(JobCalculation::Min), (4, 2));
        assert_eq!(scale(JobCalculation::Avg), (7, 3));
        assert_eq!(scale(JobCalculation::Sum), (13, 5));
    }

    #[test]
    fn nothing_is_created_while_no_trigger_is_active() {
        let idle = JobTrigger {
            queue_length: 5.0,
            target: 1.0,
            active: false,
        };
        let decision = JobScaling::default().decide(&[idle], JobCounts::default());
        assert_eq!((decision.active, decision.create), (false, 0));
    }

    #[test]
    fn pending_by_phase_or_by_conditions() {
        let pod = |runs_or_succeeded, true_conditions| JobPod {
            runs_or_succeeded,
            true_conditions,
        };
        assert!(is_pending(&[], &[]));
        assert!(is_pending(&[pod(false, &["Ready"])], &[]));
        assert!(!is_pending(&[pod(false, &[]), pod(true, &[])], &[]));
        let conditions = ["Ready", "PodScheduled"];
        assert!(is_pending(
            &[pod(true, &["Ready"]), pod(true, &["PodScheduled"])],
            &conditions
        ));
        assert!(!is_pending(
            &[pod(false, &["PodScheduled", "Ready"])],
            &conditions
        ));
    }
}
