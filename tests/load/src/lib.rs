//! What the load programs share: percentiles, figures, what a process uses, and a cluster of
//! coordinators that needs no bed.

mod figure;
mod process;
pub mod replicas;
mod tls;

pub use figure::{figure, percentile};
pub use process::{Usage, usage};
pub use tls::install_tls_provider;
