//! neap-engine
