//! The façade.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use openraft::{Instant as _, ServerState};
use tokio::sync::{Mutex, mpsc, watch};

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::error::{HandOverError, LeaveError, OpenError, ProposeError, RemoveError};
use crate::leadership::{Leadership, Lease};
use crate::log_store::{LogStore, RedbFile, Writer};
use crate::machine::Machine;
use crate::net::{Channels, TlsSource};
use crate::node::{Member, Node, Shared};
use crate::ports::{Ports, Storage};
use crate::position::{LogPosition, NodeId};
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::StateMachine;
use crate::status::{MemberStatus, Role, Status};
use crate::types::{Command, leader_id, position};
use crate::{bootstrap, election, hand_over, machine, membership, net, void};

/// Losses of connections that may wait for the task that follows them.
const LOSSES: usize = 64;
/// At shutdown, tasks and then the log's file may each take this long.
const CLOSE: Duration = Duration::from_secs(5);
/// A leader that was not heard for so long is none.
const SILENT: Duration = Duration::from_secs(5);

/// One open member. Cheap to clone; all clones are the same member. It runs until
/// [`shutdown`](Consensus::shutdown), even when all clones are dropped.
#[derive(Clone)]
pub struct Consensus {
    node: Arc<Node>,
    /// Resolves once the log's file is closed; taken by the first shutdown.
    closed: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl Consensus {
    /// Opens the member in `config.data_dir`, listens for peers and starts to form, join or rejoin
    /// its cluster. Returns after the local work; follow [`leadership`](Self::leadership) for the
    /// rest.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        config: Config,
        state_machine: impl StateMachine,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_on(config, state_machine, clock, Ports::default()).await
    }

    /// [`open`](Self::open) on another network or disk than the machine's.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_on(
        config: Config,
        state_machine: impl StateMachine,
        clock: Arc<dyn Clock>,
        ports: Ports,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let (log, identity, store) = open_storage(&config, &ports)?;
        let closed = log.closed();
        let machine = Machine::new(state_machine, store);

        let tls = match &config.peer {
            Some(peer) if ports.tls => {
                let source = TlsSource::new(peer.tls.clone());
                let source = source.map_err(|error| ConfigError::certificates(&error))?;
                Some(Arc::new(source))
            }
            _ => None,
        };
        let listener = match &config.peer {
            None => None,
            Some(peer) => {
                let listening = ports.transport.listen(peer.listen).await;
                Some(listening.map_err(|source| OpenError::Io {
                    what: format!("cannot listen for peers on {}", peer.listen),
                    source,
                })?)
            }
        };
        let channels = Channels::new(ports.transport.clone(), tls.clone());
        let (lost, losses) = mpsc::channel(LOSSES);
        let node = Node::new(config, clock, log.reader(), log.stats(), channels, lost);
        match identity {
            Some(identity) => bootstrap::run(&node, log, machine, identity).await?,
            None => {
                let draw = ports.draw.map_or_else(draw, Ok)?;
                node.tasks
                    .spawn(bootstrap::settle(node.clone(), log, machine, draw));
            }
        }
        node.tasks.spawn(election::follow(node.clone(), losses));
        if let Some(listener) = listener {
            node.tasks.spawn(net::serve(node.clone(), listener, tls));
        }
        Ok(Self {
            node,
            closed: Arc::new(Mutex::new(Some(Box::pin(closed)))),
        })
    }

    /// Proposes one command, which is in this format, and waits until it is committed and applied
    /// here. On the leader only.
    ///
    /// # Errors
    /// See [`ProposeError`]; after `Lost` and `Timeout` the outcome is unknown, so commands must be
    /// safe to repeat.
    pub async fn propose(&self, format: u8, command: Bytes) -> Result<LogPosition, ProposeError> {
        if command.len() > Config::MAX_COMMAND {
            return Err(ProposeError::TooLarge {
                size: command.len(),
                limit: Config::MAX_COMMAND,
            });
        }
        if let Some(reason) = self.node.stop_reason() {
            return Err(ProposeError::Stopped { reason });
        }
        let Some(member) = self.node.member() else {
            return Err(ProposeError::NotLeader { hint: None });
        };
        let readable = self.format();
        if format > readable {
            return Err(ProposeError::Format { format, readable });
        }
        let after = self.node.config.timings.propose;
        let written = member.raft.client_write(Command::App(command));
        match tokio::time::timeout(after, written).await {
            Err(_) => Err(ProposeError::Timeout { after }),
            Ok(Ok(written)) => Ok(position(&written.log_id)),
            Ok(Err(RaftError::Fatal(fatal))) => Err(ProposeError::Stopped {
                reason: self.node.stop_reason().unwrap_or_else(|| fatal.to_string()),
            }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                // While leadership is on its way, the one it goes to does not lead yet.
                let leader = self.node.leadership.borrow().leader.clone();
                let other = leader.filter(|leader| !self.node.is_self(leader.id.node));
                let hint = other.filter(|_| to.reason == ForwardReason::NotLeader);
                Err(ProposeError::NotLeader { hint })
            }
            Ok(Err(RaftError::APIError(_))) => Err(ProposeError::Lost),
        }
    }

    /// Who leads, as this member knows it, and each change of that.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node.leadership.subscribe()
    }

    /// The lease of this member's own leadership, or `None` where it has none. Costs a few atomic
    /// reads; check it before each external write.
    pub fn lease(&self) -> Option<Lease> {
        self.node.lease.get(&*self.node.clock)
    }

    /// Latest version of the command format that every voter reads; nothing later can be proposed. 1
    /// until the cluster is known.
    pub fn format(&self) -> u8 {
        let Some(member) = self.node.member() else {
            return 1;
        };
        let voters = membership::current(member);
        machine::read_by_all(voters.voter_ids(), &member.formats.load())
    }

    /// Says whether this member is fit to lead (it is at first). An unfit one takes no hand-over
    /// and goes on voting.
    pub fn set_fit(&self, fit: bool) {
        self.node
            .fit
            .store(fit, std::sync::atomic::Ordering::Relaxed);
    }

    /// Hands leadership to the fit voter that is closest in the log, and waits until there is a new
    /// leader, which it gives. Once a successor is chosen this member has no lease and proposes
    /// nothing any more, whatever becomes of it.
    ///
    /// # Errors
    /// See [`HandOverError`]. After `NoSuccessor` this member leads on; after `Timeout` there will
    /// be an election.
    pub async fn hand_over(&self) -> Result<NodeId, HandOverError> {
        hand_over::hand_over(&self.node).await
    }

    /// Leaves the cluster for good: hands leadership over where this member has it, and waits until
    /// the leader has removed it. For a replica that will not come back.
    ///
    /// # Errors
    /// See [`LeaveError`]; the member is then still in the cluster.
    pub async fn leave(&self, within: Duration) -> Result<(), LeaveError> {
        hand_over::leave(&self.node, within).await
    }

    /// Removes another member, one that is gone for good and cannot [`leave`](Self::leave) any more. On
    /// the leader only; changes of members go one at a time. A member that is none any more counts as
    /// removed; one that comes back with its disk is taken in again.
    ///
    /// # Errors
    /// See [`RemoveError`]. Refused while most of the voters that would stay are not heard of.
    pub async fn remove(&self, gone: NodeId) -> Result<(), RemoveError> {
        membership::remove(&self.node, gone.0).await
    }

    /// Stops the member in order: raft, the peer network, the log. Without a hand-over the others
    /// elect a leader after the lease.
    pub async fn shutdown(&self) {
        self.node.close();
        if let Some(member) = self.node.member() {
            drop(member.raft.shutdown().await);
        }
        self.node.tasks.close();
        drop(tokio::time::timeout(CLOSE, self.node.tasks.wait()).await);
        if let Some(closed) = self.closed.lock().await.take()
            && tokio::time::timeout(CLOSE, closed).await.is_err()
        {
            tracing::warn!(after = ?CLOSE, "the log's last commit is still under way");
        }
    }

    /// What the member is and knows.
    pub fn status(&self) -> Status {
        let mut status = Status {
            fsync: self.node.stats.get(),
            log_bytes: self.node.log.bytes(),
            stopped: self.node.stop_reason(),
            ..Status::default()
        };
        if let Some(member) = self.node.member() {
            describe(&mut status, member);
            let heard = self.node.heard.borrow().map(|heard| heard.at.elapsed());
            status.leader_heard = heard.filter(|_| status.role != Role::Leader);
            // By its disk it may still know a leader of old.
            let is_led = heard.is_some_and(|ago| ago < SILENT) || status.role == Role::Leader;
            let stranger = self.node.stranger.borrow().clone();
            status.stranger = stranger.filter(|_| !is_led);
        }
        if status.stopped.is_some() {
            status.role = Role::Stopped;
        }
        status
    }

    /// Gives the leader's table of soft state (values and reasons, outside the log) to the other
    /// members; each call replaces the last table. On other members it does nothing.
    pub fn share(&self, table: Bytes) {
        self.node.sharing.send_replace(table);
    }

    /// The latest table that a leader shared, on every member.
    pub fn shared(&self) -> watch::Receiver<Option<Shared>> {
        self.node.shared.subscribe()
    }

    /// Resolves when the member has stopped, with the reason. The process must then exit.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.node.stopped.subscribe();
        match stopped.wait_for(|reason| reason.is_some()).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => String::new(),
        }
    }
}

type Opened = (LogStore, Option<crate::codec::Identity>, SnapshotStore);

fn open_storage(config: &Config, ports: &Ports) -> Result<Opened, OpenError> {
    let disk = match &ports.storage {
        Storage::Disk => None,
        Storage::Memory(disk) => Some(disk),
    };
    if let Some(disk) = disk {
        let time = disk.clone();
        let (log, identity) = LogStore::open(disk.log.clone(), |file| {
            Ok(Writer::task(file, move || time.commit_time()))
        })?;
        return Ok((log, identity, SnapshotStore::Memory(disk.snapshot.clone())));
    }
    let dir = &config.data_dir;
    let failed = |source| OpenError::Io {
        what: format!("cannot prepare data directory {}", dir.display()),
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    // Opened first: redb's lock keeps this process away from what another one is using.
    let mut file = RedbFile::open(dir)?;
    if void::is_marked(dir) {
        drop(file);
        tracing::warn!(dir = %dir.display(), "removing the void data of a replaced member");
        void::clear(dir).map_err(failed)?;
        file = RedbFile::open(dir)?;
    }
    let store = SnapshotStore::open(dir)?;
    let hook = ports.before_commit.clone();
    let (log, identity) = LogStore::open(file, |file| Writer::thread(file, hook))?;
    Ok((log, identity, store))
}

/// A random number from the system.
fn draw() -> Result<u64, OpenError> {
    let mut bytes = [0; 8];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match provider.secure_random.fill(&mut bytes) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(_) => Err(OpenError::Start(
            "the system gives no random numbers".into(),
        )),
    }
}

fn describe(status: &mut Status, member: &Member) {
    let metrics = member.raft.metrics();
    // A copy: openraft's core waits for whoever holds the guard.
    let seen = metrics.borrow_watched().clone();
    status.cluster = member.identity.cluster.clone();
    status.node = Some(NodeId(member.identity.node));
    status.role = match seen.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    };
    status.term = seen.current_term;
    status.leader = seen.vote.committed.then(|| leader_id(&seen.vote.leader_id));
    status.last_index = seen.last_log_index.unwrap_or(0);
    status.committed_index = seen.local_committed.map_or(0, |id| id.index);
    status.applied = seen.last_applied.as_ref().map(position);
    status.snapshot_index = seen.snapshot.map_or(0, |id| id.index);
    status.purged_index = seen.purged.map_or(0, |id| id.index);
    let membership = seen.membership_config.membership();
    status.settled = seen.membership_config == seen.committed_membership_config
        && membership.get_joint_config().len() == 1;
    let sets = membership.get_joint_config();
    status.votes = !sets.is_empty() && sets.iter().all(|set| set.contains(&member.identity.node));
    let voters: Vec<u64> = membership.voter_ids().collect();
    let members = membership.nodes().map(|(id, peer)| {
        let matched = seen.replication.as_ref().and_then(|known| known.get(id));
        let matched = matched.map(|id| id.as_ref().map_or(0, |id| id.index + 1));
        let acked = seen
            .heartbeat
            .as_ref()
            .and_then(|known| known.get(id).copied().flatten());
        let log_end = seen.last_log_index.map_or(0, |index| index + 1);
        MemberStatus {
            node: NodeId(*id),
            name: peer.name.clone(),
            address: peer.address.clone(),
            voter: voters.contains(id),
            lag: matched.map(|matched| log_end.saturating_sub(matched)),
            last_ack: acked.map(|at| at.elapsed()),
        }
    });
    status.members = members.collect();
}
