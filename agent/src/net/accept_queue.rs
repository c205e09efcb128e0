//! The accept queue of one TCP port of one pod: all its listeners, summed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::diag::DiagSocket;
use super::wire::{ANY_COOKIE, Family, TcpListener};
use crate::clock::BootTime;

/// How often listeners are searched anew: another worker of a SO_REUSEPORT group can join
/// without the others changing.
const REDISCOVER: Duration = Duration::from_secs(30);

/// Looks without a listener before the port is looked up each second only.
const PATIENCE: u32 = 100;
const IMPATIENT: Duration = Duration::from_secs(1);

/// Addresses that nobody binds (RFC 5737, RFC 3849): they find wildcard listeners and no others.
const ANYWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ANYWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// What the listeners of a port said, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Connections not yet accepted.
    pub backlog: u64,
    /// Most that the listeners hold.
    pub limit: u64,
    /// Packets dropped since the port was first seen listening.
    pub drops: u64,
}

/// One port under observation.
#[derive(Debug)]
pub struct AcceptQueue {
    port: u16,
    listeners: Vec<Known>,
    /// Several listeners share an address: a look-up would find only one of them.
    group: bool,
    search_at: BootTime,
    /// Looks in a row that found nothing.
    absent: u32,
    drops: u64,
}

#[derive(Debug)]
struct Known {
    /// An address that finds this listener.
    address: IpAddr,
    cookie: [u8; 8],
    drops: u32,
}

impl AcceptQueue {
    /// Nothing known yet.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            listeners: Vec::new(),
            group: false,
            search_at: BootTime::default(),
            absent: 0,
            drops: 0,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How long to wait for the next look, when `interval` is asked for: longer once nothing
    /// has listened for a while.
    pub fn pace(&self, interval: Duration) -> Duration {
        if self.absent >= PATIENCE {
            interval.max(IMPATIENT)
        } else {
            interval
        }
    }

    /// Looks. `pod_ips` find listeners that are bound to them before any is known. None while
    /// nothing listens.
    ///
    /// # Errors
    /// The kernel's: the namespace's socket is of no more use.
    pub fn read(
        &mut self,
        diag: &mut DiagSocket,
        pod_ips: &[IpAddr],
        now: BootTime,
    ) -> io::Result<Option<Reading>> {
        let reading = if self.listeners.is_empty() {
            if listens(diag, self.port, pod_ips)? {
                self.search(diag, now)?
            } else {
                None
            }
        } else if self.group || now >= self.search_at {
            self.search(diag, now)?
        } else {
            match self.look(diag)? {
                Some(reading) => Some(reading),
                None => self.search(diag, now)?,
            }
        };
        self.absent = if reading.is_some() {
            0
        } else {
            self.absent.saturating_add(1)
        };
        Ok(reading)
    }

    /// Looks each known listener up; none if one of them is no more.
    fn look(&mut self, diag: &mut DiagSocket) -> io::Result<Option<Reading>> {
        let mut sum = Reading::default();
        for known in &mut self.listeners {
            let Some(listener) = diag.listener(known.address, self.port, known.cookie)? else {
                return Ok(None);
            };
            self.drops += u64::from(listener.drops.wrapping_sub(known.drops));
            known.drops = listener.drops;
            sum.backlog += u64::from(listener.backlog);
            sum.limit += u64::from(listener.limit);
        }
        Ok(Some(Reading {
            drops: self.drops,
            ..sum
        }))
    }

    fn search(&mut self, diag: &mut DiagSocket, now: BootTime) -> io::Result<Option<Reading>> {
        if !self.group || now >= self.search_at {
            self.search_at = now.plus(REDISCOVER);
        }
        let found = diag.listeners(self.port)?;
        Ok(self.take(&found))
    }

    /// Takes all the listeners there are now.
    fn take(&mut self, found: &[TcpListener]) -> Option<Reading> {
        let mut sum = Reading::default();
        let mut listeners = Vec::with_capacity(found.len());
        for listener in found {
            // Drops of a listener that was not known happened before anyone asked.
            let before = self
                .listeners
                .iter()
                .find(|known| known.cookie == listener.cookie);
            let before = before.map_or(listener.drops, |known| known.drops);
            self.drops += u64::from(listener.drops.wrapping_sub(before));
            sum.backlog += u64::from(listener.backlog);
            sum.limit += u64::from(listener.limit);
            listeners.push(Known {
                address: address_that_finds(listener),
                cookie: listener.cookie,
                drops: listener.drops,
            });
        }
        self.group = listeners.iter().enumerate().any(|(at, known)| {
            listeners
                .iter()
                .skip(at + 1)
                .any(|other| other.address == known.address)
        });
        self.listeners = listeners;
        (!found.is_empty()).then_some(Reading {
            drops: self.drops,
            ..sum
        })
    }
}

fn address_that_finds(listener: &TcpListener) -> IpAddr {
    match (listener.local.is_unspecified(), listener.family) {
        (true, Family::V4) => ANYWHERE_V4,
        (true, Family::V6) => ANYWHERE_V6,
        (false, _) => listener.local,
    }
}

/// Whether anything listens on a port: on a wildcard, on loopback or on one of `pod_ips`.
///
/// # Errors
/// The kernel's.
pub fn listens(diag: &mut DiagSocket, port: u16, pod_ips: &[IpAddr]) -> io::Result<bool> {
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    for address in pod_ips.iter().chain(&loopback) {
        if diag.listener(*address, port, ANY_COOKIE)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketType, sockopt};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn reuseport(address: SocketAddr, backlog: i32) -> (OwnedFd, u16) {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, backlog).unwrap();
        let port = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap())
            .unwrap()
            .port();
        (socket, port)
    }

    #[test]
    fn a_queue_comes_fills_and_goes() {
        let mut diag = DiagSocket::open().unwrap();
        let server = Listener::bind((LOCAL, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let mut queue = AcceptQueue::new(port);
        assert_eq!(
            queue.read(&mut diag, &[], at(1)).unwrap().unwrap().backlog,
            0
        );
        let clients: Vec<_> = (0..5)
            .map(|_| TcpStream::connect((LOCAL, port)).unwrap())
            .collect();
        assert_eq!(
            queue.read(&mut diag, &[], at(1)).unwrap().unwrap().backlog,
            5
        );
        drop(clients);
        drop(server);
        assert_eq!(queue.read(&mut diag, &[], at(2)).unwrap(), None);
        // The server restarts: another socket on the same port.
        let (_again, _) = reuseport((LOCAL, port).into(), 7);
        assert_eq!(queue.read(&mut diag, &[], at(3)).unwrap().unwrap().limit, 7);
    }

    #[test]
    fn all_members_of_a_reuseport_group_are_summed() {
        let mut diag = DiagSocket::open().unwrap();
        let (_first, port) = reuseport((LOCAL, 0).into(), 16);
        let mut queue = AcceptQueue::new(port);
        assert_eq!(
            queue.read(&mut diag, &[], at(1)).unwrap().unwrap().limit,
            16
        );
        let _more: Vec<_> = (0..3)
            .map(|_| reuseport((LOCAL, port).into(), 16))
            .collect();
        // New members are found by the next search.
        let late = at(1).plus(REDISCOVER);
        assert_eq!(queue.read(&mut diag, &[], late).unwrap().unwrap().limit, 64);
        let _clients: Vec<_> = (0..40)
            .map(|_| TcpStream::connect((LOCAL, port)).unwrap())
            .collect();
        assert_eq!(
            queue.read(&mut diag, &[], late).unwrap().unwrap().backlog,
            40
        );
    }

    #[test]
    fn listeners_of_one_port_on_several_addresses_are_summed() {
        let mut diag = DiagSocket::open().unwrap();
        let (_one, port) = reuseport((LOCAL, 0).into(), 10);
        let (_two, _) = reuseport((Ipv4Addr::new(127, 0, 0, 2), port).into(), 20);
        let mut queue = AcceptQueue::new(port);
        for second in 1..3 {
            assert_eq!(
                queue
                    .read(&mut diag, &[], at(second))
                    .unwrap()
                    .unwrap()
                    .limit,
                30
            );
        }
        assert!(!queue.group);
    }

    #[test]
    fn a_listener_bound_to_the_pods_address_alone_is_found_by_it() {
        let mut diag = DiagSocket::open().unwrap();
        let pod_ip = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));
        let (_server, port) = reuseport((pod_ip, 0).into(), 4);
        let mut queue = AcceptQueue::new(port);
        assert_eq!(queue.read(&mut diag, &[], at(1)).unwrap(), None);
        assert_eq!(
            queue
                .read(&mut diag, &[pod_ip], at(1))
                .unwrap()
                .unwrap()
                .limit,
            4
        );
    }

    #[test]
    fn drops_of_a_full_queue_are_counted_from_the_first_look() {
        let mut diag = DiagSocket::open().unwrap();
        let mut queue = AcceptQueue::new(1);
        let listener = |cookie: u8, drops| TcpListener {
            family: Family::V4,
            local: LOCAL,
            port: 1,
            cookie: [cookie; 8],
            backlog: 0,
            limit: 1,
            drops,
        };
        assert_eq!(queue.take(&[listener(1, 100)]).unwrap().drops, 0);
        assert_eq!(queue.take(&[listener(1, 130)]).unwrap().drops, 30);
        assert_eq!(
            queue.take(&[listener(2, 9)]).unwrap().drops,
            30,
            "another socket begins anew"
        );
        assert_eq!(
            queue
                .take(&[listener(2, 10), listener(3, 500)])
                .unwrap()
                .drops,
            31
        );
        assert_eq!(
            queue
                .take(&[listener(2, u32::MAX), listener(3, 500)])
                .unwrap()
                .drops,
            31 + u64::from(u32::MAX) - 10
        );
        assert_eq!(
            queue
                .take(&[listener(2, 4), listener(3, 500)])
                .unwrap()
                .drops,
            36 + u64::from(u32::MAX) - 10
        );

        // And with a real one: room for one more than its limit, the rest is dropped.
        let (_server, port) = reuseport((LOCAL, 0).into(), 1);
        let mut queue = AcceptQueue::new(port);
        queue.read(&mut diag, &[], at(1)).unwrap();
        let _clients: Vec<_> = (0..6)
            .map(|_| {
                let socket = rustix::net::socket_with(
                    AddressFamily::INET,
                    SocketType::STREAM,
                    rustix::net::SocketFlags::NONBLOCK,
                    None,
                )
                .unwrap();
                let _ = rustix::net::connect(&socket, &SocketAddr::from((LOCAL, port)));
                socket
            })
            .collect();
        let reading = queue.read(&mut diag, &[], at(1)).unwrap().unwrap();
        assert_eq!((reading.backlog, reading.limit), (2, 1));
        assert!(reading.drops >= 1, "{reading:?}");
    }

    #[test]
    fn a_port_that_never_listens_is_looked_up_less_often() {
        let mut diag = DiagSocket::open().unwrap();
        let mut queue = AcceptQueue::new(1);
        let tenth = Duration::from_millis(100);
        assert_eq!(queue.pace(tenth), tenth);
        for _ in 0..PATIENCE {
            assert_eq!(queue.read(&mut diag, &[], at(1)).unwrap(), None);
        }
        assert_eq!(queue.pace(tenth), IMPATIENT);
    }
}
