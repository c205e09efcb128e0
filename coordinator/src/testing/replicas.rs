//! Members of one cluster in this process: real consensus over loopback, with disks in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use neap_consensus::ports::{MemoryDisk, Ports, Storage};
use neap_consensus::{BootClock, Bootstrap, Config, Consensus, PeerConfig, PeerTls};
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::decide::{DecisionTable, FORMAT};

/// How long anything may take. Nothing is asserted about speed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The members, in the order of their names.
pub(crate) struct Replicas(Vec<Consensus>);

/// An address that was given to nobody else. Outgoing connections come from 127.0.0.1, and no other
/// process has this one's id, so nothing takes its ports.
fn address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 | high, middle, low);
    (host, PORT.fetch_add(1, Ordering::Relaxed)).into()
}

impl Replicas {
    /// A cluster of `count` that has a leader.
    pub(crate) async fn formed(count: usize) -> Self {
        let members: Vec<(String, SocketAddr)> = (0..count)
            .map(|seat| (format!("neap-coordinator-{seat}"), address()))
            .collect();
        let named: Vec<(String, String)> = members
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut opened = Vec::new();
        for (name, listen) in members {
            let unused = PeerTls {
                ca: String::new(),
                certificate: String::new(),
                key: String::new(),
            };
            let config = Config {
                peer: Some(PeerConfig {
                    name,
                    listen,
                    advertise: listen.to_string(),
                    bootstrap: Bootstrap {
                        members: named.clone(),
                        leaving: Vec::new(),
                        form_without_minority_after: Duration::MAX,
                    },
                    tls: watch::Sender::new(Arc::new(unused)).subscribe(),
                }),
                ..Config::single("", FORMAT)
            };
            let ports = Ports {
                tls: false,
                storage: Storage::Memory(MemoryDisk::default()),
                ..Ports::default()
            };
            let machine = DecisionTable::new(clock.clone()).machine();
            let member = Consensus::open_on(config, machine, Arc::new(BootClock), ports);
            opened.push(member.await.unwrap());
        }
        let replicas = Self(opened);
        replicas
            .until(|| {
                let all = replicas.0.iter().map(Consensus::status);
                all.into_iter().all(|status| {
                    let voters = status.members.iter().filter(|member| member.voter);
                    status.settled && voters.count() == count
                })
            })
            .await;
        replicas.leader().await;
        replicas
    }

    pub(crate) fn members(&self) -> &[Consensus] {
        &self.0
    }

    /// Whether a member leads and may act.
    pub(crate) fn leads(&self, seat: usize) -> bool {
        let member = &self.0[seat];
        member.leadership().borrow().is_self && member.lease().is_some()
    }

    /// Waits for a leader.
    pub(crate) async fn leader(&self) -> usize {
        let leader = || (0..self.0.len()).find(|seat| self.leads(*seat));
        self.until(|| leader().is_some()).await;
        leader().unwrap_or_default()
    }

    async fn until(&self, mut condition: impl FnMut() -> bool) {
        let reached = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let status: Vec<_> = self.0.iter().map(Consensus::status).collect();
        assert!(
            tokio::time::timeout(DEADLINE, reached).await.is_ok(),
            "not within {DEADLINE:?}: {status:?}"
        );
    }
}
