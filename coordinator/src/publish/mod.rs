//! What the world gets to see: status, events, explanations, figures.
//!
//! All of it comes from the engine's one `Evaluation`; nobody reconstructs reasons.

mod desk;
mod explain;
mod history;
mod http;
pub mod kube;
mod list;
pub mod local;
mod merge;
mod port;
mod series;
mod share;
mod status;
mod summary;
mod table;
mod top;
mod top_query;

pub use desk::Desk;
pub use explain::{Explain, Latest};
pub use history::History;
pub(crate) use history::HistoryDisk;
pub(crate) use http::figures;
pub use http::{HttpState, router};
pub use port::{EventNote, EventSeverity, PublishError, Publisher};
pub(crate) use share::Sharing;
pub use status::{Report, Verdict};
pub use summary::{Summary, TriggerSummary};
pub use table::LeaderTable;
