//! `neap top`: what the agents see.

mod answer;
mod command;
mod text;

pub(crate) use command::{TopArgs, run};
