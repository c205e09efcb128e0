//! neap-coordinator
