//! The program that the test pods run: a pre-fork style server, or a load driver.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use neap_e2e::{Load, drive};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
enum Mode {
    /// Answers one connection after another: what waits, waits in the kernel's accept queue.
    Serve {
        /// Where to listen.
        #[arg(long, default_value_t = 8080, env = "PORT")]
        port: u16,
        /// How long each request takes without using CPU.
        #[arg(long, default_value_t = 0)]
        service_ms: u64,
        /// CPU time that each request uses.
        #[arg(long, default_value_t = 0)]
        cpu_ms: u64,
    },
    /// Connects at a fixed rate.
    Drive {
        /// HOST:PORT.
        #[arg(long)]
        to: String,
        /// Connections per second.
        #[arg(long, default_value_t = 25.0)]
        rate: f64,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Succeeds when something listens on the port, without connecting to it: a connect would stand in the very queue
    /// under test.
    Listens {
        /// Which TCP port.
        #[arg(long, default_value_t = 8080, env = "PORT")]
        port: u16,
    },
    /// Does nothing until it is told to stop.
    Wait,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    let mode = Mode::parse();
    let mut term = signal(SignalKind::terminate())?;
    match mode {
        Mode::Serve {
            port,
            service_ms,
            cpu_ms,
        } => {
            let listener = TcpListener::bind(("0.0.0.0", port))
                .with_context(|| format!("listening on port {port}"))?;
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = serve(
                        stream,
                        Duration::from_millis(service_ms),
                        Duration::from_millis(cpu_ms),
                    );
                }
            });
            term.recv().await;
        }
        Mode::Drive { to, rate, seconds } => {
            let addr = to
                .to_socket_addrs()?
                .next()
                .with_context(|| format!("{to} has no address"))?;
            tokio::select! {
                report = drive(Load { to: addr, rate, time: Duration::from_secs(seconds) }) =>
                    println!("answered {} failed {}", report.answered, report.failed),
                _ = term.recv() => {}
            }
        }
        Mode::Listens { port } => {
            ensure!(listens(port)?, "nothing listens on port {port}");
        }
        Mode::Wait => {
            term.recv().await;
        }
    }
    // The server thread blocks in accept: leave without waiting for it.
    std::process::exit(0);
}

fn serve(mut stream: TcpStream, service: Duration, cpu: Duration) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = stream.read(&mut [0; 512])?;
    std::thread::sleep(service);
    burn(cpu)?;
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok\n")?;
    Ok(())
}

/// Keeps this thread busy until it has used `time` of CPU, however long that takes.
fn burn(time: Duration) -> Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    let begin = thread_cpu()?;
    while thread_cpu()? - begin < time {
        for i in 0..20_000_u64 {
            std::hint::black_box(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
    Ok(())
}

/// Whether the kernel's table of sockets has one that listens on `port`.
fn listens(port: u16) -> Result<bool> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).with_context(|| format!("reading {table}"))?;
        let found = text.lines().skip(1).any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let local = columns.next().unwrap_or_default();
            let state = columns.nth(1).unwrap_or_default();
            local.ends_with(&wanted) && state == LISTEN
        });
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn thread_cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_whitespace()
        .next()
        .context("schedstat is empty")?
        .parse()?;
    Ok(Duration::from_nanos(nanos))
}
