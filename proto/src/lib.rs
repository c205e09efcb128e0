//! neap-proto
