//! What the agent costs on a full node: 110 pods with 2 containers each, in cgroups and network
//! namespaces of their own, read at 1 s; first idle, then with 20 of them moving under an
//! accept-queue trigger.
//!
//! Prints `agent_cpu_idle` and `agent_cpu_moving` (percent of one core) and `agent_rss` (MiB).
//! Needs root. Everything it makes lies below a cgroup of its own and goes with it.

mod cgroups;
mod coordinator;
mod pod;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use neap_load::{Usage, figure, usage};

use self::cgroups::Cgroups;
use self::coordinator::Coordinator;
use self::pod::Pod;

const PODS: usize = 110;
const MOVING: usize = 20;
const PORT: u16 = 8080;
/// Everything has settled after this: first points are read, rings are filled, streams are open.
const SETTLE: Duration = Duration::from_secs(5);

/// Budgets of DESIGN section 7.
const IDLE_BUDGET: f64 = 0.5;
const MOVING_BUDGET: f64 = 1.2;
const RSS_BUDGET: f64 = 20.0;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["pod"] => pod::serve(PORT),
        ["container"] => pod::contain(),
        [agent] => measure(PathBuf::from(agent), Duration::from_secs(30)),
        [agent, seconds] => {
            let seconds = seconds
                .parse()
                .with_context(|| format!("seconds = {seconds:?}: expected a number"))?;
            measure(PathBuf::from(agent), Duration::from_secs(seconds))
        }
        _ => bail!("usage: load-agent PATH-OF-NEAP-AGENT [SECONDS-PER-PHASE]"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn measure(agent: PathBuf, phase: Duration) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: cgroups and network namespaces can be made by root only");
        return Ok(());
    }
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = measured(agent, phase) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = stop.recv() => bail!("terminated"),
    }
}

async fn measured(agent: PathBuf, phase: Duration) -> Result<()> {
    let cgroups = Cgroups::make()?;
    println!("making {PODS} pods below {cgroups}");
    let mut pods = Vec::with_capacity(PODS);
    for number in 0..PODS {
        pods.push(
            Pod::start(&cgroups, number)
                .await
                .with_context(|| format!("pod {number}"))?,
        );
    }
    let moving: Vec<String> = pods
        .iter()
        .take(MOVING)
        .map(|pod| pod.uid.clone())
        .collect();
    let all: Vec<String> = pods.iter().map(|pod| pod.uid.clone()).collect();
    let mut coordinator = Coordinator::start(&all, &moving, PORT).await?;
    let agent = Agent::start(&agent, &cgroups, &coordinator)?;
    coordinator
        .wait_for_pods(PODS, Duration::from_secs(60))
        .await?;
    coordinator
        .wait_for_backlogs(MOVING, Duration::from_secs(60))
        .await?;

    tokio::time::sleep(SETTLE).await;
    let before = coordinator.received();
    let idle = agent.watch(phase).await?;
    let between = coordinator.received();
    for pod in pods.iter_mut().take(MOVING) {
        pod.move_on()?;
    }
    tokio::time::sleep(SETTLE).await;
    let start = coordinator.received();
    let moving = agent.watch(phase).await?;
    let end = coordinator.received();
    if end.moved - start.moved < MOVING as u64 * phase.as_secs() {
        bail!(
            "only {} backlogs moved: the pods did not do what was to be measured",
            end.moved - start.moved
        );
    }

    println!("idle: {}", between.since(&before, phase));
    println!("moving: {}", end.since(&start, phase));
    figure("agent_cpu_idle", idle.cpu_percent, "percent");
    figure("agent_cpu_moving", moving.cpu_percent, "percent");
    figure("agent_rss", idle.rss_mib.max(moving.rss_mib), "MiB");
    for (name, value, budget) in [
        ("agent_cpu_idle", idle.cpu_percent, IDLE_BUDGET),
        ("agent_cpu_moving", moving.cpu_percent, MOVING_BUDGET),
        ("agent_rss", idle.rss_mib.max(moving.rss_mib), RSS_BUDGET),
    ] {
        if value > budget {
            println!("over budget: {name} {value:.2}, allowed {budget}");
        }
    }
    Ok(())
}

/// The agent as a process of its own.
struct Agent(Child);

struct Watched {
    cpu_percent: f64,
    rss_mib: f64,
}

impl Agent {
    fn start(program: &PathBuf, cgroups: &Cgroups, coordinator: &Coordinator) -> Result<Self> {
        let child = Command::new(program)
            .args(["--node-name", "load", "--http-listen", "127.0.0.1:0"])
            .arg("--coordinator")
            .arg(&coordinator.address)
            .arg("--token-file")
            .arg(&coordinator.token_file)
            .arg("--ca-file")
            .arg(&coordinator.ca_file)
            .arg("--kubelet-cgroup-root")
            .arg(cgroups.name())
            .env(
                "NEAP_LOG",
                std::env::var("NEAP_LOG").unwrap_or_else(|_| "warn".into()),
            )
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }

    async fn watch(&self, phase: Duration) -> Result<Watched> {
        let Usage { cpu: before, .. } = usage(self.0.id())?;
        tokio::time::sleep(phase).await;
        let after = usage(self.0.id())?;
        let used = after.cpu.saturating_sub(before);
        Ok(Watched {
            cpu_percent: 100.0 * used.as_secs_f64() / phase.as_secs_f64(),
            rss_mib: after.rss as f64 / 1024.0 / 1024.0,
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails when it ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
