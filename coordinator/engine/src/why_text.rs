//! Why, in lines that a person reads.

use std::fmt;
use std::time::Duration;

use neap_units::Timestamp;

use crate::why::{
    Bound, Direction, Measured, NextCause, Proposal, Step, TriggerOutcome, TriggerWhy, Why,
};

impl fmt::Display for Why {
    /// One line for the outcome, one per trigger, one per step, one for what comes next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.desired.cmp(&self.current) {
            std::cmp::Ordering::Equal => write!(f, "stays at {} replicas", self.current)?,
            std::cmp::Ordering::Greater => {
                write!(f, "up from {} to {} replicas", self.current, self.desired)?;
            }
            std::cmp::Ordering::Less => {
                write!(f, "down from {} to {} replicas", self.current, self.desired)?;
            }
        }
        for trigger in &self.triggers {
            write!(f, "\n  trigger {trigger}")?;
        }
        for step in &self.steps {
            f.write_str("\n  ")?;
            self.step(f, step)?;
        }
        if let Some(next) = self.next {
            let cause = match next.cause {
                NextCause::Stabilization => "a recommendation leaves the stabilisation window",
                NextCause::Policy => "a change leaves a policy's period",
                NextCause::Cooldown => "the cooldown ends",
                NextCause::ReversalHold => "the reversal hold ends",
                NextCause::PodInitialization => "a starting pod begins to count",
                NextCause::CapacityFloor => "the best rate leaves its window",
            };
            write!(
                f,
                "\n  next possible change {}: {cause}",
                In(self.at, next.at)
            )?;
        }
        Ok(())
    }
}

/// A moment, told from another.
struct In(Timestamp, Timestamp);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(now, at) = *self;
        if at > now {
            write!(f, "in {}", Seconds(at.since(now)))
        } else {
            write!(f, "{} ago", Seconds(now.since(at)))
        }
    }
}

/// A duration in seconds, with a tenth where it matters.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) || millis >= 60_000 {
            write!(f, "{} s", millis / 1000)
        } else {
            write!(f, "{}.{} s", millis / 1000, millis % 1000 / 100)
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utilization(percent) => write!(f, "{percent} %"),
            Self::Average(value) => write!(f, "{value} each"),
            Self::Value(value) => write!(f, "{value}"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for TriggerWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.metric_name, self.kind)?;
        match &self.outcome {
            TriggerOutcome::Proposed(proposal) => write!(f, "{proposal}")?,
            TriggerOutcome::Failed {
                message,
                failures: 0,
            } => write!(f, "failed: {message}")?,
            TriggerOutcome::Failed { message, failures } => {
                write!(f, "failed {failures} times in a row: {message}")?;
            }
            TriggerOutcome::Fallback {
                message,
                failures,
                replicas,
                proposal,
            } => write!(
                f,
                "failed {failures} times in a row ({message}); the fallback of {replicas} stands \
                 in and proposes {proposal}"
            )?,
            TriggerOutcome::Formula { value: Some(value) } => {
                write!(f, "value {value}, an input of the formula")?;
            }
            TriggerOutcome::Formula { value: None } => {
                f.write_str("failed; the formula sees nil")?;
            }
            TriggerOutcome::NotComputed { value: Some(value) } => {
                write!(f, "value {value}, not needed")?;
            }
            TriggerOutcome::NotComputed { value: None } => f.write_str("not needed")?,
        }
        match self.active {
            Some(true) => f.write_str("; active"),
            Some(false) => f.write_str("; not active"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} against a target of {}", self.value, self.target)?;
        if let Some(pods) = self.pods {
            write!(f, ", {} pods counted", pods.ready)?;
            let others = [
                (pods.unready, "unready"),
                (pods.missing, "missing"),
                (pods.ignored, "ignored"),
            ];
            for (count, name) in others.into_iter().filter(|(count, _)| *count > 0) {
                write!(f, ", {count} {name}")?;
            }
        }
        write!(f, ": proposes {}", self.replicas)?;
        if self.within_tolerance {
            f.write_str(" (within the tolerance)")?;
        }
        if self.raised_by_floor.is_some() {
            f.write_str(" (as many as the arrivals need at the best rate seen)")?;
        }
        if self.saturated {
            f.write_str(" (a number left its range and was held at the edge)")?;
        }
        Ok(())
    }
}

impl Why {
    fn step(&self, f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
        match step {
            Step::Paused { replicas: None } => f.write_str("paused"),
            Step::Paused {
                replicas: Some(replicas),
            } => write!(f, "paused at {replicas}"),
            Step::Aggregated { replicas, trigger } => {
                write!(f, "largest proposal {replicas}")?;
                let name = trigger.and_then(|index| self.triggers.get(index));
                name.map_or(Ok(()), |trigger| write!(f, ", by {}", trigger.metric_name))
            }
            Step::Formula {
                value,
                target,
                replicas,
                error,
            } => {
                f.write_str("formula: ")?;
                match (value, replicas, error) {
                    (_, _, Some(error)) => f.write_str(error),
                    (Some(value), Some(replicas), None) => {
                        write!(
                            f,
                            "{value} against a target of {target}: proposes {replicas}"
                        )
                    }
                    _ => f.write_str("no value"),
                }
            }
            Step::Blocked {
                failed,
                of,
                proposal: None,
            } => {
                write!(f, "{failed} of {of} metrics failed: nothing is changed")
            }
            Step::Blocked {
                failed,
                of,
                proposal: Some(proposal),
            } => write!(
                f,
                "{failed} of {of} metrics failed: not down to {proposal} on the others' word"
            ),
            Step::OutOfBounds { bound, side } => write!(
                f,
                "{} the {} of {bound}: straight there",
                if *side == Bound::Max {
                    "above"
                } else {
                    "below"
                },
                name(*side)
            ),
            Step::Stabilized {
                direction,
                from,
                to,
                held_by,
                recorded,
                window,
            } => write!(
                f,
                "stabilisation holds {to} instead of {from}: {} s ago {held_by} was recommended, \
                 window for {direction} {}",
                self.at.since(*recorded).as_secs(),
                Seconds(*window)
            ),
            Step::Limited {
                direction,
                from,
                to,
                used,
            } => {
                write!(f, "policy for {direction} allows {to} instead of {from}")?;
                let sign = if *direction == Direction::Up {
                    '+'
                } else {
                    '-'
                };
                for event in used {
                    write!(
                        f,
                        "; {sign}{} {} s ago",
                        event.delta,
                        self.at.since(event.at).as_secs()
                    )?;
                }
                Ok(())
            }
            Step::LimitedToDouble { from, to } => {
                write!(
                    f,
                    "at most twice the replicas (at least 4): {to} instead of {from}"
                )
            }
            Step::Clamped { from, to, side } => {
                write!(f, "the {} allows {to} instead of {from}", name(*side))
            }
            Step::DirectionPaused { direction, from } => {
                write!(f, "{direction} to {from} is disabled or paused")
            }
            Step::ReversalHeld {
                direction,
                from,
                until,
            } => write!(
                f,
                "{direction} to {from} would turn against the last change or be noise: held, next \
                 {}",
                In(self.at, *until)
            ),
            Step::Activated {
                from,
                to,
                forced: false,
            } => {
                write!(f, "activated: from {from} to at least {to}")
            }
            Step::Activated {
                from,
                to,
                forced: true,
            } => {
                write!(f, "activated by annotation: from {from} to at least {to}")
            }
            Step::CoolingDown {
                until,
                initial: false,
            } => {
                write!(
                    f,
                    "no trigger is active; the cooldown ends {}",
                    In(self.at, *until)
                )
            }
            Step::CoolingDown {
                until,
                initial: true,
            } => write!(
                f,
                "no trigger was ever active; the initial cooldown ends {}",
                In(self.at, *until)
            ),
            Step::Deactivated { from, to } => {
                write!(f, "no trigger is active: from {from} straight to {to}")
            }
            Step::Resting => f.write_str("no trigger is active: it rests"),
            Step::DisabledAtZero => f.write_str("at zero a plain HPA does nothing"),
            Step::RaisedToMin { from, to } => {
                write!(f, "no trigger is active: from {from} up to the min of {to}")
            }
        }
    }
}

fn name(side: Bound) -> &'static str {
    match side {
        Bound::Min => "min",
        Bound::Max => "max",
    }
}
