//! A coordinator that does what a test says, an agent in this process or as one of its own, and what it reads.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod address;
mod agent;
mod coordinator;
pub(crate) mod kernel;
mod pki;
mod stream;
mod tree;

pub(crate) use agent::{Agent, AgentProcess};
pub(crate) use coordinator::Coordinator;
pub(crate) use pki::Pki;
pub(crate) use tree::Tree;
