//! The whole coordinator in this process, without a cluster: real engine, real log on a temporary
//! disk, a clock that the tests move, and fakes where the ports are.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failed expectation is a failed test

mod alerts;
mod answers;
mod backlog;
mod bad_input;
mod bench;
mod events;
mod fakes;
mod objects;
mod ownership;
mod restart;
mod spool;
mod triggers;
mod writes;
