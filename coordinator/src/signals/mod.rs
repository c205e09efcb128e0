//! What the agents measured: cumulative points in memory, and the one reader of windows.
//!
//! Nothing in here survives the process and nothing needs to: an agent replays its recent points
//! to whoever leads. Absent here: rates (windows are read when they are asked for), any node's
//! wall clock, and any knowledge of what a signal is good for.

mod dirty;
mod key;
mod node;
mod offset;
mod ring;
mod series;
mod spools;
mod store;
#[cfg(test)]
mod store_test;
mod stream;
mod wanted;
mod watches;

pub use dirty::DirtyTargets;
pub use key::{ContainerId, PressureKind, PressureResource, SeriesKey, Signal, Subject};
pub use neap_units::{BootId, NodeName, PodUid};
pub use node::{NodeView, WindowReading};
pub use spools::{Spool, SpoolReading, is_below_any};
pub use store::{SignalError, SignalFigures, SignalLimits, SignalStore};
pub use stream::{Batch, NodeTime, ReplayPoint, StreamWriter};
pub use wanted::{Wanted, WantedSignal, WantedSignals, WantedWatch};
pub use watches::SignalSet;
