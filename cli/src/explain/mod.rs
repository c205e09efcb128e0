//! `neap explain`: why a target has the replicas it has.

mod command;
mod text;

pub(crate) use command::{ExplainArgs, run};
