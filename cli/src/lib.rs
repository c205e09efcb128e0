//! The command `neap`: asks a coordinator about its decisions, rehearses a scaling spec on a recorded
//! load, and hands targets back to plain HPAs. Installed as `kubectl-neap` it is also `kubectl neap`.
//!
//! Nothing is decided here but by the coordinator's own engine; this crate reads, drives and prints.
#![forbid(unsafe_code)]

mod age;
mod answers;
mod args;
mod cluster;
mod completion;
mod duration;
mod error;
mod explain;
mod get;
mod handback;
mod manifest;
mod measured;
mod output;
mod reason;
mod run;
mod status;
mod table;

pub mod chart;
pub mod load;
pub mod simulate;

pub use error::CliError;
pub use run::main;
