//! Bugs that are put in on purpose, to see that the checks notice them.

use clap::ValueEnum;

/// One of them. They live in this program alone: its ports, its disks, its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bug {
    /// A scale write that failed is sent again later, without regard to lease and resource version.
    BlindRetries,
    /// A disk that has told of a commit has lost the last seconds after a crash.
    ForgetfulDisks,
    /// After a suspend the clocks do not show that time has passed.
    StandingClocks,
}
