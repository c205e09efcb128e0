//! What the end-to-end tests share: the bed they run against, objects to apply, load to drive,
//! the API server's audit log as the witness of what was written and when.
//!
//! The tests themselves are in `tests/`, marked `ignore` because they need a bed:
//! `tests/run main-path` starts one, installs the chart and runs them.

mod audit;
mod bed;
mod coordinators;
mod driver;
mod fleet;
mod objects;
mod wait;

pub use audit::{Audit, ScaleWrite, Write};
pub use bed::{Bed, NEAP};
pub use coordinators::{COORDINATOR, Coordinator, Cut};
pub use driver::{Load, LoadReport, drive};
pub use objects::{Workload, podless, scaled_object, service};
pub use wait::{Probe, until, within};
