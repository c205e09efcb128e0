//! Deciding: one ScaledObject is one target, and one task decides for all of them.
//!
//! ```text
//! world changes ─┐                                       ┌─ status, events (publish)
//! signals dirty ─┼─> due targets ─> evaluate ─> commit ──┼─> scale writes
//! poll answers  ─┤   (one tick)      (engine)   (one     └─ explain
//! deadlines     ─┘                               entry)
//! ```
//!
//! Invariants: nothing is scaled without a lease, an observed resource version and a committed state (but for
//! the step out of zero, which goes out together with its commit); states that no write waits for
//! are committed together once a second; a follower keeps everything warm and decides nothing.
//! Absent here: any way to read a cluster or a clock of its own.

mod behavior;
mod compile;
mod decider;
mod due;
mod follow;
mod gather;
#[cfg(test)]
mod leadership_test;
mod node_local;
mod outcome;
mod pods;
mod references;
mod replicated;
mod spool;
mod target;
mod tick;
mod time;
mod turns;
mod wanted;
mod writes;

pub use compile::{CompileInput, Compiled, Invalid, Targets, compile};
pub use decider::{DecideSettings, Decider, Parts};
pub(crate) use node_local::used;
pub use references::References;
pub use replicated::{Command, DecisionMachine, DecisionTable, FORMAT, TargetRecord};
pub use time::{DecisionClock, Opened, TimeAnchor};
