//! Three coordinators as they are shipped, a fake API server, and agents without a node.

pub mod agent;
pub mod api_server;
pub mod coordinators;
pub mod names;
pub mod tokens;
