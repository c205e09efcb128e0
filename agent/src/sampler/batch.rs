//! Turns what changed into messages for the active stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use neap_proto::node::{self, agent_message::Message};
use tokio::sync::mpsc::error::TrySendError;

use super::mailbox::Outlet;
use crate::clock::BootTime;
use crate::directives::Settings;
use crate::metrics::Metrics;
use crate::series::table::Table;

/// Series in one Replay: at most 16 points of 30 bytes each, so below the contract's 1 MiB.
const SERIES_PER_REPLAY: usize = 1024;

/// How long a batch waits for room on a stream that is full.
const RETRY: Duration = Duration::from_millis(100);

/// What is told once, beside the series.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) listening: Vec<node::PortListening>,
    pub(super) problems: Vec<node::SpoolProblem>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.listening.is_empty() && self.problems.is_empty()
    }
}

/// The state of the active stream, if there is one.
#[derive(Debug, Default)]
pub(super) struct Batches {
    outlet: Option<Outlet>,
    /// Where the replay goes on; none when it is complete.
    replay_from: Option<usize>,
    /// The first Samples of a stream names all pods.
    introduced: bool,
    sequence: u64,
    sent_at: BootTime,
    appeared: BTreeSet<Arc<str>>,
    vanished: BTreeSet<Arc<str>>,
    generation: u64,
    pressed: bool,
    /// The outlet was full: tried again then.
    retry_at: Option<BootTime>,
}

impl Batches {
    pub(super) fn set_outlet(&mut self, outlet: Option<Outlet>, table: &mut Table) {
        if outlet.is_some() {
            table.attach();
        } else {
            table.detach();
        }
        *self = Self {
            replay_from: outlet.as_ref().map(|_| 0),
            outlet,
            generation: self.generation,
            ..Self::default()
        };
    }

    pub(super) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(super) fn pressed(&mut self) {
        self.pressed = true;
    }

    pub(super) fn pod_appeared(&mut self, uid: &Arc<str>) {
        if self.outlet.is_some() {
            self.vanished.remove(uid);
            self.appeared.insert(uid.clone());
        }
    }

    pub(super) fn pod_vanished(&mut self, uid: &Arc<str>) {
        if self.outlet.is_some() && !self.appeared.remove(uid) {
            self.vanished.insert(uid.clone());
        }
    }

    /// When a heartbeat is due, whatever else happens.
    pub(super) fn due(&self, settings: &Settings) -> BootTime {
        match (&self.outlet, self.retry_at) {
            (None, _) => BootTime::from_nanos(u64::MAX),
            (Some(_), Some(retry_at)) => retry_at,
            (Some(_), None) => self.sent_at.plus(settings.heartbeat),
        }
    }

    /// Hands over what there is, if the stream has room. `last`: nothing more is read in this step, so a
    /// heartbeat that is due goes out without anything. `take` gives what is told once,
    /// and, where asked for, the names of all pods.
    pub(super) fn send(
        &mut self,
        now: BootTime,
        last: bool,
        settings: &Settings,
        table: &mut Table,
        metrics: &Metrics,
        take: impl FnOnce(&mut News, &mut Option<Vec<String>>),
    ) {
        let Some(outlet) = self.outlet.clone() else {
            return;
        };
        while let Some(from) = self.replay_from {
            let Some(permit) = self.permit(&outlet, now, table, metrics) else {
                return;
            };
            let (replay, next) = table.replay(from, SERIES_PER_REPLAY, now);
            permit.send(node::AgentMessage {
                message: Some(Message::Replay(replay)),
            });
            self.replay_from = next;
        }
        let mut news = News::default();
        let mut names = (!self.introduced).then(Vec::new);
        let heartbeat = last && now >= self.sent_at.plus(settings.heartbeat);
        let changed = !self.introduced
            || table.has_changes()
            || !self.appeared.is_empty()
            || !self.vanished.is_empty()
            || self.pressed;
        // Room first: what was taken out of the table would be lost without.
        let Some(permit) = self.permit(&outlet, now, table, metrics) else {
            return;
        };
        take(&mut news, &mut names);
        if !changed && !heartbeat && news.is_empty() {
            return;
        }
        let changes = table.take_changes(now);
        let owned = |uids: &mut BTreeSet<Arc<str>>| {
            std::mem::take(uids)
                .iter()
                .map(|uid| (**uid).to_owned())
                .collect::<Vec<_>>()
        };
        let appeared = owned(&mut self.appeared);
        self.sequence += 1;
        let points = changes.counters.len() + changes.gauges.len();
        permit.send(node::AgentMessage {
            message: Some(Message::Samples(node::Samples {
                sequence: self.sequence,
                boottime_ns: now.as_nanos(),
                gone: changes.gone,
                defined: changes.defined,
                counters: changes.counters,
                gauges: changes.gauges,
                listening: news.listening,
                pods_appeared: names.unwrap_or(appeared),
                pods_vanished: owned(&mut self.vanished),
                directives_generation: self.generation,
                pressure_trigger_fired: std::mem::take(&mut self.pressed),
                spool_problems: news.problems,
            })),
        });
        outlet.sent.store(self.sequence, Ordering::Release);
        self.introduced = true;
        self.sent_at = now;
        metrics.batches.inc();
        metrics.points.inc_by(points as u64);
    }

    fn permit<'o>(
        &mut self,
        outlet: &'o Outlet,
        now: BootTime,
        table: &mut Table,
        metrics: &Metrics,
    ) -> Option<tokio::sync::mpsc::Permit<'o, node::AgentMessage>> {
        match outlet.messages.try_reserve() {
            Ok(permit) => {
                self.retry_at = None;
                Some(permit)
            }
            Err(TrySendError::Full(())) => {
                metrics.batches_deferred.inc();
                self.retry_at = Some(now.plus(RETRY));
                None
            }
            Err(TrySendError::Closed(())) => {
                self.set_outlet(None, table);
                None
            }
        }
    }
}
