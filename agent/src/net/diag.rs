//! A kept sock_diag socket of one network namespace.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::wire::{self, Answer, Family, TcpListener};

/// A unix socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Inode, by which it is found again.
    pub inode: u32,
    /// Names this socket and no later one.
    pub cookie: [u8; 8],
    /// Connections not yet accepted.
    pub backlog: u32,
    /// Most that it holds.
    pub limit: u32,
}

/// Listeners of one port beyond this are not summed: no server has as many.
const MAX_LISTENERS: usize = 1024;

/// Answers read at most for one dump, of [`BUFFER`] bytes each.
const MAX_PARTS: usize = 4096;
const BUFFER: usize = 16 * 1024;

/// A netlink socket stays in the namespace it was made in, and holds that namespace for as long
/// as it is open: it must go when the pod goes.
#[derive(Debug)]
pub struct DiagSocket {
    fd: OwnedFd,
    sequence: u32,
}

impl DiagSocket {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's, EPROTONOSUPPORT where it has no sock_diag.
    pub fn open() -> io::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Looks one listener up: about 4 us. None if there is no such one.
    ///
    /// A wildcard listener is found by any local address of its family, a dual-stack one by
    /// IPv4 addresses too.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listener(
        &mut self,
        local: IpAddr,
        port: u16,
        cookie: [u8; 8],
    ) -> io::Result<Option<TcpListener>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&wire::listener_request(self.sequence, local, port, cookie))?;
        let mut buffer = [0u8; 512];
        loop {
            let length = self.receive(&mut buffer)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = wire::answers(bytes, self.sequence).next() {
                match answer {
                    Answer::Socket(body) => return Ok(wire::tcp_listener(body)),
                    Answer::Error(errno) => return none_or_error(errno),
                    Answer::Done => return Ok(None),
                }
            }
        }
    }

    /// Finds all listeners of a port, of both families: the kernel walks its whole table for it
    /// (tens of microseconds), so this is for finding them and not for each look.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listeners(&mut self, port: u16) -> io::Result<Vec<TcpListener>> {
        let mut found: Vec<TcpListener> = Vec::new();
        for family in [Family::V4, Family::V6] {
            self.sequence = self.sequence.wrapping_add(1);
            let request = wire::listeners_request(self.sequence, family, port);
            self.dump(&request, |body| {
                if let Some(listener) = wire::tcp_listener(body)
                    && listener.port == port
                    && found.len() < MAX_LISTENERS
                    && !found.iter().any(|known| known.cookie == listener.cookie)
                {
                    found.push(listener);
                }
            })?;
        }
        Ok(found)
    }

    /// Finds a listening unix socket by the name it was bound to; a leading '@' is an abstract one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unix_listener_by_name(&mut self, name: &str) -> io::Result<Option<UnixSocket>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = wire::unix_listeners_request(self.sequence);
        let (mark, rest) = match name.strip_prefix('@') {
            Some(rest) => (Some(0u8), rest),
            None => (None, name),
        };
        let wanted = mark.into_iter().chain(rest.bytes());
        let mut found = None;
        self.dump(&request, |body| {
            if let Some(listener) = wire::unix_listener(body)
                && listener.name.iter().copied().eq(wanted.clone())
            {
                found = Some(unix_socket(&listener));
            }
        })?;
        Ok(found)
    }

    /// Looks a unix socket up again. None if it went.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unix_listener(&mut self, inode: u32, cookie: [u8; 8]) -> io::Result<Option<UnixSocket>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&wire::unix_listener_request(self.sequence, inode, cookie))?;
        let mut buffer = [0u8; 512];
        loop {
            let length = self.receive(&mut buffer)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = wire::answers(bytes, self.sequence).next() {
                match answer {
                    Answer::Socket(body) => {
                        return Ok(wire::unix_listener(body).as_ref().map(unix_socket));
                    }
                    Answer::Error(errno) => return none_or_error(errno),
                    Answer::Done => return Ok(None),
                }
            }
        }
    }

    fn dump(&mut self, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(request)?;
        let mut buffer = vec![0u8; BUFFER];
        for _ in 0..MAX_PARTS {
            let length = self.receive(&mut buffer)?;
            for answer in wire::answers(buffer.get(..length).unwrap_or_default(), self.sequence) {
                match answer {
                    Answer::Socket(body) => each(body),
                    Answer::Done => return Ok(()),
                    Answer::Error(errno) => return none_or_error::<()>(errno).map(|_| ()),
                }
            }
        }
        Err(io::Error::other("the kernel's answer does not end"))
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, request, SendFlags::empty()))?;
        Ok(())
    }

    /// The kernel answers while it takes the request, so an answer is there already.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty())
        })?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}

fn unix_socket(listener: &wire::UnixListener<'_>) -> UnixSocket {
    UnixSocket {
        inode: listener.inode,
        cookie: listener.cookie,
        backlog: listener.backlog,
        limit: listener.limit,
    }
}

/// ENOENT and ESTALE say that there is no such socket (any more).
fn none_or_error<T>(errno: i32) -> io::Result<Option<T>> {
    let absent = [Errno::NOENT, Errno::STALE]
        .iter()
        .any(|absent| absent.raw_os_error() == errno);
    if absent || errno == 0 {
        Ok(None)
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener as Listener, TcpStream};

    use super::wire::ANY_COOKIE;
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_real_listener_is_found_by_address_and_by_cookie() {
        let server = Listener::bind((LOCAL, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let mut diag = DiagSocket::open().unwrap();
        let idle = diag.listener(LOCAL, port, ANY_COOKIE).unwrap().unwrap();
        assert_eq!((idle.backlog, idle.port), (0, port));
        assert!(idle.limit > 0);
        let _waiting: Vec<TcpStream> = (0..3)
            .map(|_| TcpStream::connect((LOCAL, port)).unwrap())
            .collect();
        let full = diag.listener(LOCAL, port, idle.cookie).unwrap().unwrap();
        assert_eq!(full.backlog, 3);
        server.accept().unwrap();
        assert_eq!(
            diag.listener(LOCAL, port, idle.cookie)
                .unwrap()
                .unwrap()
                .backlog,
            2
        );
        drop(server);
        assert_eq!(diag.listener(LOCAL, port, idle.cookie).unwrap(), None);
    }

    #[test]
    fn a_wildcard_and_a_dual_stack_listener_are_found_by_an_ipv4_address() {
        let mut diag = DiagSocket::open().unwrap();
        let v4 = Listener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        assert!(diag.listener(LOCAL, port, ANY_COOKIE).unwrap().is_some());
        let Ok(v6) = Listener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            println!("skipped: no IPv6 here");
            return;
        };
        let port = v6.local_addr().unwrap().port();
        let found = diag.listener(LOCAL, port, ANY_COOKIE).unwrap().unwrap();
        assert_eq!(found.family, Family::V6);
        assert_eq!(diag.listeners(port).unwrap().len(), 1);
    }

    #[test]
    fn a_unix_socket_is_found_by_path_and_by_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut diag = DiagSocket::open().unwrap();
        let found = diag
            .unix_listener_by_name(path.to_str().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(found.backlog, 0);
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let again = diag
            .unix_listener(found.inode, found.cookie)
            .unwrap()
            .unwrap();
        assert_eq!(again.backlog, 1);
        assert!(again.limit > 0);
        drop(server);
        assert_eq!(diag.unix_listener(found.inode, found.cookie).unwrap(), None);
        assert_eq!(diag.unix_listener_by_name("/no/such.sock").unwrap(), None);
    }

    #[test]
    fn abstract_unix_names() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("neap-agent-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _server = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        let mut diag = DiagSocket::open().unwrap();
        assert!(
            diag.unix_listener_by_name(&format!("@{name}"))
                .unwrap()
                .is_some()
        );
        assert!(diag.unix_listener_by_name(&name).unwrap().is_none());
    }
}
