//! The clients.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// A client waits this long after a failure.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What the clients do.
pub(super) struct Load {
    pub(super) port: u16,
    pub(super) spool: PathBuf,
    pub(super) clients: usize,
    pub(super) files: usize,
    pub(super) rest: u64,
    pub(super) rush: u64,
    pub(super) every: u64,
}

impl Load {
    /// Rushes until it is killed.
    pub(super) fn run(&self) -> io::Result<()> {
        fs::create_dir_all(&self.spool)?;
        sleep(Duration::from_secs(self.rest));
        for round in 0u64.. {
            println!(
                "rush {round}: {} clients and {} files",
                self.clients, self.files
            );
            let (over, answers) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(0)),
            );
            let clients: Vec<_> = (0..self.clients)
                .map(|_| {
                    let (port, over, answers) = (self.port, over.clone(), answers.clone());
                    std::thread::spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            match ask(port) {
                                Ok(()) => {
                                    answers.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(_) => sleep(AFTER_FAILURE),
                            }
                        }
                    })
                })
                .collect();
            self.spool(round)?;
            sleep(Duration::from_secs(self.rush));
            over.store(true, Ordering::Relaxed);
            for client in clients {
                // A client that panicked has nothing more to say.
                let _ = client.join();
            }
            println!("rush {round}: {} answers", answers.load(Ordering::Relaxed));
            sleep(Duration::from_secs(self.every.saturating_sub(self.rush)));
        }
        Ok(())
    }

    /// Puts files into the directory, each whole at once.
    fn spool(&self, round: u64) -> io::Result<()> {
        let making = self.spool.with_extension("making");
        fs::create_dir_all(&making)?;
        for file in 0..self.files {
            let name = format!("{round}-{file}.job");
            fs::write(making.join(&name), "work\n")?;
            fs::rename(making.join(&name), self.spool.join(&name))?;
        }
        Ok(())
    }
}

fn ask(port: u16) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    server.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
