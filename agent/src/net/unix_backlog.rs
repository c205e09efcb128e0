//! The backlog of one listening unix socket of one pod.

use std::io;
use std::time::Duration;

use super::diag::{DiagSocket, UnixSocket};
use crate::clock::BootTime;

/// How often a socket that is not there is searched by its name: that lists all of the namespace.
const SEARCH: Duration = Duration::from_secs(1);

/// One socket under observation.
#[derive(Debug)]
pub struct UnixBacklog {
    name: String,
    known: Option<(u32, [u8; 8])>,
    search_at: BootTime,
}

impl UnixBacklog {
    /// By the name that the server binds; a leading '@' names the abstract namespace.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            known: None,
            search_at: BootTime::default(),
        }
    }

    /// Looks; none while nothing listens.
    ///
    /// # Errors
    /// The kernel's: the namespace's socket is of no more use.
    pub fn read(&mut self, diag: &mut DiagSocket, now: BootTime) -> io::Result<Option<UnixSocket>> {
        if let Some((inode, cookie)) = self.known {
            if let Some(socket) = diag.unix_listener(inode, cookie)? {
                return Ok(Some(socket));
            }
            self.known = None;
            self.search_at = now;
        }
        if now < self.search_at {
            return Ok(None);
        }
        self.search_at = now.plus(SEARCH);
        let found = diag.unix_listener_by_name(&self.name)?;
        self.known = found.as_ref().map(|socket| (socket.inode, socket.cookie));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_comes_fills_restarts_and_goes() {
        let at = |millis: u64| BootTime::from_nanos(millis * 1_000_000);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let mut diag = DiagSocket::open().unwrap();
        let mut backlog = UnixBacklog::new(path.to_str().unwrap());
        assert_eq!(backlog.read(&mut diag, at(1_000)).unwrap(), None);
        let server = UnixListener::bind(&path).unwrap();
        assert_eq!(
            backlog.read(&mut diag, at(1_100)).unwrap(),
            None,
            "searched once a second"
        );
        assert_eq!(
            backlog.read(&mut diag, at(2_000)).unwrap().unwrap().backlog,
            0
        );
        let _clients: Vec<_> = (0..3)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        assert_eq!(
            backlog.read(&mut diag, at(2_100)).unwrap().unwrap().backlog,
            3
        );
        drop(server);
        std::fs::remove_file(&path).unwrap();
        let _again = UnixListener::bind(&path).unwrap();
        assert_eq!(
            backlog.read(&mut diag, at(2_200)).unwrap().unwrap().backlog,
            0
        );
    }
}
