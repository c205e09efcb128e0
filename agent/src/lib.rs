//! neap-agent
