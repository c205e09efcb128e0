//! Seats for members, and waiting for what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use neap_consensus::ports::{CommitHook, Ports};
use neap_consensus::{
    BootClock, Bootstrap, Config, Consensus, OpenError, PeerConfig, PeerTls, ProposeError,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use super::address;
use super::certificates::Authority;
use super::link::Links;
use super::list::{List, ListView, command};

/// How long anything may take. Nothing is asserted about speed: the machine is shared.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A place for one member: its name, its address, its disk.
pub struct Seat {
    pub name: String,
    pub address: SocketAddr,
    pub dir: PathBuf,
    pub tls: watch::Sender<Arc<PeerTls>>,
    pub member: Option<(Consensus, ListView)>,
    pub before_commit: Arc<Mutex<Option<CommitHook>>>,
    pub format: u8,
}

/// Seats, and what they have in common.
pub struct Cluster {
    pub seats: Vec<Seat>,
    pub links: Links,
    pub authority: Authority,
    pub expected: usize,
    pub snapshot_every: u64,
    pub form_after: Duration,
    root: TempDir,
}

impl Cluster {
    /// Seats for a cluster that starts with `expected` members; nobody sits yet.
    pub fn new(expected: usize) -> Self {
        super::log();
        let mut cluster = Self {
            seats: Vec::new(),
            links: Links::default(),
            authority: Authority::new(),
            expected,
            snapshot_every: 200,
            form_after: Duration::MAX,
            root: tempfile::tempdir().unwrap(),
        };
        for _ in 0..expected {
            cluster.add_seat();
        }
        cluster
    }

    /// One more seat.
    pub fn add_seat(&mut self) -> usize {
        let seat = self.seats.len();
        let name = format!("member-{seat}");
        let address = address::next();
        self.links.name(address.to_string(), seat);
        let tls = self.authority.sign(&name, self.authority.pem());
        self.seats.push(Seat {
            dir: self.root.path().join(&name),
            name,
            address,
            tls: watch::Sender::new(tls),
            member: None,
            before_commit: Arc::default(),
            format: 1,
        });
        seat
    }

    /// A cluster whose members have all taken their seats and vote.
    pub async fn formed(expected: usize) -> Self {
        let mut cluster = Self::new(expected);
        for seat in 0..expected {
            cluster.open(seat).await;
        }
        cluster.wait_voters(expected).await;
        cluster
    }

    fn config(&self, seat: usize) -> Config {
        let own = &self.seats[seat];
        let members = self.seats[..self.expected].iter();
        let mut members: Vec<(String, String)> = members
            .map(|seat| (seat.name.clone(), seat.address.to_string()))
            .collect();
        if seat >= self.expected {
            members.push((own.name.clone(), own.address.to_string()));
        }
        let beyond = self.seats.iter().enumerate().skip(self.expected);
        let leaving = beyond.filter(|(other, beyond)| *other != seat && beyond.member.is_some());
        let leaving = leaving.map(|(_, seat)| (seat.name.clone(), seat.address.to_string()));
        Config {
            peer: Some(PeerConfig {
                name: own.name.clone(),
                listen: own.address,
                advertise: own.address.to_string(),
                bootstrap: Bootstrap {
                    members,
                    leaving: leaving.collect(),
                    form_without_minority_after: self.form_after,
                },
                tls: own.tls.subscribe(),
            }),
            snapshot_every: self.snapshot_every,
            ..Config::single(&own.dir, own.format)
        }
    }

    /// Tries to seat a member.
    pub async fn try_open(&mut self, seat: usize) -> Result<(), OpenError> {
        let hook = self.seats[seat].before_commit.clone();
        let ports = Ports {
            transport: self.links.transport(seat),
            before_commit: Some(Arc::new(move || {
                let hook = hook.lock().unwrap().clone();
                hook.map_or(Ok(()), |hook| hook())
            })),
            ..Ports::default()
        };
        let (list, view) = List::new();
        let config = self.config(seat);
        let opened = Consensus::open_on(config, list, Arc::new(BootClock), ports).await?;
        self.seats[seat].member = Some((opened, view));
        Ok(())
    }

    /// Seats a member.
    pub async fn open(&mut self, seat: usize) {
        self.try_open(seat).await.unwrap();
    }

    /// Stops a member without a hand-over and leaves its disk.
    pub async fn close(&mut self, seat: usize) {
        if let Some((member, _)) = self.seats[seat].member.take() {
            member.shutdown().await;
        }
    }

    pub fn member(&self, seat: usize) -> &Consensus {
        &self.seats[seat].member.as_ref().unwrap().0
    }

    pub fn view(&self, seat: usize) -> &ListView {
        &self.seats[seat].member.as_ref().unwrap().1
    }

    /// Seats with a member.
    pub fn open_seats(&self) -> Vec<usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.member.is_some())
            .map(|(seat, _)| seat)
            .collect()
    }

    /// The seat that leads and may act, if there is one at this moment.
    pub fn leader(&self) -> Option<usize> {
        self.open_seats().into_iter().find(|seat| {
            let member = self.member(*seat);
            member.leadership().borrow().is_self && member.lease().is_some()
        })
    }

    /// Waits for a leader that may act.
    pub async fn wait_leader(&self) -> usize {
        wait("a leader", || self.leader()).await
    }

    /// Waits until as many members vote, no more are known, and all who sit know it.
    pub async fn wait_voters(&self, count: usize) -> usize {
        wait("all voters", || {
            let leader = self.leader()?;
            let settled = self.open_seats().into_iter().all(|seat| {
                let status = self.member(seat).status();
                let voters = status.members.iter().filter(|member| member.voter).count();
                status.settled && voters == count && status.members.len() == count
            });
            settled.then_some(leader)
        })
        .await
    }

    /// Proposes at the leader, wherever it is, until it is committed. Where the outcome of an
    /// attempt is unknown, the value may be applied more than once.
    pub async fn propose(&self, value: u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let leader = self.wait_leader().await;
            match self.member(leader).propose(1, command(value)).await {
                Ok(_) => return,
                Err(ProposeError::Stopped { reason }) => panic!("seat {leader} stopped: {reason}"),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until all members that sit have applied the same, and gives the commands.
    pub async fn wait_equal(&self) -> Vec<u64> {
        wait("equal states", || {
            let seats = self.open_seats();
            let last = self.member(self.leader()?).status().last_index;
            let caught_up = seats.iter().all(|seat| {
                let applied = self.member(*seat).status().applied;
                applied.is_some_and(|at| at.index == last)
            });
            let mut states = seats.iter().map(|seat| self.view(*seat).get());
            let first = states.next()?;
            (caught_up && states.all(|state| state == first))
                .then(|| first.into_iter().map(|(_, value)| value).collect())
        })
        .await
    }

    /// Ends all members.
    pub async fn end(mut self) {
        for seat in 0..self.seats.len() {
            self.close(seat).await;
        }
    }
}

/// Waits for a condition, and panics with its name where it does not come.
pub async fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not come within {DEADLINE:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
