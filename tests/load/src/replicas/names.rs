//! Names and places of what takes part.

use std::net::{Ipv4Addr, SocketAddr};

/// Neap's namespace.
pub(super) const NAMESPACE: &str = "neap";
/// The namespace of the nodes' pods.
pub const PODS_NAMESPACE: &str = "load";
/// Number of coordinators.
pub const SEATS: u8 = 3;
/// Where coordinators take agents' streams.
pub(super) const NODE_PORT: u16 = 9700;
/// Where they meet.
pub(super) const PEER_PORT: u16 = 9701;
/// Where they tell of themselves.
pub(super) const HTTP_PORT: u16 = 9702;

/// Name of a coordinator's pod.
#[must_use]
pub fn coordinator(seat: u8) -> String {
    format!("neap-coordinator-{seat}")
}

/// The name by which agents and the other coordinators reach it: its certificate bears it.
pub(super) fn host(seat: u8) -> String {
    format!(
        "{}.neap-coordinator-peers.{NAMESPACE}.svc",
        coordinator(seat)
    )
}

/// Where a coordinator listens.
pub(super) fn address(seat: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 1, 1 + seat), port).into()
}

/// Lines of /etc/hosts.
#[must_use]
pub fn hosts() -> String {
    let seats = (0..SEATS).map(|seat| format!("{} {}\n", address(seat, 0).ip(), host(seat)));
    seats.fold("127.0.0.1 localhost\n".to_owned(), |all, line| all + &line)
}

/// Name of a node.
#[must_use]
pub fn node(index: usize) -> String {
    format!("node-{index}")
}

/// UID of the one pod of a node.
#[must_use]
pub fn pod_uid(index: usize) -> String {
    format!("{index:08x}-1111-4000-8000-000000000000")
}

/// CLOCK_MONOTONIC, which all processes of a machine share, in nanoseconds.
#[must_use]
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is negative: the clock counts from the machine's start.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
