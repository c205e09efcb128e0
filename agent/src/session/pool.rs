//! Which streams to hold: one to the leader, which takes samples, and one idle to another replica.
//!
//! Decides only; [`super`] acts. Time is handed in.

use std::collections::HashMap;
use std::time::Duration;

use neap_proto::node::LeaderHint;
use tokio::time::Instant;

use super::backoff::Backoff;

/// Number of a stream, never used twice.
pub(super) type LinkId = u64;

/// Addresses whose failures are remembered.
const MAX_REMEMBERED: usize = 64;
/// Replicas of a hint that are taken.
const MAX_REPLICAS: usize = 16;
/// An agent whom a replica tells who leads can wait for a stream to another one: a time by chance, up to this. When a
/// leader dies, each agent loses one of its two streams; those that have to find the next leader go first. Thousands take
/// some seconds to be let in, and until the next failure there is time.
const SPREAD: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Open a stream to an address.
    Open(LinkId, String),
    /// Close a stream.
    Close(LinkId),
    /// Samples go to this stream from now on, or to none.
    Activate(Option<LinkId>),
}

/// An address to dial.
#[derive(Debug)]
struct Wanted {
    address: String,
    /// For the time when another stream fails: samples go on without it.
    spare: bool,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    /// What was dialled, or how the replica calls itself once it said so.
    address: String,
    /// None until the replica answered.
    hint: Option<LeaderHint>,
}

/// The streams that are open or being opened.
#[derive(Debug)]
pub(super) struct Pool {
    bootstrap: String,
    links: Vec<Link>,
    active: Option<LinkId>,
    next_id: LinkId,
    /// When a stream to a replica that need not lead may be opened; none before one is missing.
    spare_at: Option<Instant>,
    failures: HashMap<String, (Backoff, Instant)>,
}

impl Pool {
    /// With the address that is always there to begin with: the Service of the coordinators.
    pub(super) fn new(bootstrap: String) -> Self {
        Self {
            bootstrap,
            links: Vec::new(),
            active: None,
            next_id: 1,
            spare_at: None,
            failures: HashMap::new(),
        }
    }

    /// The stream that takes samples.
    pub(super) fn active(&self) -> Option<LinkId> {
        self.active
    }

    /// A replica said who leads.
    pub(super) fn hinted(&mut self, id: LinkId, mut hint: LeaderHint) {
        hint.replicas.truncate(MAX_REPLICAS);
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return;
        };
        // It answered as it should, so its failures are over.
        self.failures.remove(&link.address);
        if !hint.address.is_empty() {
            link.address.clone_from(&hint.address);
            self.failures.remove(&hint.address);
        }
        link.hint = Some(hint);
    }

    /// A stream ended or could not be opened. `chance` is from 0 to 1. If it was the active one, the
    /// next plan says which is.
    pub(super) fn ended(&mut self, id: LinkId, now: Instant, chance: f64) {
        let Some(at) = self.links.iter().position(|link| link.id == id) else {
            return;
        };
        let link = self.links.swap_remove(at);
        if self.failures.len() >= MAX_REMEMBERED {
            self.failures.retain(|_, (_, until)| *until > now);
        }
        if self.failures.len() < MAX_REMEMBERED || self.failures.contains_key(&link.address) {
            let (backoff, until) = self
                .failures
                .entry(link.address)
                .or_insert((Backoff::default(), now));
            *until = now + backoff.next(chance);
        }
    }

    /// What to do now, and when to ask again if nothing happens before.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        pick: impl Fn(usize) -> usize,
    ) -> (Vec<Action>, Option<Duration>) {
        let mut actions = Vec::new();
        self.choose_active(&mut actions);
        self.close_superfluous(&mut actions);
        let (wanted, enough) = self.wanted_addresses(&pick);
        if enough {
            self.spare_at = None;
            return (actions, None);
        }
        let mut wait: Option<Duration> = None;
        for wanted in wanted {
            let failed = self.failures.get(&wanted.address).map(|(_, until)| *until);
            let spare = wanted.spare.then(|| {
                let at = || now + by_chance(SPREAD, &pick);
                *self.spare_at.get_or_insert_with(at)
            });
            match failed.max(spare).filter(|until| *until > now) {
                Some(until) => {
                    let pause = until - now;
                    wait = Some(wait.map_or(pause, |least| least.min(pause)));
                }
                None => {
                    let id = self.next_id;
                    self.next_id += 1;
                    self.links.push(Link {
                        id,
                        address: wanted.address.clone(),
                        hint: None,
                    });
                    actions.push(Action::Open(id, wanted.address));
                    self.spare_at = None;
                    wait = None;
                    break;
                }
            }
        }
        (actions, wait)
    }

    /// The stream whose replica says that it leads, by the largest term.
    fn choose_active(&mut self, actions: &mut Vec<Action>) {
        let leads = |link: &&Link| link.hint.as_ref().is_some_and(|hint| hint.is_leader);
        let term = |link: &&Link| {
            (
                link.hint.as_ref().map_or(0, |hint| hint.term),
                Some(link.id) == self.active,
            )
        };
        let leader = self
            .links
            .iter()
            .filter(leads)
            .max_by_key(term)
            .map(|link| link.id);
        if leader != self.active {
            self.active = leader;
            actions.push(Action::Activate(leader));
        }
    }

    /// One idle stream beside the active one is enough, and two to the same replica are one too
    /// many.
    fn close_superfluous(&mut self, actions: &mut Vec<Action>) {
        let active = self.active;
        let mut kept: Vec<(LinkId, String)> = Vec::new();
        let mut order: Vec<usize> = (0..self.links.len()).collect();
        // The active one first, then the ones that answered, then the newest.
        order.sort_by_key(|at| {
            self.links.get(*at).map(|link| {
                (
                    Some(link.id) != active,
                    link.hint.is_none(),
                    std::cmp::Reverse(link.id),
                )
            })
        });
        for at in order {
            let Some(link) = self.links.get(at) else {
                continue;
            };
            let double = kept.iter().any(|(_, address)| *address == link.address);
            let room = if active.is_some() { 2 } else { 3 };
            if double || kept.len() >= room {
                actions.push(Action::Close(link.id));
            } else {
                kept.push((link.id, link.address.clone()));
            }
        }
        self.links
            .retain(|link| kept.iter().any(|(id, _)| *id == link.id));
    }

    /// Addresses to dial, best first, without those that have a stream; and whether there are
    /// enough streams.
    fn wanted_addresses(&self, pick: &impl Fn(usize) -> usize) -> (Vec<Wanted>, bool) {
        let mut wanted: Vec<Wanted> = Vec::new();
        let best = self
            .links
            .iter()
            .filter_map(|link| link.hint.as_ref())
            .max_by_key(|hint| hint.term);
        let mut replicas = best.map(|hint| hint.replicas.clone()).unwrap_or_default();
        if !replicas.is_empty() {
            let middle = pick(replicas.len()) % replicas.len();
            replicas.rotate_left(middle);
        }
        let unanswered = self.links.iter().any(|link| link.hint.is_none());
        let enough = match (self.active, best) {
            // An idle one is wanted where there is another replica.
            (Some(_), _) => self.links.len() >= 2,
            (None, Some(hint)) if !hint.leader_address.is_empty() => {
                wanted.push(Wanted {
                    address: hint.leader_address.clone(),
                    spare: false,
                });
                self.links
                    .iter()
                    .any(|link| link.address == hint.leader_address)
            }
            // No leader is known: the streams there are will say. A second one widens the view.
            (None, Some(_)) => self.links.len() >= 2 || unanswered,
            (None, None) => unanswered,
        };
        if self.active.is_none() {
            replicas.push(self.bootstrap.clone());
        }
        // Without a replica that has answered, none is to spare.
        let spare = best.is_some();
        wanted.extend(
            replicas
                .into_iter()
                .map(|address| Wanted { address, spare }),
        );
        wanted.retain(|wanted| !self.links.iter().any(|link| link.address == wanted.address));
        (wanted, enough)
    }
}

/// From nothing to `most`, in milliseconds.
fn by_chance(most: Duration, pick: &impl Fn(usize) -> usize) -> Duration {
    let millis = usize::try_from(most.as_millis()).unwrap_or(usize::MAX);
    Duration::from_millis(u64::try_from(pick(millis)).unwrap_or_default())
}

#[cfg(test)]
#[path = "pool_test.rs"]
mod tests;
