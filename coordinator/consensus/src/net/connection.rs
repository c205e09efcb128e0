//! Connections that other members opened, and the news of their end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use super::transport::Io;

/// Who is at the other end, once its first message has said so.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin(Arc<AtomicU64>);

impl Origin {
    pub(super) fn set(&self, node: u64) {
        self.0.store(node, Ordering::Relaxed);
    }
}

/// One connection from another member. When it ends, its member is reported as lost: a killed
/// process is noticed by that at once, long before its lease ends.
pub(super) struct Connection {
    io: Io,
    origin: Origin,
    lost: mpsc::Sender<u64>,
}

impl Connection {
    pub(super) fn new(io: Io, lost: mpsc::Sender<u64>) -> Self {
        Self {
            io,
            origin: Origin::default(),
            lost,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let node = self.origin.0.load(Ordering::Relaxed);
        if node != 0 {
            // With a full queue the election timeout serves, as it does for a lost network.
            let _ = self.lost.try_send(node);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
