//! What the load programs share: percentiles, figures, and what a process uses.

mod figure;
mod process;

pub use figure::{figure, percentile};
pub use process::{Usage, usage};
