//! Compiles the contracts without a system protoc.

use std::error::Error;

/// Each contract, one a line.
const PROTOS: &[&str] = &["proto/node.proto", "proto/peer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Without transport: its `connect(endpoint)` would collide with the RPC of that name.
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
