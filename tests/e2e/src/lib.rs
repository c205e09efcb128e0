//! neap-e2e
