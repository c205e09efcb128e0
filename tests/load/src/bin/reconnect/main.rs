//! Thousands of agents whose leader goes: how soon are all of them with the next one?
//!
//! `load-reconnect run ROOT COORDINATOR [AGENTS] [KILLS]`, by tests/load/reconnect, in a network and with a hosts file of
//! its own (`load-reconnect hosts` prints it).
//!
//! Three real coordinators with real certificates, a signing key whose tokens they verify, and in place of an API server
//! one that knows of a pod on each node. The agents run in processes of their own (`load-reconnect agents`), so that their
//! CPU time counts apart. The leader is killed, a few times over, and at the end asked to stop. An agent is back when the
//! next leader, which has verified its token, tells it what to read. Times count from the moment at which the next leader
//! says that it leads.

mod agents;
mod clients;
mod pods;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use neap_load::replicas::api_server::{self, ApiServer};
use neap_load::replicas::coordinators::{Coordinators, PATIENCE};
use neap_load::replicas::names::{self, monotonic};
use neap_load::replicas::tokens::Tokens;
use neap_load::{figure, install_tls_provider, percentile};
use tokio::net::TcpListener;

use clients::Clients;
use pods::pods;

/// Between two looks for the next leader.
const LOOK: Duration = Duration::from_millis(5);
/// Nothing moves for so long before the next fault.
const REST: Duration = Duration::from_secs(3);

/// What one change of leaders was like, in milliseconds.
struct Move {
    /// From the fault to the next leader's saying that it leads.
    known: f64,
    /// From then to each agent's being back.
    back: Vec<f64>,
    /// Dials and streams of agents that came to nothing meanwhile.
    failed: u64,
    servers: Duration,
    agents: Duration,
}

/// How a leader goes.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    HandOver,
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    install_tls_provider()?;
    match words.as_slice() {
        ["hosts"] => {
            print!("{}", names::hosts());
            Ok(())
        }
        ["agents", first, count, root] => {
            let arguments = agents::Arguments {
                first: first.parse()?,
                count: number(count)?,
                root: PathBuf::from(root),
            };
            // An agent's process has one thread for its streams.
            let runtime = std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(agents::run(arguments))
            });
            tokio::task::spawn_blocking(|| runtime.join())
                .await?
                .ok()
                .context("it panicked")?
        }
        ["run", root, program, rest @ ..] => {
            let agents = rest.first().map_or(Ok(5_000), |word| number(word))?;
            let kills = rest.get(1).map_or(Ok(3), |word| number(word))?;
            run(Path::new(root), Path::new(program), agents, kills).await
        }
        _ => bail!("usage: load-reconnect run ROOT COORDINATOR [AGENTS] [KILLS]"),
    }
}

fn number(word: &str) -> Result<usize> {
    word.parse()
        .ok()
        .filter(|n| *n > 0)
        .with_context(|| format!("{word:?} is not a number above 0"))
}

async fn run(root: &Path, program: &Path, count: usize, kills: usize) -> Result<()> {
    let tokens = Tokens::new()?;
    tokens.write(root, count)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    std::fs::write(
        root.join("kubeconfig"),
        api_server::kubeconfig(listener.local_addr()?)?,
    )?;
    let api = ApiServer::new(pods(count), &tokens)?;
    api.serve(listener);
    let mut coordinators = Coordinators::start(program.to_owned(), root.to_owned())?;
    coordinators.settled().await?;
    let bundle = api
        .bundle()
        .context("the coordinators have published no CA")?;
    std::fs::write(root.join("ca.crt"), bundle)?;
    let mut clients = Clients::start(root, count)?;
    clients.all_active(0).await?;
    let mut moves = Vec::new();
    for round in 0..kills {
        quiet(&coordinators, &mut clients, count).await?;
        let seen = change(&mut coordinators, &mut clients, Fault::Kill).await?;
        tell(&format!("kill {}", round + 1), &seen);
        moves.push(seen);
    }
    quiet(&coordinators, &mut clients, count).await?;
    let handed = change(&mut coordinators, &mut clients, Fault::HandOver).await?;
    tell("hand-over", &handed);
    print_figures(count, &moves, &handed);
    Ok(())
}

/// Waits until every agent has its two streams where they are to be, and neither a leader nor an agent has moved for a while.
async fn quiet(coordinators: &Coordinators, clients: &mut Clients, count: usize) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let term = coordinators.term().await?;
        clients.resting();
        tokio::time::sleep(REST).await;
        clients.check()?;
        let rests = clients.resting() && coordinators.term().await? == term;
        let streams = coordinators.streams().await?;
        // One of each at the leader, and one at the replica that would lead next.
        let there = streams.iter().map(|(_, streams)| *streams);
        let all = there.filter(|streams| *streams > 0).eq([count, count]);
        if rests && all {
            println!(
                "term {}, streams by seat: {streams:?}",
                term.unwrap_or_default()
            );
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "two streams of each of {count} agents did not come to rest within {PATIENCE:?}: {streams:?}"
            );
        }
    }
}

/// Has the leader go, waits until all agents are with the next one, and starts another process on its seat.
async fn change(
    coordinators: &mut Coordinators,
    clients: &mut Clients,
    fault: Fault,
) -> Result<Move> {
    let leader = coordinators.leader().await.context("no leader")?;
    let ended = clients.ended().await?;
    let agents = clients.cpu()?;
    let since = monotonic();
    let mut gone = match fault {
        Fault::Kill => coordinators.kill(leader)?,
        Fault::HandOver => coordinators.terminate(leader)?,
    };
    // Those that are left: the dead one's time cannot be read any more.
    let servers = coordinators.cpu()?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while coordinators.leader().await.is_none() {
        if tokio::time::Instant::now() > deadline {
            bail!("no leader within {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    let answered = monotonic();
    let back = clients.all_active(since).await?;
    // An agent may know of the next leader before this process has its answer.
    let known = back.iter().fold(answered, |known, at| known.min(*at));
    let (agents, servers) = (clients.cpu()? - agents, coordinators.cpu()? - servers);
    let later: u64 = clients.ended().await?.values().sum();
    let failed = (later - ended.values().sum::<u64>()).saturating_sub(u64::try_from(back.len())?);
    gone.wait().await?;
    coordinators.restart(leader)?;
    let millis = |nanos: u64| nanos as f64 / 1e6;
    Ok(Move {
        known: millis(known - since),
        back: back.into_iter().map(|at| millis(at - known)).collect(),
        failed,
        servers,
        agents,
    })
}

fn last(times: &[f64]) -> f64 {
    percentile(times, 1.0).unwrap_or_default()
}

fn tell(what: &str, seen: &Move) {
    println!(
        "{what}: next leader after {:.0} ms, agents back after p50 {:.0} ms, p99 {:.0} ms, last {:.0} ms; {} dials in vain; CPU: servers {:.2} s, agents {:.2} s",
        seen.known,
        percentile(&seen.back, 0.5).unwrap_or_default(),
        percentile(&seen.back, 0.99).unwrap_or_default(),
        last(&seen.back),
        seen.failed,
        seen.servers.as_secs_f64(),
        seen.agents.as_secs_f64(),
    );
}

fn print_figures(count: usize, moves: &[Move], handed: &Move) {
    let all: Vec<f64> = moves
        .iter()
        .flat_map(|seen| seen.back.iter().copied())
        .collect();
    let from_kill: Vec<f64> = moves
        .iter()
        .map(|seen| seen.known + last(&seen.back))
        .collect();
    let share = |sum: Duration| sum.as_secs_f64() / moves.len() as f64;
    figure("reconnect_agents", count as f64, "streams");
    figure(
        "reconnect_p50",
        percentile(&all, 0.5).unwrap_or_default(),
        "ms",
    );
    figure(
        "reconnect_p99",
        percentile(&all, 0.99).unwrap_or_default(),
        "ms",
    );
    figure("reconnect_last", last(&all), "ms");
    figure("reconnect_kill_last", last(&from_kill), "ms");
    figure(
        "reconnect_handover_p99",
        percentile(&handed.back, 0.99).unwrap_or_default(),
        "ms",
    );
    figure("reconnect_handover_last", last(&handed.back), "ms");
    let failed: u64 = moves.iter().map(|seen| seen.failed).sum();
    figure(
        "reconnect_failed_dials",
        failed as f64 / moves.len() as f64,
        "per change",
    );
    figure(
        "reconnect_servers_cpu",
        share(moves.iter().map(|seen| seen.servers).sum()),
        "s per change",
    );
    figure(
        "reconnect_agents_cpu",
        share(moves.iter().map(|seen| seen.agents).sum()),
        "s per change",
    );
}
