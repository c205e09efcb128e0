//! `neap up`: coordinator and agent in this process, on a folder of manifests, with replicas that are
//! processes of this machine.

mod agent;
mod args;
mod command;
mod figures;
mod machine;
mod plain;
mod rows;
mod screen;
mod view;

pub(crate) use args::UpArgs;
pub(crate) use command::run;
