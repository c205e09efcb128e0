//! The command `neap`: tries Neap without a cluster (`neap up`), asks a coordinator about its decisions, rehearses a scaling spec on a recorded
//! load, and hands targets back to plain HPAs. Installed as `kubectl-neap` it is also `kubectl neap`.
//!
//! Nothing is decided here but by the coordinator's own engine; this crate reads, drives and prints.
#![forbid(unsafe_code)]

mod age;
mod answers;
mod args;
mod as_of;
mod cluster;
mod completion;
mod demo;
mod diff;
mod duration;
mod error;
mod explain;
mod get;
mod handback;
mod local;
mod measured;
mod output;
mod reason;
mod run;
mod status;
mod table;
mod top;
mod up;

pub mod chart;
pub mod load;
pub mod simulate;

pub use error::CliError;
pub use run::main;
