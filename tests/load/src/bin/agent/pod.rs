//! Pods that are real to the kernel: three processes in three cgroups and one network
//! namespace.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::cgroups::Cgroups;

/// One pod: a sandbox that owns the network namespace and listens, and two containers.
pub(crate) struct Pod {
    /// Its UID.
    pub uid: String,
    sandbox: tokio::process::Child,
    containers: Vec<tokio::process::Child>,
}

impl Pod {
    /// Starts the processes and puts each into its group.
    pub(crate) async fn start(cgroups: &Cgroups, number: usize) -> Result<Self> {
        let program = std::env::current_exe()?;
        let uid = format!("{number:08x}-1234-4abc-8def-0123456789ab");
        let id = |container: usize| format!("{number:032x}{container:032x}");
        let mut sandbox = tokio::process::Command::new("unshare")
            .arg("--net")
            .arg(&program)
            .arg("pod")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run unshare")?;
        let pid = sandbox.id().context("the sandbox ended")?;
        cgroups.put(&uid, &id(0), pid)?;
        let mut ready = String::new();
        let stdout = sandbox.stdout.take().context("no stdout")?;
        tokio::io::BufReader::new(stdout)
            .read_line(&mut ready)
            .await?;
        if ready.trim() != "ready" {
            bail!("the sandbox said {ready:?}");
        }
        let mut containers = Vec::new();
        for container in 1..=2 {
            let child = tokio::process::Command::new("nsenter")
                .arg(format!("--net=/proc/{pid}/ns/net"))
                .arg(&program)
                .arg("container")
                .stdin(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("cannot run nsenter")?;
            cgroups.put(
                &uid,
                &id(container),
                child.id().context("the container ended")?,
            )?;
            containers.push(child);
        }
        Ok(Self {
            uid,
            sandbox,
            containers,
        })
    }

    /// Lets its queue and its CPU time move from now on.
    pub(crate) fn move_on(&mut self) -> Result<()> {
        for child in self.containers.iter_mut().chain([&mut self.sandbox]) {
            let mut stdin = child.stdin.take().context("told already")?;
            // A pipe takes one byte at once; its end stays open as long as the pod moves.
            tokio::spawn(async move {
                if stdin.write_all(b"m").await.is_ok() {
                    std::future::pending::<()>().await;
                }
            });
        }
        Ok(())
    }
}

/// The sandbox: listens, and when told to, connects to itself so that the queue moves ten times a
/// second.
pub(crate) fn serve(port: u16) -> Result<()> {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    if !up.context("cannot run ip")?.success() {
        bail!("loopback does not come up");
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("ready");
    std::io::stdout().flush()?;
    if !told_to_move() {
        return Ok(());
    }
    for round in 0u32.. {
        let waiting = (0..round % 5 + 1)
            .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
            .collect::<Result<Vec<_>, _>>()?;
        std::thread::sleep(Duration::from_millis(100));
        for _ in &waiting {
            listener.accept()?;
        }
    }
    Ok(())
}

/// A container: uses a little CPU time when told to.
pub(crate) fn contain() -> Result<()> {
    if !told_to_move() {
        return Ok(());
    }
    let mut numbers = 0u64;
    loop {
        for number in 0..20_000u64 {
            numbers = std::hint::black_box(numbers ^ number);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits for a byte; false when the program that made the pod is gone.
fn told_to_move() -> bool {
    let mut byte = [0u8];
    let mut stdin = BufReader::new(std::io::stdin());
    stdin.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) && stdin.read_exact(&mut byte).is_ok()
}
