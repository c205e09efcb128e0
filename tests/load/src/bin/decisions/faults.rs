//! Faults of the leader, one after the other, and the time to the next leader's write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use neap_e2e::{Probe, until};
use neap_load::replicas::api_server::{self, ApiServer};
use neap_load::replicas::coordinators::{Coordinators, PATIENCE};
use neap_load::replicas::names::{SEATS, coordinator, monotonic};
use neap_load::replicas::tokens::Tokens;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Child;

use crate::agent::Agent;
use crate::scales::{BOUNDED, CROSSING, EACH, Scales, Write, bounds, pods};

/// A PATCH that has not come by then is missing.
const MISSING: Duration = Duration::from_secs(10);
/// Nothing happens for so long before a fault.
const REST: Duration = Duration::from_millis(300);
/// So often it is tried to find leader and agent at rest.
const ATTEMPTS: usize = 10;
/// A member that was silent for longer is not there.
const SILENT_MILLIS: u64 = 1_000;
/// While leadership is handed over, one signal after the other crosses.
const CROSS_EACH: Duration = Duration::from_millis(20);
/// After so many faults the load of the bounded targets goes from one side to the other.
const TURN: usize = 8;

/// The leader, and who follows it.
struct Roles {
    leader: u8,
    successor: u8,
    term: u64,
}

/// A signal that crossed: the target, the replicas that are wanted now, and when.
struct Crossed {
    target: usize,
    wanted: i32,
    at: u64,
}

/// Everything that takes part.
pub(crate) struct Bench {
    root: PathBuf,
    tokens: Tokens,
    coordinators: Coordinators,
    scales: Scales,
    agent: Agent,
    /// What each of the crossing targets' queues asks for.
    wanted: Vec<i32>,
    turn: usize,
    faults: usize,
}

impl Bench {
    /// Three coordinators that have formed a cluster and decide.
    pub(crate) async fn start(root: &Path, program: &Path) -> Result<Self> {
        let tokens = Tokens::new()?;
        tokens.write(root, 1)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        std::fs::write(
            root.join("kubeconfig"),
            api_server::kubeconfig(listener.local_addr()?)?,
        )?;
        let rest = ApiServer::new(pods(), &tokens)?;
        let scales = Scales::start(listener, rest.clone());
        let coordinators = Coordinators::start(program.to_owned(), root.to_owned())?;
        coordinators.settled().await?;
        let bundle = rest.bundle();
        let bundle = bundle.context("the coordinators have published no CA")?;
        std::fs::write(root.join("ca.crt"), bundle)?;
        let agent = Agent::new(root)?;
        for target in 0..CROSSING {
            agent.set(target, connections(1));
        }
        let mut bench = Self {
            root: root.to_owned(),
            tokens,
            coordinators,
            scales,
            agent,
            wanted: vec![1; CROSSING],
            turn: 0,
            faults: 0,
        };
        bench.ready().await?;
        // Shows that all is well before it is disturbed.
        for _ in 0..CROSSING {
            let crossed = bench.cross();
            bench.written(&crossed).await?;
        }
        bench.bounded(false).await?;
        Ok(bench)
    }

    /// Waits until all coordinators are voters that are up to date, with warm watches, and the agent has its two streams.
    async fn ready(&mut self) -> Result<Roles> {
        self.scales.check()?;
        // A token lives for an hour, and many faults take longer.
        self.tokens.write(&self.root, 1)?;
        for _ in 0..ATTEMPTS {
            let roles = self.settled().await?;
            self.agent.reconnect(roles.successor).await?;
            self.streams(&roles).await?;
            tokio::time::sleep(REST).await;
            let after = self.settled().await?;
            // On a loaded machine leadership may move without a fault.
            if after.term == roles.term && after.successor == roles.successor {
                return Ok(roles);
            }
        }
        bail!("leadership did not come to rest in {ATTEMPTS} attempts")
    }

    /// Waits until the agent has a stream to the leader, which has told what to read, and one to its successor.
    async fn streams(&self, roles: &Roles) -> Result<()> {
        until("the agent's two streams", PATIENCE, || async {
            let streams = self.coordinators.streams().await?;
            let there = streams.iter().all(|(seat, count)| {
                let wanted = [roles.leader, roles.successor].contains(seat);
                *count == usize::from(wanted)
            });
            Ok(if there && self.agent.directed() {
                Probe::Is(())
            } else {
                Probe::NotYet(format!("by seat: {streams:?}"))
            })
        })
        .await
    }

    async fn settled(&self) -> Result<Roles> {
        let coordinators = &self.coordinators;
        until("three voters that are up to date", PATIENCE, || async {
            let mut all = Vec::new();
            for seat in 0..SEATS {
                let status = coordinators.get(seat, "/api/v1/status").await?;
                let status: Value = serde_json::from_str(&status)?;
                coordinators.get(seat, "/readyz").await?;
                all.push(status);
            }
            Ok(match roles(&all) {
                Ok(roles) => Probe::Is(roles),
                Err(why) => Probe::NotYet(format!("{why:#}")),
            })
        })
        .await
    }

    /// The signal of the next target crosses: one more replica is wanted.
    fn cross(&mut self) -> Crossed {
        let target = self.turn % CROSSING;
        self.turn += 1;
        let wanted = self.wanted.get_mut(target).map_or(1, |wanted| {
            *wanted += 1;
            *wanted
        });
        let at = monotonic();
        self.agent.set(target, connections(wanted));
        Crossed { target, wanted, at }
    }

    async fn written(&self, crossed: &Crossed) -> Result<Write> {
        self.scales
            .written(crossed.target, crossed.wanted, MISSING)
            .await
    }

    /// The loads of the bounded targets ask for more than their most, or less than their least; waits until they have
    /// what is allowed.
    async fn bounded(&self, high: bool) -> Result<()> {
        self.turn_bounded(high);
        for target in CROSSING..CROSSING + BOUNDED {
            let (least, most) = bounds(target);
            let wanted = if high { most } else { least };
            until("a bounded target at its bound", PATIENCE, || async {
                let replicas = self.scales.replicas(target);
                Ok(if replicas == wanted {
                    Probe::Is(())
                } else {
                    Probe::NotYet(format!("{replicas} replicas and not {wanted}"))
                })
            })
            .await?;
        }
        Ok(())
    }

    fn turn_bounded(&self, high: bool) {
        for target in CROSSING..CROSSING + BOUNDED {
            let (_, most) = bounds(target);
            let connections = if high { connections(2 * most) } else { 0 };
            self.agent.set(target, connections);
        }
    }

    /// Before each fault.
    async fn prepare(&mut self) -> Result<Roles> {
        self.faults += 1;
        if self.faults.is_multiple_of(TURN) {
            self.turn_bounded(!(self.faults / TURN).is_multiple_of(2));
        }
        self.ready().await
    }

    /// Kills the leader. Gives the time to the next one's write for a target whose signal crosses after that, milliseconds.
    pub(crate) async fn kill(&mut self) -> Result<f64> {
        let Roles { leader, term, .. } = self.prepare().await?;
        let since = monotonic();
        let gone = self.coordinators.kill(leader)?;
        let crossed = self.cross();
        let write = self.written(&crossed).await;
        let what = || format!("{} killed in term {term}", coordinator(leader));
        let write = write.with_context(what)?;
        ensure!(
            write.leader.0 > term,
            "{}: written by the one that was killed: {write:?}",
            what()
        );
        self.replace(leader, gone).await?;
        Ok(millis(write.at.saturating_sub(since)))
    }

    /// Asks the leader to stop while one signal after the other crosses. Gives the time to the first write of the next
    /// leader, and the longest time that a signal waited for its write, milliseconds.
    pub(crate) async fn hand_over(&mut self) -> Result<(f64, f64)> {
        let Roles { leader, term, .. } = self.prepare().await?;
        let since = monotonic();
        let gone = self.coordinators.terminate(leader)?;
        let mut all = Vec::new();
        let first = loop {
            if let Some(write) = self.scales.first_above(term) {
                break write;
            }
            if all.len() < CROSSING {
                all.push(self.cross());
            }
            if millis(monotonic().saturating_sub(since)) > MISSING.as_secs_f64() * 1e3 {
                bail!(
                    "{} was asked to stop in term {term}: no PATCH of another leader within {MISSING:?}",
                    coordinator(leader)
                );
            }
            tokio::time::sleep(CROSS_EACH).await;
        };
        let mut longest = 0;
        for crossed in &all {
            let write = self.written(crossed).await?;
            longest = longest.max(write.at.saturating_sub(crossed.at));
        }
        self.replace(leader, gone).await?;
        Ok((millis(first.at.saturating_sub(since)), millis(longest)))
    }

    /// Waits until a process has ended, and starts another on its seat.
    async fn replace(&mut self, seat: u8, mut gone: Child) -> Result<()> {
        let ended = tokio::time::timeout(PATIENCE, gone.wait()).await;
        ended.with_context(|| format!("{} does not end", coordinator(seat)))??;
        self.coordinators.restart(seat)
    }

    /// What must hold after all faults together.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.ready().await?;
        for (target, wanted) in self.wanted.iter().enumerate() {
            let replicas = self.scales.replicas(target);
            ensure!(
                replicas == *wanted,
                "target {target} has {replicas} replicas at the end, and {wanted} are asked for"
            );
        }
        // Both bounds held, and not for want of a load beyond them.
        for high in [true, false] {
            self.bounded(high).await?;
        }
        self.scales.check()?;
        let (writes, refused) = self.scales.counts();
        println!(
            "checked {writes} writes of scales over {} faults, {refused} more on former versions were refused",
            self.faults
        );
        Ok(())
    }
}

/// A queue that asks for so many replicas: just below what one more would take, so that it crosses at once.
fn connections(replicas: i32) -> u64 {
    EACH * u64::from(replicas.unsigned_abs()) - 2
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Who leads and who would next, if all is well with all of them.
fn roles(all: &[Value]) -> Result<Roles> {
    let mut leaders = all.iter().filter(|status| status["leads"] == true);
    let leader = leaders.next().context("nobody leads")?;
    ensure!(leaders.next().is_none(), "two lead");
    let name = &leader["name"];
    for status in all {
        let known = &status["leader"]["name"];
        ensure!(known == name, "{} follows {known}", status["name"]);
    }
    let members = leader["members"].as_array().context("no members")?;
    ensure!(members.len() == all.len(), "members: {members:?}");
    let near = |member: &Value| {
        let lag = member["lag"].as_u64().is_some_and(|lag| lag <= 2);
        let silent = member["silentMillis"].as_u64();
        lag && silent.is_some_and(|silent| silent < SILENT_MILLIS)
    };
    for member in members {
        let there = member["name"] == *name || near(member);
        ensure!(member["voter"] == true && there, "members: {members:?}");
    }
    // They stand in the order of elections.
    let mut others = members.iter().filter(|member| member["name"] != *name);
    let successor = others.next().context("nobody follows")?;
    Ok(Roles {
        leader: seat(name)?,
        successor: seat(&successor["name"])?,
        term: leader["term"].as_u64().context("no term")?,
    })
}

fn seat(name: &Value) -> Result<u8> {
    let mut seats = 0..SEATS;
    seats
        .find(|seat| *name == coordinator(*seat))
        .with_context(|| format!("{name} has no seat"))
}
