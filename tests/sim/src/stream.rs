//! TCP over the simulated network: the transport between the coordinators.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use neap_consensus::{BoxFuture, Io, Listener, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::net::{Body, Channel, Host, Inner, Net, Segment, SegmentKind};

/// All connections and listeners of the network.
#[derive(Default)]
pub(crate) struct Connections {
    all: BTreeMap<u64, Connection>,
    opened: u64,
    listeners: BTreeMap<Host, Backlog>,
}

struct Connection {
    client: Host,
    server: Host,
    /// The client's end, then the server's.
    ends: [End; 2],
    connecting: Option<oneshot::Sender<io::Result<()>>>,
}

#[derive(Default)]
struct End {
    arrived: VecDeque<Bytes>,
    ended: bool,
    reset: bool,
    /// Nobody holds this end any more.
    closed: bool,
    reader: Option<Waker>,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

/// Connections are counted from 1, so none has [`UNORDERED`](crate::net::UNORDERED).
fn channel(connection: u64, to_server: bool) -> Channel {
    connection * 2 + u64::from(to_server)
}

impl<S> Inner<S> {
    fn segment(&mut self, connection: u64, to_server: bool, what: SegmentKind) {
        let Some(known) = self.connections.all.get(&connection) else {
            return;
        };
        let (client, server) = (known.client, known.server);
        let (from, to) = if to_server {
            (client, server)
        } else {
            (server, client)
        };
        let channel = channel(connection, to_server);
        let segment = Segment {
            connection,
            to_server,
            what,
        };
        self.send(from, to, channel, Body::Stream(segment));
    }

    /// A segment has arrived at `host`.
    pub(crate) fn take_segment(&mut self, host: Host, segment: Segment) {
        let Segment {
            connection: id,
            to_server,
            what,
        } = segment;
        let Some(connection) = self.connections.all.get_mut(&id) else {
            return;
        };
        let end = &mut connection.ends[usize::from(to_server)];
        match what {
            SegmentKind::Connect => {
                let Some(backlog) = self.connections.listeners.get_mut(&host) else {
                    return self.segment(id, false, SegmentKind::Refused);
                };
                end.closed = false;
                backlog.waiting.push_back(id);
                if let Some(waker) = backlog.waker.take() {
                    waker.wake();
                }
                self.segment(id, false, SegmentKind::Accepted);
            }
            SegmentKind::Accepted => {
                let connecting = connection.connecting.take();
                // Where nobody waits any more, it ends again.
                if connecting.is_none_or(|connecting| connecting.send(Ok(())).is_err()) {
                    self.segment(id, true, SegmentKind::Reset);
                }
            }
            SegmentKind::Refused => {
                if let Some(connecting) = connection.connecting.take() {
                    let _ = connecting.send(Err(io::ErrorKind::ConnectionRefused.into()));
                }
                self.forget(id);
            }
            SegmentKind::Data(_) | SegmentKind::End if end.closed => {
                self.segment(id, !to_server, SegmentKind::Reset);
            }
            SegmentKind::Data(bytes) => {
                end.arrived.push_back(bytes);
                end.wake();
            }
            SegmentKind::End => {
                end.ended = true;
                end.wake();
            }
            SegmentKind::Reset => {
                end.reset = true;
                end.wake();
            }
        }
    }

    /// Closes what the processes of a host have open, in the order in which it was opened. The order in
    /// which a runtime drops its tasks depends on what else runs in this program.
    pub(crate) fn close_all(&mut self, host: Host) {
        let of_host = |(id, connection): (&u64, &Connection)| {
            let ends = [(false, connection.client), (true, connection.server)];
            ends.map(|(is_server, end)| (end == host).then_some((*id, is_server)))
        };
        let open: Vec<_> = self.connections.all.iter().flat_map(of_host).collect();
        for (id, is_server) in open.into_iter().flatten() {
            close(self, id, is_server);
        }
    }

    fn forget(&mut self, id: u64) {
        self.connections.all.remove(&id);
        self.close(channel(id, false));
        self.close(channel(id, true));
    }
}

impl End {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The network as one host has it.
pub(crate) struct SimTransport<S> {
    pub(crate) net: Net<S>,
    pub(crate) host: Host,
}

/// Where coordinators listen. The last byte of the address is the host's number, and one.
pub(crate) fn address(host: Host) -> SocketAddr {
    ([10, 0, 0, u8::try_from(host + 1).unwrap()], 7_000).into()
}

fn host_at(address: &str) -> Option<Host> {
    let address: SocketAddr = address.parse().ok()?;
    match address.ip() {
        std::net::IpAddr::V4(ip) => Some(usize::from(ip.octets()[3]) - 1),
        std::net::IpAddr::V6(_) => None,
    }
}

impl<S: 'static> Transport for SimTransport<S> {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Io>> {
        let (net, client) = (self.net.clone(), self.host);
        Box::pin(async move {
            let server = host_at(&address).ok_or(io::ErrorKind::NotFound)?;
            let (connecting, connected) = oneshot::channel();
            let stream = {
                let mut inner = net.inner();
                inner.connections.opened += 1;
                let id = inner.connections.opened;
                let mut ends = [End::default(), End::default()];
                // Until it is accepted.
                ends[1].closed = true;
                let connection = Connection {
                    client,
                    server,
                    ends,
                    connecting: Some(connecting),
                };
                inner.connections.all.insert(id, connection);
                inner.segment(id, true, SegmentKind::Connect);
                SimStream {
                    net: net.clone(),
                    id,
                    is_server: false,
                }
            };
            // A sender that is gone was refused with the connection.
            let answer = connected.await;
            answer.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))??;
            Ok(Box::new(stream) as Io)
        })
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (net, host) = (self.net.clone(), self.host);
        Box::pin(async move {
            let former = net
                .inner()
                .connections
                .listeners
                .insert(host, Backlog::default());
            if former.is_some() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok(Box::new(SimListener { net, host }) as Box<dyn Listener>)
        })
    }
}

struct SimListener<S> {
    net: Net<S>,
    host: Host,
}

impl<S: 'static> Listener for SimListener<S> {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Io>> {
        Box::pin(std::future::poll_fn(|context| {
            let mut inner = self.net.inner();
            let Some(backlog) = inner.connections.listeners.get_mut(&self.host) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match backlog.waiting.pop_front() {
                Some(id) => Poll::Ready(Ok(Box::new(SimStream {
                    net: self.net.clone(),
                    id,
                    is_server: true,
                }) as Io)),
                None => {
                    backlog.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl<S> Drop for SimListener<S> {
    fn drop(&mut self) {
        let mut inner = self.net.inner();
        let backlog = inner.connections.listeners.remove(&self.host);
        for id in backlog.into_iter().flat_map(|backlog| backlog.waiting) {
            close(&mut inner, id, true);
        }
    }
}

/// One end of a connection.
struct SimStream<S> {
    net: Net<S>,
    id: u64,
    is_server: bool,
}

impl<S> SimStream<S> {
    fn with_end<T>(&self, action: impl FnOnce(&mut End) -> T) -> io::Result<T> {
        let mut inner = self.net.inner();
        let connection = inner.connections.all.get_mut(&self.id);
        let connection = connection.ok_or(io::ErrorKind::NotConnected)?;
        Ok(action(&mut connection.ends[usize::from(self.is_server)]))
    }
}

fn close<S>(inner: &mut Inner<S>, id: u64, is_server: bool) {
    let Some(connection) = inner.connections.all.get_mut(&id) else {
        return;
    };
    let end = &mut connection.ends[usize::from(is_server)];
    if std::mem::replace(&mut end.closed, true) {
        return;
    }
    end.arrived.clear();
    let was_reset = end.reset;
    if !was_reset {
        inner.segment(id, !is_server, SegmentKind::End);
    }
    let connection = &inner.connections.all[&id];
    if connection.connecting.is_none() && connection.ends.iter().all(|end| end.closed) {
        inner.forget(id);
    }
}

impl<S> Drop for SimStream<S> {
    fn drop(&mut self) {
        close(&mut self.net.inner(), self.id, self.is_server);
    }
}

impl<S> AsyncRead for SimStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with_end(|end| {
            if let Some(mut bytes) = end.arrived.pop_front() {
                let part = bytes.split_to(bytes.len().min(buffer.remaining()));
                buffer.put_slice(&part);
                if !bytes.is_empty() {
                    end.arrived.push_front(bytes);
                }
                return Poll::Ready(Ok(()));
            }
            if end.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if end.ended {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            Poll::Pending
        })?
    }
}

impl<S> AsyncWrite for SimStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.with_end(|end| end.reset)? {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let data = SegmentKind::Data(Bytes::copy_from_slice(bytes));
        self.net.inner().segment(self.id, !self.is_server, data);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net
            .inner()
            .segment(self.id, !self.is_server, SegmentKind::End);
        Poll::Ready(Ok(()))
    }
}
