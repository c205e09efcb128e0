//! neap-consensus
