//! What the world gets to see: status, events, explanations.

mod port;

pub use port::{EventNote, EventSeverity, PublishError, Publisher};
