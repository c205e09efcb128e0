//! The Kubernetes side of the coordinator against a real API server: `tests/suites/kube` runs it in a bed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's helpers fail as its body does

mod bench;
mod identity;
mod ownership;
mod scales;
mod words;
