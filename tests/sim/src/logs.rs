//! What the disks hold, as one who sees them all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use neap_consensus::LeaderId;
use neap_consensus::ports::MemoryDisk;
use neap_coordinator::decide::Command;
use neap_units::Timestamp;

use crate::net::Host;
use crate::sim::COORDINATORS;
use crate::time::{Time, ms};

/// Decision time may be so far ahead of where it began: milliseconds are cut off on the way.
const AHEAD: Duration = ms(50);

/// The log, put together from all disks at all times.
#[derive(Default)]
pub(crate) struct Logs {
    commits: [u64; COORDINATORS],
    /// By index, and then by who proposed it.
    held: BTreeMap<u64, BTreeMap<LeaderId, Held>>,
    /// What some disk says is committed.
    chosen: BTreeMap<u64, LeaderId>,
    /// How far decision time was from the simulation's with the first entry, in microseconds.
    began: Option<i64>,
}

/// The entry that a write rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Basis {
    /// Disks that have it, or had.
    pub(crate) disks: usize,
    /// Decision time of it.
    pub(crate) at: Timestamp,
}

struct Held {
    hosts: BTreeSet<Host>,
    command: Option<Bytes>,
    at: Timestamp,
    /// Targets by name, and the replicas that were decided on.
    replicas: Vec<(String, i32)>,
}

impl Logs {
    /// Looks at a host's disk, where it has changed. Gives what cannot be.
    pub(crate) fn look(
        &mut self,
        host: Host,
        disk: &MemoryDisk,
        now: Time,
        wall_error: Duration,
    ) -> Result<bool, String> {
        let commits = disk.commits();
        if commits == self.commits[host] {
            return Ok(false);
        }
        self.commits[host] = commits;
        let committed = disk.committed().map(|position| position.index);
        let mut runs_ahead = None;
        for entry in disk.entries() {
            let (index, leader) = (entry.position.index, entry.position.leader());
            let held = self.held.entry(index).or_default();
            let known = held.entry(leader).or_insert_with(|| {
                let decided = entry.command.as_ref().map(decided);
                if let Some((at, _)) = &decided {
                    // A decision is older than its entry on the first disk, never younger.
                    let ahead = at.as_millis() * 1_000 - i64::try_from(now).unwrap();
                    let began = *self.began.get_or_insert(ahead);
                    let allowed = began + i64::try_from((AHEAD + wall_error).as_micros()).unwrap();
                    if ahead > allowed {
                        runs_ahead = Some((ahead - began) / 1_000);
                    }
                }
                let (at, replicas) = decided.unwrap_or_default();
                Held {
                    hosts: BTreeSet::new(),
                    command: entry.command.clone(),
                    at,
                    replicas,
                }
            });
            if let Some(millis) = runs_ahead {
                return Err(format!(
                    "decision time of entry {leader}/{index} is {millis} ms ahead"
                ));
            }
            if known.command != entry.command {
                return Err(format!(
                    "entry {leader}/{index} is one thing on coordinator {host}'s disk and another \
                     thing on those of {:?}",
                    known.hosts
                ));
            }
            known.hosts.insert(host);
            if committed.is_none_or(|committed| index > committed) {
                continue;
            }
            let chosen = *self.chosen.entry(index).or_insert(leader);
            if chosen != leader {
                return Err(format!(
                    "entry {index} was committed as one of {chosen}, and coordinator {host}'s disk \
                     has it committed as one of {leader}"
                ));
            }
        }
        Ok(true)
    }

    /// The last entry of `leader` that puts `target` at `replicas`.
    pub(crate) fn basis(&self, leader: LeaderId, target: &str, replicas: i32) -> Option<Basis> {
        let mut entries = self
            .held
            .values()
            .rev()
            .filter_map(|held| held.get(&leader));
        let held = entries.find(|held| {
            let mut decided = held.replicas.iter();
            decided.any(|(name, number)| name == target && *number == replicas)
        })?;
        Some(Basis {
            disks: held.hosts.len(),
            at: held.at,
        })
    }

    /// The last index that is known to be committed.
    pub(crate) fn last_chosen(&self) -> u64 {
        self.chosen.last_key_value().map_or(0, |(index, _)| *index)
    }
}

fn decided(command: &Bytes) -> (Timestamp, Vec<(String, i32)>) {
    let Ok(command) = Command::decode(command) else {
        return Default::default();
    };
    let changes = command.changes.into_iter();
    let records =
        changes.filter_map(|(key, record)| Some((key.name.to_string(), record?.replicas)));
    (command.at, records.collect())
}
