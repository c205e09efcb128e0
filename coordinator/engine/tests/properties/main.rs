//! What holds for every decision, whatever the spec, the history and the signals: each property on
//! 10,000 generated cases.
//!
//! Where the HPA or KEDA itself breaks a property, the generator leaves that spot out and the
//! property says why.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

mod bounds;
mod encoding;
mod limits;
mod load;
mod missing;
mod pause;
mod player;
mod replay;
mod scenes;
mod specs;

use proptest::test_runner::Config;

/// Every property runs this often.
fn config() -> Config {
    Config {
        cases: 10_000,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    }
}
