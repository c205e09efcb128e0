//! Three coordinators, each a process: the program as it is shipped.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use neap_e2e::{Probe, until};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::names::{HTTP_PORT, NAMESPACE, NODE_PORT, PEER_PORT, SEATS, address, coordinator};
use crate::usage;

/// How long anything may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// An answer about itself that takes longer is none.
const ANSWER: Duration = Duration::from_secs(5);

/// The processes, by seat.
pub struct Coordinators {
    program: PathBuf,
    root: PathBuf,
    running: Vec<Option<Child>>,
    http: reqwest::Client,
}

impl Coordinators {
    /// Starts all of them. Data, logs and the kubeconfig lie in `root`.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start(program: PathBuf, root: PathBuf) -> Result<Self> {
        let mut started = Self {
            program,
            root,
            running: (0..SEATS).map(|_| None).collect(),
            http: reqwest::Client::builder().timeout(ANSWER).build()?,
        };
        for seat in 0..SEATS {
            started.restart(seat)?;
        }
        Ok(started)
    }

    /// Starts the one of a seat that has ended.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn restart(&mut self, seat: u8) -> Result<()> {
        let name = coordinator(seat);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join(format!("{name}.log")))?;
        let child = Command::new(&self.program)
            .env("KUBECONFIG", self.root.join("kubeconfig"))
            .arg("--data-dir")
            .arg(self.root.join(&name))
            .args(["--namespace", NAMESPACE, "--pod-name", &name])
            .args(["--node-listen", &address(seat, NODE_PORT).to_string()])
            .args(["--peer-listen", &address(seat, PEER_PORT).to_string()])
            .args(["--http-listen", &address(seat, HTTP_PORT).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.set(seat, Some(child));
        Ok(())
    }

    fn set(&mut self, seat: u8, child: Option<Child>) -> Option<Child> {
        let place = self.running.get_mut(usize::from(seat))?;
        std::mem::replace(place, child)
    }

    /// The seats whose process runs.
    fn seats(&self) -> impl Iterator<Item = u8> + '_ {
        (0..SEATS).filter(|seat| matches!(self.running.get(usize::from(*seat)), Some(Some(_))))
    }

    /// Kills the process of a seat.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill(&mut self, seat: u8) -> Result<Child> {
        let mut child = self.set(seat, None).context("it does not run")?;
        child.start_kill()?;
        Ok(child)
    }

    /// Asks the process of a seat to stop.
    ///
    /// # Errors
    /// When there is none.
    pub fn terminate(&mut self, seat: u8) -> Result<Child> {
        let child = self.set(seat, None).context("it does not run")?;
        let id = i32::try_from(child.id().context("it has ended")?)?;
        let id = rustix::process::Pid::from_raw(id).context("no process")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        Ok(child)
    }

    /// The seat that leads, of those that answer, and what it says of itself.
    async fn leading(&self) -> Option<(u8, Value)> {
        for seat in self.seats() {
            if let Ok(status) = self.status(seat).await
                && status["leads"] == true
            {
                return Some((seat, status));
            }
        }
        None
    }

    /// The seat that leads, of those that answer.
    pub async fn leader(&self) -> Option<u8> {
        self.leading().await.map(|(seat, _)| seat)
    }

    /// Waits until one leads and all that run have joined, and gives what the leader says.
    ///
    /// # Errors
    /// When it does not come to that within [`PATIENCE`].
    pub async fn settled(&self) -> Result<Value> {
        until("a settled cluster", PATIENCE, || async {
            Ok(match self.leading().await {
                Some((_, status)) if all_follow(&status) => Probe::Is(status),
                Some((_, status)) => Probe::NotYet(status.to_string()),
                None => Probe::NotYet("nobody leads".to_owned()),
            })
        })
        .await
    }

    /// The term that the leader says it leads in.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub async fn term(&self) -> Result<Option<u64>> {
        Ok(self.settled().await?["term"].as_u64())
    }

    /// Streams of agents, at all that run.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub async fn streams(&self) -> Result<Vec<(u8, usize)>> {
        let mut streams = Vec::new();
        for seat in self.seats() {
            let figures = self.get(seat, "/metrics").await?;
            let value = figures
                .lines()
                .find_map(|line| line.strip_prefix("neap_agent_streams "))
                .context("no neap_agent_streams")?;
            streams.push((seat, value.trim().parse()?));
        }
        Ok(streams)
    }

    async fn status(&self, seat: u8) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.get(seat, "/api/v1/status").await?,
        )?)
    }

    /// What a coordinator answers over HTTP.
    ///
    /// # Errors
    /// When it gives no answer, or that of a failure.
    pub async fn get(&self, seat: u8, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", address(seat, HTTP_PORT));
        let answer = self.http.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// CPU time that those that run have used.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let ids = self.running.iter().flatten().filter_map(Child::id);
        ids.map(|id| Ok(usage(id)?.cpu)).sum()
    }
}

/// Whether every member is a voter whom the leader has heard of just now.
fn all_follow(status: &Value) -> bool {
    let Some(members) = status["members"].as_array() else {
        return false;
    };
    let near = |member: &&Value| {
        member["name"] == status["name"] || member["lag"].as_u64().is_some_and(|lag| lag < 5)
    };
    members.iter().filter(near).count() == usize::from(SEATS)
}
