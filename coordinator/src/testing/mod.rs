//! Stand-ins for tests.

pub(crate) mod api_server;
pub(crate) mod replicas;
