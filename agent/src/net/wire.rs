//! The few sock_diag messages the agent speaks, as bytes (linux/netlink.h, linux/inet_diag.h,
//! linux/unix_diag.h). Written here rather than taken from a library because a look-up at
//! 10 Hz must allocate nothing; parsers take any bytes and never panic.

use std::net::IpAddr;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
const INET_DIAG_SKMEMINFO: u16 = 7;
const SK_MEMINFO_DROPS: usize = 8;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;

/// "Any socket": INET_DIAG_NOCOOKIE.
pub const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// Length of a request for TCP sockets.
pub const INET_REQUEST: usize = HEADER + 56;
/// Length of a request for unix sockets.
pub const UNIX_REQUEST: usize = HEADER + 24;

/// Address family of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AF_INET; finds dual-stack listeners too.
    V4,
    /// AF_INET6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Asks for one listener by its local address, port and cookie.
pub fn listener_request(
    sequence: u32,
    local: IpAddr,
    port: u16,
    cookie: [u8; 8],
) -> [u8; INET_REQUEST] {
    inet_request(
        sequence,
        NLM_F_REQUEST,
        Family::of(local),
        Some(local),
        port,
        cookie,
    )
}

/// Asks for all listeners of a family on a port, whatever their address.
pub fn listeners_request(sequence: u32, family: Family, port: u16) -> [u8; INET_REQUEST] {
    inet_request(
        sequence,
        NLM_F_REQUEST | NLM_F_DUMP,
        family,
        None,
        port,
        ANY_COOKIE,
    )
}

fn inet_request(
    sequence: u32,
    flags: u16,
    family: Family,
    local: Option<IpAddr>,
    port: u16,
    cookie: [u8; 8],
) -> [u8; INET_REQUEST] {
    let mut request = [0u8; INET_REQUEST];
    header(&mut request, flags, sequence);
    // struct inet_diag_req_v2
    put(
        &mut request,
        16,
        &[
            if family == Family::V4 {
                AF_INET
            } else {
                AF_INET6
            },
            IPPROTO_TCP,
        ],
    );
    put(&mut request, 18, &[1 << (INET_DIAG_SKMEMINFO - 1)]);
    put(&mut request, 20, &(1u32 << TCP_LISTEN).to_ne_bytes());
    // struct inet_diag_sockid: ports 24, source 28, destination 44, interface 60, cookie 64
    put(&mut request, 24, &port.to_be_bytes());
    match local {
        Some(IpAddr::V4(address)) => put(&mut request, 28, &address.octets()),
        Some(IpAddr::V6(address)) => put(&mut request, 28, &address.octets()),
        None => {}
    }
    put(&mut request, 64, &cookie);
    request
}

/// Asks for all listening unix sockets with their names.
pub fn unix_listeners_request(sequence: u32) -> [u8; UNIX_REQUEST] {
    unix_request(
        sequence,
        NLM_F_REQUEST | NLM_F_DUMP,
        0,
        ANY_COOKIE,
        UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN,
    )
}

/// Asks for one unix socket by inode and cookie.
pub fn unix_listener_request(sequence: u32, inode: u32, cookie: [u8; 8]) -> [u8; UNIX_REQUEST] {
    unix_request(sequence, NLM_F_REQUEST, inode, cookie, UDIAG_SHOW_RQLEN)
}

fn unix_request(
    sequence: u32,
    flags: u16,
    inode: u32,
    cookie: [u8; 8],
    show: u32,
) -> [u8; UNIX_REQUEST] {
    let mut request = [0u8; UNIX_REQUEST];
    header(&mut request, flags, sequence);
    // struct unix_diag_req
    put(&mut request, 16, &[AF_UNIX]);
    put(&mut request, 20, &(1u32 << TCP_LISTEN).to_ne_bytes());
    put(&mut request, 24, &inode.to_ne_bytes());
    put(&mut request, 28, &show.to_ne_bytes());
    put(&mut request, 32, &cookie);
    request
}

fn header(request: &mut [u8], flags: u16, sequence: u32) {
    let length = u32::try_from(request.len()).unwrap_or(0);
    put(request, 0, &length.to_ne_bytes());
    put(request, 4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(request, 6, &flags.to_ne_bytes());
    put(request, 8, &sequence.to_ne_bytes());
}

fn put(request: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = request.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// One netlink message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A socket; see [`tcp_listener`] and [`unix_listener`].
    Socket(&'a [u8]),
    /// An errno, positive; 0 acknowledges.
    Error(i32),
    /// The dump is complete.
    Done,
}

/// The messages in `bytes` that answer `sequence`. Stops at what is not whole.
pub fn answers(bytes: &[u8], sequence: u32) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let length = usize::try_from(u32_at(rest, 0)?).ok()?;
            let kind = u16_at(rest, 4)?;
            let answers = u32_at(rest, 8)?;
            let body = rest.get(HEADER..length)?;
            rest = rest.get(align(length)..).unwrap_or_default();
            if answers != sequence {
                continue;
            }
            return match kind {
                NLMSG_DONE => Some(Answer::Done),
                NLMSG_ERROR => Some(Answer::Error(i32_at(body, 0)?.wrapping_neg())),
                SOCK_DIAG_BY_FAMILY => Some(Answer::Socket(body)),
                _ => continue,
            };
        }
    })
}

/// One listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpListener {
    /// Its own family: a dual-stack listener is V6 also when it was found by an IPv4 address.
    pub family: Family,
    /// Local address.
    pub local: IpAddr,
    /// Local port.
    pub port: u16,
    /// Names this socket and no later one.
    pub cookie: [u8; 8],
    /// Connections not yet accepted.
    pub backlog: u32,
    /// Most that it holds.
    pub limit: u32,
    /// Packets dropped since it began, modulo 2^32.
    pub drops: u32,
}

/// Parses struct inet_diag_msg and its attributes; none if it is not a listener.
pub fn tcp_listener(body: &[u8]) -> Option<TcpListener> {
    if *body.get(1)? != TCP_LISTEN {
        return None;
    }
    let (family, local) = match *body.first()? {
        AF_INET => (Family::V4, IpAddr::from(array::<4>(body, 8)?)),
        AF_INET6 => (Family::V6, IpAddr::from(array::<16>(body, 8)?)),
        _ => return None,
    };
    let memory = attribute(body.get(72..)?, INET_DIAG_SKMEMINFO);
    Some(TcpListener {
        family,
        local,
        port: u16::from_be_bytes(array(body, 4)?),
        cookie: array(body, 44)?,
        backlog: u32_at(body, 56)?,
        limit: u32_at(body, 60)?,
        drops: memory
            .and_then(|memory| u32_at(memory, SK_MEMINFO_DROPS * 4))
            .unwrap_or(0),
    })
}

/// One listening unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixListener<'a> {
    /// Inode, by which it is found again.
    pub inode: u32,
    /// Names this socket and no later one.
    pub cookie: [u8; 8],
    /// Path, or a zero byte and an abstract name; empty if not asked for.
    pub name: &'a [u8],
    /// Connections not yet accepted.
    pub backlog: u32,
    /// Most that it holds.
    pub limit: u32,
}

/// Parses struct unix_diag_msg and its attributes; none if it is not a listener.
pub fn unix_listener(body: &[u8]) -> Option<UnixListener<'_>> {
    if *body.first()? != AF_UNIX || *body.get(2)? != TCP_LISTEN {
        return None;
    }
    let attributes = body.get(16..)?;
    let queue = attribute(attributes, UNIX_DIAG_RQLEN)?;
    let name = attribute(attributes, UNIX_DIAG_NAME).unwrap_or_default();
    Some(UnixListener {
        inode: u32_at(body, 4)?,
        cookie: array(body, 8)?,
        name: if name.first() == Some(&0) {
            name
        } else {
            name.strip_suffix(&[0]).unwrap_or(name)
        },
        backlog: u32_at(queue, 0)?,
        limit: u32_at(queue, 4)?,
    })
}

fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(align(length)..)?;
    }
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array(bytes, at).map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn listener_body() -> Vec<u8> {
        let mut body = vec![0u8; 72];
        body[0] = AF_INET;
        body[1] = TCP_LISTEN;
        body[4..6].copy_from_slice(&8080u16.to_be_bytes());
        body[8..12].copy_from_slice(&[10, 0, 0, 7]);
        body[44..52].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        body[56..60].copy_from_slice(&51u32.to_ne_bytes());
        body[60..64].copy_from_slice(&50u32.to_ne_bytes());
        // An attribute of another kind first, then SKMEMINFO with its nine words.
        body.extend([6, 0, 9, 0, 1, 1, 0, 0]);
        body.extend(40u16.to_ne_bytes());
        body.extend(INET_DIAG_SKMEMINFO.to_ne_bytes());
        for word in 0..9u32 {
            body.extend((word * 10).to_ne_bytes());
        }
        body
    }

    #[test]
    fn a_listener_is_read_with_backlog_limit_and_drops() {
        let bytes = message(SOCK_DIAG_BY_FAMILY, 7, &listener_body());
        let Some(Answer::Socket(body)) = answers(&bytes, 7).next() else {
            panic!("no socket")
        };
        let listener = tcp_listener(body).unwrap();
        assert_eq!(listener.local, "10.0.0.7".parse::<IpAddr>().unwrap());
        assert_eq!(
            (
                listener.port,
                listener.backlog,
                listener.limit,
                listener.drops
            ),
            (8080, 51, 50, 80)
        );
        assert_eq!(listener.cookie, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn answers_to_other_questions_are_skipped() {
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, 6, &listener_body());
        bytes.extend(message(NLMSG_ERROR, 7, &(-2i32).to_ne_bytes()));
        bytes.extend(message(NLMSG_DONE, 7, &[0; 4]));
        assert_eq!(
            answers(&bytes, 7).collect::<Vec<_>>(),
            [Answer::Error(2), Answer::Done]
        );
    }

    #[test]
    fn unix_names_lose_their_terminator_and_keep_the_abstract_mark() {
        for (raw, name) in [
            (&b"/run/app.sock\0"[..], &b"/run/app.sock"[..]),
            (&b"\0app"[..], &b"\0app"[..]),
        ] {
            let mut body = vec![0u8; 16];
            body[0] = AF_UNIX;
            body[2] = TCP_LISTEN;
            body[4..8].copy_from_slice(&99u32.to_ne_bytes());
            body.extend(u16::try_from(4 + raw.len()).unwrap().to_ne_bytes());
            body.extend(UNIX_DIAG_NAME.to_ne_bytes());
            body.extend(raw);
            body.resize(align(body.len()), 0);
            body.extend(12u16.to_ne_bytes());
            body.extend(UNIX_DIAG_RQLEN.to_ne_bytes());
            body.extend(3u32.to_ne_bytes());
            body.extend(128u32.to_ne_bytes());
            let listener = unix_listener(&body).unwrap();
            assert_eq!(
                (
                    listener.name,
                    listener.inode,
                    listener.backlog,
                    listener.limit
                ),
                (name, 99, 3, 128)
            );
        }
    }

    #[test]
    fn requests_carry_what_they_ask_for() {
        let request = listener_request(3, "10.1.2.3".parse().unwrap(), 443, [9; 8]);
        assert_eq!(&request[..4], &72u32.to_ne_bytes());
        assert_eq!(&request[24..26], &[1, 187]);
        assert_eq!(&request[28..32], &[10, 1, 2, 3]);
        assert_eq!(&request[64..], &[9; 8]);
        let request = listener_request(3, "fd00::1".parse().unwrap(), 443, ANY_COOKIE);
        assert_eq!((request[16], request[28], request[43]), (AF_INET6, 0xfd, 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for answer in answers(&bytes, 0).take(100) {
                if let Answer::Socket(body) = answer {
                    tcp_listener(body);
                    unix_listener(body);
                }
            }
            tcp_listener(&bytes);
            unix_listener(&bytes);
        }

        #[test]
        fn broken_answers_do_not_hang(cut in 0usize..150, byte in 0usize..150, value in any::<u8>()) {
            let mut bytes = message(SOCK_DIAG_BY_FAMILY, 7, &listener_body());
            bytes.extend(message(NLMSG_DONE, 7, &[0; 4]));
            if let Some(broken) = bytes.get_mut(byte) { *broken = value; }
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert!(answers(&bytes, 7).count() <= 40);
        }
    }
}
