//! Series: cumulative counters, gauges as integrals, and their recent history.

pub mod ring;
pub mod slot;
pub mod table;
