//! Sockets of pods: who waits to be accepted, where.

pub mod accept_queue;
pub mod diag;
pub mod namespace;
pub mod unix_backlog;
pub mod wire;
