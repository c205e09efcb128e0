//! neap-triggers
