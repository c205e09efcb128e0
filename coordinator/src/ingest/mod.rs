//! Agents' streams: who they are, what they said, and what they are to read.
//!
//! One task per stream. Nothing here decides anything or remembers a value: samples go straight to
//! the [`SignalStore`](crate::signals::SignalStore), and directives come from what the decider wants.

mod binding;
mod directives;
mod figures;
mod join;
mod limits;
mod series;
mod serve;
mod spools;
mod stream;

pub use figures::{IngestCollector, IngestFigures};
pub use join::serve_agents;
pub use limits::{IngestLimits, StreamSlots};
pub use serve::{Addresses, IngestParts, NodeServer, ServeError, serve};
