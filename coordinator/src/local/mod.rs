//! Running the workloads of a folder as processes of this machine: what a kubelet, its controllers and
//! kube-proxy do in a cluster, as far as it takes to try Neap (`neap up`).
//!
//! ```text
//! source::folder ──▶ objects ──▶ supervisor ──▶ pods (spawn, probe, environment)
//!                      ▲             │  └──────▶ forward (Services)
//! scaler::local ───────┘             └─▶ world (pods and targets)
//! ```
//!
//! Absent here: any decision. Everything above the ports is what runs in a cluster.

mod environment;
mod forward;
mod groups;
mod journal;
mod lock;
mod objects;
mod pod;
mod probe;
mod report;
mod run;
mod spawn;
mod supervisor;
mod workload;

pub use groups::CGROUPS;
pub use objects::{LocalObjects, Scaled};
pub use report::{Fault, Place, ReplicaChange, Report, Reports};
pub use run::{LocalConfig, LocalCoordinator, UpError};
pub use supervisor::RunningPod;
pub(crate) use supervisor::stable_uid;
pub use workload::{Parts, Refusal, Workload, WorkloadId, WorkloadKind};

/// The name of the one node.
pub const NODE: &str = "local";
