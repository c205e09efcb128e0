//! Spools: directories of the node in which files wait to be worked on.

mod count;
mod roots;
mod watcher;

pub use count::{Count, MAX_FILES, count};
pub use roots::{Problem, Roots};
pub use watcher::{Latest, SpoolWatcher};
