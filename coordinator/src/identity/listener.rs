//! Accepting TLS connections within limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

/// What one listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once, handshakes included. Beyond them new ones are closed unread.
    pub connections: usize,
    /// Handshakes at once. They are computing more than waiting, and what else there is to do waits behind them: an
    /// election among it. Beyond them, connections that have begun to speak wait their turn, in the order in which they came:
    /// in the kernel's queue the dial of whoever finds it full is repeated after a second.
    pub handshakes: usize,
    /// Nothing said for longer, or a handshake that takes longer from its turn on, ends the connection.
    pub handshake_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshakes: 16,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Connections whose TLS handshake succeeded, for `serve_with_incoming`. Accepting ends when
/// this is dropped.
#[derive(Debug)]
pub struct TlsIncoming {
    ready: mpsc::Receiver<TlsConnection>,
    _stop: DropGuard,
}

/// One TLS connection; it counts against the limit until it is dropped.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    _permit: OwnedSemaphorePermit,
}

impl TlsIncoming {
    /// Accepts on `listener` with the settings of `config`.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>, limits: ConnectionLimits) -> Self {
        let stop = CancellationToken::new();
        // A ready connection waits here only while the server takes the one before it.
        let (send, ready) = mpsc::channel(16);
        let acceptor = TlsAcceptor::from(config);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(accept(listener, acceptor, limits, send)),
        );
        Self {
            ready,
            _stop: stop.drop_guard(),
        }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: ConnectionLimits,
    send: mpsc::Sender<TlsConnection>,
) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let turns = Arc::new(Semaphore::new(limits.handshakes));
    // As many at most as there are connections.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or the like: the condition passes, spinning does not help it.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            tracing::warn!(%peer, limit = limits.connections, "connection closed: too many connections");
            continue;
        };
        let (acceptor, send, turns) = (acceptor.clone(), send.clone(), turns.clone());
        handshakes.spawn(async move {
            // A turn is for those who have something to say.
            let spoke = tokio::time::timeout(limits.handshake_timeout, stream.readable());
            if !matches!(spoke.await, Ok(Ok(()))) {
                tracing::debug!(%peer, "a connection on which nothing was said");
                return;
            }
            // Nobody closes the semaphore.
            let Ok(_turn) = turns.acquire_owned().await else {
                return;
            };
            // Small messages in both directions: waiting to fill packets only adds delay.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(limits.handshake_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // Fails only when the server is gone, and then the connection may go too.
                    let _ = send
                        .send(TlsConnection {
                            stream,
                            _permit: permit,
                        })
                        .await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
