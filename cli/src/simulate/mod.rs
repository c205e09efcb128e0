//! `neap simulate`: the engine over a recorded or generated load, without a cluster.

mod args;
mod drive;
mod figures;
mod inputs;
mod need;
mod print;
mod rehearsal;
mod run;
mod stand_in;
mod workload;

pub(crate) use args::SimulateArgs;
pub use drive::{Change, Outcome, Pace, Scenario, Track, simulate};
pub use figures::Figures;
pub use inputs::Input;
pub(crate) use run::run;
pub use workload::PodModel;
