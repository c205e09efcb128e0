//! Addresses on loopback that are this process's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// The loopback address of this process. Its id is part of it, so no two processes that run at once
/// share one; and outgoing connections come from 127.0.0.1, so none of them takes a port of it.
pub(super) fn host() -> Ipv4Addr {
    // A process id has 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

/// An address that was given to nobody else, below the ports that the system gives by itself.
pub(super) fn free_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    (host(), PORT.fetch_add(1, Ordering::Relaxed)).into()
}
