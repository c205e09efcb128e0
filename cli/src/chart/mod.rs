//! The chart of a simulation, as SVG: the load above, the replicas below.

mod axis;
mod plot;
mod svg;

pub use plot::{Run, draw};
