//! neap-units
