//! The cgroup tree: who is on the node, and what the kernel counted for them.

pub mod file;
pub mod hierarchy;
pub mod names;
pub mod parse;
pub mod tree;
mod watch;
