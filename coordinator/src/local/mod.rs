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
mod ids;
mod journal;
mod lock;
mod logs;
mod objects;
mod pod;
mod probe;
mod replica;
mod report;
mod run;
mod shown;
mod spawn;
mod supervisor;
mod workload;

pub use groups::CGROUPS;
pub(crate) use ids::stable_uid;
pub use objects::{LocalObjects, Scaled};
pub use replica::RunningPod;
pub use report::{Fault, Place, ReplicaChange, Report, Reports};
pub use run::{LocalConfig, LocalCoordinator, UpError};
pub use workload::{Parts, Refusal, Workload, WorkloadId, WorkloadKind};

/// The name of the one node.
pub const NODE: &str = "local";
