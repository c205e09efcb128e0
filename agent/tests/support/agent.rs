//! The agent, in this process or as one of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use neap_agent::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::address::free_address;
use super::pki::Pki;
use super::tree::Tree;

/// Where an agent serves /metrics and the probes.
#[derive(Clone, Copy)]
pub(crate) struct Pages(SocketAddr);

impl Pages {
    /// At a port that was free a moment ago: the agent binds it by number, as it does in a pod.
    fn somewhere() -> Self {
        Self(free_address())
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut connection) = tokio::net::TcpStream::connect(self.0).await else {
            return (0, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let status = answer
            .split_whitespace()
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap();
        (status, answer)
    }

    /// Waits until a metric is as wanted.
    pub(crate) async fn metric(
        &self,
        name: &str,
        patience: Duration,
        wanted: impl Fn(f64) -> bool,
    ) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = tokio::time::timeout(patience, async {
            loop {
                tick.tick().await;
                let (_, text) = self.get("/metrics").await;
                let value = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
                if value.is_some_and(&wanted) {
                    return;
                }
            }
        });
        assert!(
            reached.await.is_ok(),
            "{name} is not as wanted within {patience:?}"
        );
    }
}

/// The agent, running in this process.
pub(crate) struct Agent {
    pages: Pages,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), neap_agent::Error>>,
}

impl std::ops::Deref for Agent {
    type Target = Pages;
    fn deref(&self) -> &Pages {
        &self.pages
    }
}

impl Agent {
    /// On a tree of files.
    pub(crate) fn start(pki: &Pki, tree: &Tree, coordinator: &str) -> Self {
        Self::with(pki, coordinator, &tree.flags())
    }

    /// On the cgroups of this machine, as far as they lie below a kubelet's cgroupRoot.
    pub(crate) fn on_this_node(pki: &Pki, kubelet_root: &str, coordinator: &str) -> Self {
        Self::with(
            pki,
            coordinator,
            &[format!("--kubelet-cgroup-root={kubelet_root}")],
        )
    }

    pub(crate) fn with(pki: &Pki, coordinator: &str, flags: &[String]) -> Self {
        let pages = Pages::somewhere();
        let config = Config::parse_from(arguments(pki, coordinator, pages, flags));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(neap_agent::run(config, shutdown.clone()));
        Self {
            pages,
            shutdown,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn arguments(pki: &Pki, coordinator: &str, pages: Pages, flags: &[String]) -> Vec<String> {
    let own = [
        "neap-agent".into(),
        format!("--coordinator={coordinator}"),
        format!("--token-file={}", pki.path("token").display()),
        format!("--ca-file={}", pki.path("ca.crt").display()),
        "--node-name=node-1".into(),
        format!("--http-listen={}", pages.0),
    ];
    own.into_iter().chain(flags.iter().cloned()).collect()
}

/// The agent as a process of its own.
pub(crate) struct AgentProcess {
    child: std::process::Child,
    pub(crate) pages: Pages,
}

impl AgentProcess {
    pub(crate) fn start(program: &str, pki: &Pki, flags: &[String], coordinator: &str) -> Self {
        let pages = Pages::somewhere();
        let arguments = arguments(pki, coordinator, pages, flags);
        let child = std::process::Command::new(program)
            .args(arguments.iter().skip(1))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, pages }
    }

    /// Ends it and gives all that it logged.
    pub(crate) fn end(mut self) -> String {
        use std::io::Read;
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }

    fn links(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        entries
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .collect()
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        self.links().len()
    }

    /// Network namespaces held by descriptors of namespace files.
    pub(crate) fn namespaces(&self) -> usize {
        self.links()
            .iter()
            .filter(|link| link.to_string_lossy().starts_with("net:["))
            .count()
    }

    pub(crate) async fn wait_for_descriptors(
        &self,
        patience: Duration,
        wanted: impl Fn(usize) -> bool,
    ) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = tokio::time::timeout(patience, async {
            while !wanted(self.descriptors()) {
                tick.tick().await;
            }
        });
        assert!(reached.await.is_ok(), "still open: {:?}", self.links());
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
