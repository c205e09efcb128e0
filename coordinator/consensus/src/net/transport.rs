//! Byte streams between members: the seam at which tests cut, delay and simulate the network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A boxed byte stream.
pub type Io = Box<dyn Stream>;

/// How byte streams come to be. TLS runs above it.
pub trait Transport: Send + Sync + 'static {
    /// Connects to `address`, a `host:port`.
    ///
    /// # Errors
    /// What the system says: an unknown name, a refused connection.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Io>>;

    /// Listens on `address`.
    ///
    /// # Errors
    /// What the system says.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// Takes in connections.
pub trait Listener: Send {
    /// The next connection.
    ///
    /// # Errors
    /// What the system says; the listener stays usable.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Io>>;
}

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Io>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Io)
        })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(Tcp(listener)) as Box<dyn Listener>)
        })
    }
}

struct Tcp(TcpListener);

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Io>> {
        Box::pin(async move {
            let (stream, _) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Io)
        })
    }
}
