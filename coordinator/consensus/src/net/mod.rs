//! The peer network: gRPC over mutual TLS between the members of one cluster.

mod client;
mod connection;
mod server;
mod tls;
mod transport;
mod wire;

pub(crate) use client::{Channels, Factory};
pub(crate) use server::serve;
pub(crate) use tls::TlsSource;
pub use transport::{BoxFuture, Io, Listener, Stream, TcpTransport, Transport};
