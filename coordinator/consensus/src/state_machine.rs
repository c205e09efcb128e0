//! What the log drives.

use crate::position::LogPosition;

/// Serialises one frozen state. It runs on a blocking thread, away from the log.
pub type SnapshotWriter = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// The state that is replicated. The same commands in the same order must lead to the same state
/// on every member: no clock, no randomness, no iteration over a hash map in [`apply`].
///
/// The cluster owns the state machine; whoever needs to read the state keeps a handle inside it
/// (an `Arc` to what [`apply`] publishes).
///
/// [`apply`]: StateMachine::apply
pub trait StateMachine: Send + Sync + 'static {
    /// Applies one committed command. Called once per command, in the order of the log, and again
    /// from the last snapshot on after a restart. `command` is what `propose` was given; its first
    /// byte should be its format.
    ///
    /// # Errors
    /// A command that cannot be read. The member then stops rather than diverge from the others.
    fn apply(&mut self, position: LogPosition, command: &[u8]) -> Result<(), ApplyError>;

    /// Freezes the present state, cheaply (a clone of shared maps), and gives the function that
    /// serialises it, in no later format than `format`: another member may be sent it.
    fn snapshot(&self, format: u8) -> SnapshotWriter;

    /// Replaces the whole state by one that a [`snapshot`](StateMachine::snapshot) of this or
    /// another member wrote.
    ///
    /// # Errors
    /// Bytes that cannot be read; the present state must then be unchanged.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError>;
}

/// A committed command that this member cannot apply.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply command: {reason}")]
pub struct ApplyError {
    /// What about the command could not be read, and what is readable.
    pub reason: String,
}

/// A snapshot that this member cannot read.
#[derive(Debug, thiserror::Error)]
#[error("cannot restore snapshot: {reason}")]
pub struct RestoreError {
    /// What about the snapshot could not be read, and what is readable.
    pub reason: String,
}
