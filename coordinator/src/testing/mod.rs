//! Stand-ins for tests.

pub(crate) mod api_server;
