//! One worker of a pre-fork server.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A head with more lines than this is not read to its end.
const MAX_LINES: usize = 100;

/// Serves until it is killed. Connections that it has not accepted wait in the kernel.
pub(super) fn run(port: u16, service_ms: u64) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listens on {port}");
    loop {
        let (client, _) = listener.accept()?;
        // A client that went away is no reason to end.
        let _ = serve(&client, Duration::from_millis(service_ms));
    }
}

fn serve(client: &TcpStream, service: Duration) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    let head = BufReader::new(client).lines().take(MAX_LINES);
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    std::thread::sleep(service);
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n")
}
