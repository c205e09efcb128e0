//! The reasons of a decision, as data. Printed by `why_text.rs`.

use std::time::Duration;

use neap_units::{MilliValue, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::ScaleEvent;

/// How a decision came about: each trigger's proposal, then what changed the number on its way.
///
/// [`std::fmt::Display`] prints it in lines for people. Status, events and `neap explain` all
/// print this one structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// When it was decided.
    pub at: Timestamp,
    /// The replicas before.
    pub current: i32,
    /// The replicas decided on.
    pub desired: i32,
    /// Each trigger, in the order of the spec.
    pub triggers: Vec<TriggerWhy>,
    /// What happened to the number, in order.
    pub steps: Vec<Step>,
    /// The next moment at which the same signals could give another number.
    pub next: Option<NextChange>,
}

/// One trigger's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerWhy {
    /// The metric's name.
    pub metric_name: String,
    /// `triggers[].type`.
    pub kind: String,
    /// Whether it counts as active; `None` where the trigger never activates (cpu, memory, pods).
    pub active: Option<bool>,
    /// What came of it.
    pub outcome: TriggerOutcome,
}

/// What came of a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TriggerOutcome {
    /// It proposes replicas.
    Proposed(Proposal),
    /// It could not be read or computed.
    Failed {
        /// The error.
        message: String,
        /// Failures in a row, where they are counted for a fallback.
        failures: u32,
    },
    /// It failed too often and the fallback stands in.
    Fallback {
        /// The error.
        message: String,
        /// Failures in a row.
        failures: u32,
        /// The replicas that stand in.
        replicas: i32,
        /// The number the stand-in value proposes.
        proposal: i32,
    },
    /// Its value is an input of the formula and proposes nothing itself.
    Formula {
        /// The value, `None` where it failed and the formula sees nil.
        value: Option<MilliValue>,
    },
    /// It was not computed: the decision did not need it (paused, at zero, out of bounds).
    NotComputed {
        /// The value, if it has one.
        value: Option<MilliValue>,
    },
}

/// What a trigger proposes and from what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The replicas.
    pub replicas: i32,
    /// What was measured.
    pub value: Measured,
    /// What it should be.
    pub target: Measured,
    /// Value to target. Within the tolerance around 1 the current number is kept. 0 where there are no
    /// replicas to compare with.
    pub ratio: f64,
    /// How the pods were counted, for metrics of pods.
    pub pods: Option<PodCounts>,
    /// Whether the ratio was within the tolerance.
    pub within_tolerance: bool,
    /// The number of the capacity floor, where it raised the proposal.
    pub raised_by_floor: Option<i32>,
    /// Whether a number left its range and was held at the edge, where Go's arithmetic wraps.
    pub saturated: bool,
}

/// A measured or wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// Percent of the requests.
    Utilization(i32),
    /// A mean per pod or per replica.
    Average(MilliValue),
    /// A value as it is.
    Value(MilliValue),
}

/// How pods were counted (`hpa.md` 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCounts {
    /// With a sample that counts.
    pub ready: u32,
    /// Pending, starting or never ready: their samples are dropped.
    pub unready: u32,
    /// Without a sample.
    pub missing: u32,
    /// Failed or being deleted.
    pub ignored: u32,
}

/// One thing that happened to the number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Paused at the current number or at `replicas`.
    Paused {
        /// `paused-replicas`.
        replicas: Option<i32>,
    },
    /// The triggers' proposals came together.
    Aggregated {
        /// The largest proposal.
        replicas: i32,
        /// Index of the trigger that made it; `None` for the formula.
        trigger: Option<usize>,
    },
    /// The formula was computed.
    Formula {
        /// Its value; `None` for nil or an error.
        value: Option<MilliValue>,
        /// Its target.
        target: MilliValue,
        /// The number it proposes.
        replicas: Option<i32>,
        /// The error, if any.
        error: Option<String>,
    },
    /// Some triggers failed: no scale-down, or nothing at all.
    Blocked {
        /// How many failed.
        failed: u32,
        /// Of how many.
        of: u32,
        /// The largest proposal of the others.
        proposal: Option<i32>,
    },
    /// The current number is outside min..max and moves straight to the bound.
    OutOfBounds {
        /// The bound.
        bound: i32,
        /// Which bound.
        side: Bound,
    },
    /// The stabilisation window held the number.
    Stabilized {
        /// The direction that was held back.
        direction: Direction,
        /// The number wanted.
        from: i32,
        /// The number held.
        to: i32,
        /// The recommendation that held it.
        held_by: i32,
        /// When that was made.
        recorded: Timestamp,
        /// The window.
        window: Duration,
    },
    /// A policy limited the change.
    Limited {
        /// The direction.
        direction: Direction,
        /// The number wanted.
        from: i32,
        /// The number allowed.
        to: i32,
        /// The changes within the policies' periods that used up the allowance.
        used: Vec<ScaleEvent>,
    },
    /// The older path (no `behavior`): at most the double, or 4.
    LimitedToDouble {
        /// The number wanted.
        from: i32,
        /// The number allowed.
        to: i32,
    },
    /// min or max cut the number.
    Clamped {
        /// The number wanted.
        from: i32,
        /// The bound.
        to: i32,
        /// Which bound.
        side: Bound,
    },
    /// A direction is paused by annotation or Disabled.
    DirectionPaused {
        /// The direction.
        direction: Direction,
        /// The number wanted.
        from: i32,
    },
    /// The change turns against the last one too soon.
    ReversalHeld {
        /// The direction wanted.
        direction: Direction,
        /// The number wanted.
        from: i32,
        /// When it may turn.
        until: Timestamp,
    },
    /// From zero or idle: some trigger is active.
    Activated {
        /// The number before.
        from: i32,
        /// The number it starts with.
        to: i32,
        /// Whether the annotation forced it.
        forced: bool,
    },
    /// No trigger is active, but the workload stays for now.
    CoolingDown {
        /// When the cooldown ends.
        until: Timestamp,
        /// Whether it is the initial cooldown.
        initial: bool,
    },
    /// No trigger is active: to zero, idle or min.
    Deactivated {
        /// The number before.
        from: i32,
        /// The number after.
        to: i32,
    },
    /// At zero and no trigger is active.
    Resting,
    /// A plain HPA leaves a workload at zero alone.
    DisabledAtZero,
    /// Raised to `minReplicaCount` while inactive.
    RaisedToMin {
        /// The number before.
        from: i32,
        /// min.
        to: i32,
    },
}

/// More or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// More replicas.
    Up,
    /// Fewer replicas.
    Down,
}

/// Which bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// The lower one.
    Min,
    /// The upper one.
    Max,
}

/// The next moment at which time alone can change the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextChange {
    /// When.
    pub at: Timestamp,
    /// What ends then.
    pub cause: NextCause,
}

/// What ends at the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextCause {
    /// A recommendation leaves the stabilisation window.
    Stabilization,
    /// A change leaves a policy's period.
    Policy,
    /// The cooldown.
    Cooldown,
    /// The reversal hold.
    ReversalHold,
    /// A pod leaves its initialisation period.
    PodInitialization,
    /// A rate leaves the window of a capacity floor.
    CapacityFloor,
}
