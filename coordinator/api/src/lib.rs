//! neap-api
