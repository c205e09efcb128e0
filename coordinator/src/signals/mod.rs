//! What the agents measured: cumulative points in memory, and the one reader of windows.
//!
//! Nothing in here survives the process and nothing needs to: an agent replays its recent points
//! to whoever leads.

mod key;
mod wanted;

pub use key::{ContainerId, PressureKind, PressureResource, SeriesKey, Signal, Subject};
pub use wanted::{Wanted, WantedSignal, WantedSignals, WantedWatch};
