//! The last changes of replicas that were decided, for people who ask why: in memory, and on each
//! replica's own disk, so that neither a change of the leader nor a restart loses them.
//!
//! Outside the log: a change that a replica was not told of is missing here, and a gap is noted.

mod change;
mod file;
mod kept;
mod writer;

pub(super) use change::{Change, ChangeRow};
pub use kept::History;
pub(crate) use writer::HistoryDisk;
