//! A network whose links can be cut, silently, in one direction or both.
//!
//! Bytes still travel over TCP on the loopback device. A cut holds them back: nothing arrives,
//! nothing breaks, and no one is told, as when a switch drops packets. A new connection over a cut
//! link hangs. Healing lets held bytes through, as TCP would send them again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use neap_consensus::{BoxFuture, Io, Listener, TcpTransport, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The links of one cluster.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Seats whose bytes do not reach the other.
    cut: BTreeSet<(usize, usize)>,
    waiting: Vec<Waker>,
    seats: BTreeMap<String, usize>,
}

impl Links {
    /// Says which seat listens on an address.
    pub fn name(&self, address: String, seat: usize) {
        self.0.lock().unwrap().seats.insert(address, seat);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: usize, to: usize) {
        self.0.lock().unwrap().cut.insert((from, to));
    }

    /// Cuts a seat off from all others, both ways.
    pub fn isolate(&self, seat: usize, seats: usize) {
        for other in (0..seats).filter(|other| *other != seat) {
            self.cut(seat, other);
            self.cut(other, seat);
        }
    }

    /// Mends everything.
    pub fn heal(&self) {
        let mut table = self.0.lock().unwrap();
        table.cut.clear();
        for waker in table.waiting.drain(..) {
            waker.wake();
        }
    }

    /// Ready while `from` reaches `to`.
    fn poll_open(&self, from: usize, to: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut table = self.0.lock().unwrap();
        if table.cut.contains(&(from, to)) {
            table.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The network as one seat has it.
    pub fn transport(&self, seat: usize) -> Arc<dyn Transport> {
        Arc::new(CutTransport {
            links: self.clone(),
            seat,
        })
    }
}

struct CutTransport {
    links: Links,
    seat: usize,
}

impl Transport for CutTransport {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Io>> {
        let (links, from) = (self.links.clone(), self.seat);
        Box::pin(async move {
            let to = links.0.lock().unwrap().seats.get(&address).copied();
            let to = to.ok_or_else(|| io::Error::other(format!("nobody sits at {address}")))?;
            // A handshake takes both directions.
            std::future::poll_fn(|context| links.poll_open(from, to, context)).await;
            std::future::poll_fn(|context| links.poll_open(to, from, context)).await;
            let io = TcpTransport.connect(address).await?;
            Ok(Box::new(CutIo {
                io,
                links,
                from,
                to,
            }) as Io)
        })
    }

    /// What arrives is held back where it is sent and where its answer is read, both of which are
    /// on the connecting side.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        TcpTransport.listen(address)
    }
}

struct CutIo {
    io: Io,
    links: Links,
    from: usize,
    to: usize,
}

impl AsyncRead for CutIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this
            .links
            .poll_open(this.to, this.from, context)
            .is_pending()
        {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this
            .links
            .poll_open(this.from, this.to, context)
            .is_pending()
        {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this
            .links
            .poll_open(this.from, this.to, context)
            .is_pending()
        {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this
            .links
            .poll_open(this.from, this.to, context)
            .is_pending()
        {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}
