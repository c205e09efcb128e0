//! Tells the other replicas what this one shows while it leads, and takes what it is told.

use std::sync::Arc;
use std::time::Duration;

use neap_consensus::Consensus;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::explain::Explain;
use super::history::History;
use super::table::{LeaderTable, Table};
use crate::clock::Clock;

/// Between two tellings.
const EVERY: Duration = Duration::from_secs(1);

/// One replica's end of the leader's table.
pub(crate) struct Sharing {
    pub(crate) consensus: Consensus,
    pub(crate) explain: Arc<Explain>,
    pub(crate) followed: Arc<LeaderTable>,
    pub(crate) history: Arc<History>,
    /// The leader's figures, as the API answers them.
    pub(crate) status: Box<dyn Fn() -> Value + Send + Sync>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Sharing {
    /// Runs until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut shared = self.consensus.shared();
        let mut due = self.clock.boottime();
        let mut complained = false;
        let mut led = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = shared.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let told = shared.borrow_and_update().clone();
                    // A leader hears itself too.
                    let told = told.filter(|told| self.consensus.status().node != Some(told.from.node));
                    let Some(told) = told else { continue };
                    let taken = self.followed.take(told.from, &told.table);
                    match taken {
                        Err(error) if !complained => {
                            complained = true;
                            tracing::warn!(%error, leader = %told.from, "the leader's table cannot be read");
                        }
                        Err(_) => {}
                        Ok(()) => complained = false,
                    }
                }
                () = self.clock.sleep_until(due) => {
                    due = self.clock.boottime() + EVERY;
                    let leads = self.consensus.leadership().borrow().is_self;
                    let alone = self.consensus.status().members.len() < 2;
                    if leads {
                        self.note(!led, alone);
                    }
                    led = leads;
                    // The only member has nobody to tell.
                    if leads && !alone {
                        self.tell();
                    }
                }
            }
        }
    }

    /// Notes that this replica decides; since now, where it `begins`.
    fn note(&self, begins: bool, alone: bool) {
        let now = self.clock.wall();
        if begins && !alone {
            self.history.leader_changed(now);
        }
        self.history.heard(now, alone);
    }

    fn tell(&self) {
        let (targets, changes) = self.explain.tell();
        let table = Table {
            status: (self.status)().to_string(),
            targets,
            changes,
        };
        self.consensus.share(table.encode());
    }
}
