//! Clusters of real members in one process: real disks, real TLS, and a network that can be cut.

// Each test program uses a part of this.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

pub mod address;
pub mod certificates;
pub mod cluster;
pub mod link;
pub mod list;

pub use cluster::{Cluster, Seat};
pub use list::{List, ListView};

/// Prints the log of a failing test where RUST_LOG asks for it.
pub fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}
