//! The agent of a node: reads what its kernel counts for the pods it runs, and streams it to the
//! coordinator.
//!
//! ```text
//! cgroup::tree ──pods──▶ sampler ──series::table──▶ session ══gRPC══▶ coordinator
//!                          ▲  ▲                        │
//!  cgroup::file, node ─────┘  └──────directives────────┘
//!  net::accept_queue, spool
//! ```
//!
//! The sampler is one thread that reads and never waits for the network; the sessions are tasks
//! that never read the node. Between them lies a bounded queue one way and a mailbox the
//! other.

pub mod cgroup;
pub mod clock;
pub mod config;
pub mod directives;
pub mod http;
pub mod local;
pub mod metrics;
pub mod net;
pub mod node;
pub mod process;
pub mod psi_trigger;
mod run;
pub mod sampler;
pub mod series;
pub mod session;
pub mod spool;

pub use config::Config;
pub use run::{Error, Local, run, run_local};
