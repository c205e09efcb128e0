//! The gRPC contracts between Neap's processes, generated from `proto/*.proto`.
//!
//! No logic lives here: conversions stand in the crates that use a message. The meaning, unit
//! and rules of each field stand in the `.proto` files and are repeated on the generated types.

/// Agent and coordinator (`node.proto`).
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod node {
    /// Version of this contract that the code speaks; the rules for raising it stand in
    /// `node.proto`.
    pub const PROTOCOL_VERSION: u32 = 1;

    tonic::include_proto!("neap.node.v1");
}

/// Coordinators among themselves (`peer.proto`).
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod peer {
    tonic::include_proto!("neap.peer.v1");
}
