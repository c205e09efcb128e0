//! Tells the other replicas what this one shows while it leads, and takes what it is told.

use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{Consensus, LeaderId};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::explain::Explain;
use super::history::History;
use super::table::{LeaderTable, Table};
use crate::clock::Clock;
use crate::leading::Leading;

/// Between two tellings.
const EVERY: Duration = Duration::from_secs(1);

/// One replica's end of the leader's table.
pub(crate) struct Sharing {
    pub(crate) consensus: Consensus,
    pub(crate) explain: Arc<Explain>,
    pub(crate) followed: Arc<LeaderTable>,
    pub(crate) leading: watch::Receiver<Leading>,
    pub(crate) history: Arc<History>,
    /// The leader's figures, as the API answers them.
    pub(crate) status: Box<dyn Fn() -> Value + Send + Sync>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Sharing {
    /// Runs until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut shared = self.consensus.shared();
        let mut leading = self.leading.clone();
        let mut due = self.clock.boottime();
        let mut complained = false;
        let mut led: Option<LeaderId> = None;
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
                changed = leading.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = own(&leading.borrow_and_update());
                    if let Some(before) = led.filter(|before| now != Some(*before)) {
                        self.keep_own(before);
                        led = None;
                    }
                }
                () = self.clock.sleep_until(due) => {
                    due = self.clock.boottime() + EVERY;
                    let now = own(&leading.borrow());
                    let alone = self.consensus.status().members.len() < 2;
                    if now.is_some() {
                        self.note(led != now, alone);
                    }
                    led = now;
                    // The only member has nobody to tell.
                    if now.is_some() && !alone {
                        self.consensus.share(self.table().encode());
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

    /// What this replica decided while it led is what it was told last, until another leader tells more.
    fn keep_own(&self, leader: LeaderId) {
        if let Err(error) = self.followed.keep_own(leader, self.table()) {
            tracing::warn!(%error, "what this leader knew cannot be read");
        }
    }

    fn table(&self) -> Table {
        let (targets, changes) = self.explain.tell();
        Table {
            status: (self.status)().to_string(),
            targets,
            changes,
        }
    }
}

/// The id of this replica's leadership.
fn own(leading: &Leading) -> Option<LeaderId> {
    let leadership = &leading.leadership;
    let leader = leadership.leader.as_ref().filter(|_| leadership.is_self);
    leader.map(|leader| leader.id)
}
