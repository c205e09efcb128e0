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
/// An agent whom a replica tells who leads can wait for a stream to another one: this long, and a time by chance up to
/// [`SPREAD`] more. When a leader dies, each agent loses one of its two streams; those that have to find the next leader go
/// first. Thousands take some seconds to be let in, and until the next failure there is time.
const GIVE_WAY: Duration = Duration::from_secs(3);
const SPREAD: Duration = Duration::from_secs(10);
/// One that has a second stream, to a replica that is less likely to lead next, has more time still.
const BETTER: Duration = Duration::from_secs(60);

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

/// What an address is dialled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// To find the leader.
    Leader,
    /// For the time when the other stream fails: samples go on without it.
    Spare,
    /// In the place of a spare one: its replica is likelier to lead next.
    Better,
}

/// An address to dial.
#[derive(Debug)]
struct Wanted {
    address: String,
    need: Need,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    /// What was dialled, or how the replica calls itself once it said so.
    address: String,
    need: Need,
    /// None until the replica answered.
    hint: Option<LeaderHint>,
    /// The leader that it named last, by term and address. That it knows none since makes no former one a leader again.
    named: Option<(u64, String)>,
}

/// The streams that are open or being opened.
#[derive(Debug)]
pub(super) struct Pool {
    bootstrap: String,
    links: Vec<Link>,
    active: Option<LinkId>,
    next_id: LinkId,
    /// When a stream that is not to find the leader may be opened; none before one is missing.
    later: Option<(Need, Instant)>,
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
            later: None,
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
        // Elected after it failed.
        if link
            .hint
            .as_ref()
            .is_some_and(|before| before.term < hint.term)
        {
            self.failures.remove(&hint.leader_address);
        }
        let began_anew = |(term, _): &(u64, String)| *term > hint.term;
        if !hint.leader_address.is_empty() {
            link.named = Some((hint.term, hint.leader_address.clone()));
        } else if link.named.as_ref().is_some_and(began_anew) {
            link.named = None;
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
        let others_say = self.links.iter().any(|link| link.hint.is_some());
        let first = if Some(id) == self.active && others_say {
            Backoff::after_loss()
        } else {
            Backoff::default()
        };
        if self.failures.len() >= MAX_REMEMBERED {
            self.failures.retain(|_, (_, until)| *until > now);
        }
        if self.failures.len() < MAX_REMEMBERED || self.failures.contains_key(&link.address) {
            let (backoff, until) = self.failures.entry(link.address).or_insert((first, now));
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
        let wanted = self.wanted(&pick);
        if wanted.is_empty() {
            self.later = None;
        }
        let mut wait: Option<Duration> = None;
        for Wanted { address, need } in wanted {
            let failed = self.failures.get(&address).map(|(_, until)| *until);
            let later = self.not_before(need, now, &pick);
            match failed.max(later).filter(|until| *until > now) {
                Some(until) => {
                    let pause = until - now;
                    wait = Some(wait.map_or(pause, |least| least.min(pause)));
                }
                None => {
                    let id = self.next_id;
                    self.next_id += 1;
                    self.links.push(Link {
                        id,
                        address: address.clone(),
                        need,
                        hint: None,
                        named: None,
                    });
                    actions.push(Action::Open(id, address));
                    self.later = None;
                    wait = None;
                    break;
                }
            }
        }
        (actions, wait)
    }

    /// Chance is asked once for each stream that is missing.
    fn not_before(
        &mut self,
        need: Need,
        now: Instant,
        pick: &impl Fn(usize) -> usize,
    ) -> Option<Instant> {
        let (least, most) = match need {
            Need::Leader => return None,
            Need::Spare => (GIVE_WAY, SPREAD),
            Need::Better => (SPREAD, BETTER),
        };
        let (_, at) = *self.later.insert(match self.later {
            Some((before, at)) if before == need => (before, at),
            _ => (need, now + least + by_chance(most, pick)),
        });
        Some(at)
    }

    /// Whether its replica says that it leads, and the newest leader that any replica named is another one: it is cut off,
    /// or its machine has stopped, and it cannot take that back.
    fn is_deposed(&self, link: &Link) -> bool {
        let named = self.links.iter().filter_map(|link| link.named.as_ref());
        let newest = named.max_by_key(|(term, _)| *term);
        let said = link.hint.as_ref().filter(|hint| hint.is_leader);
        said.zip(newest)
            .is_some_and(|(said, (term, address))| *term > said.term && *address != link.address)
    }

    /// The stream whose replica says that it leads, by the largest term.
    fn choose_active(&mut self, actions: &mut Vec<Action>) {
        let leads = |link: &&Link| {
            let says_so = link.hint.as_ref().is_some_and(|hint| hint.is_leader);
            says_so && !self.is_deposed(link)
        };
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
    /// many. A better one replaces the idle one when it has answered. One to a deposed leader is the first to go.
    fn close_superfluous(&mut self, actions: &mut Vec<Action>) {
        let active = self.active;
        let successor = self.successor();
        let mut order: Vec<&Link> = self.links.iter().collect();
        order.sort_by_key(|link| {
            (
                Some(link.id) != active,
                self.is_deposed(link),
                link.hint.is_none(),
                Some(link.address.as_str()) != successor,
                std::cmp::Reverse(link.id),
            )
        });
        let room = if active.is_some() { 2 } else { 3 };
        let mut kept: Vec<(LinkId, &str)> = Vec::new();
        for link in order {
            let double = kept.iter().any(|(_, address)| *address == link.address);
            let on_trial = link.need == Need::Better && link.hint.is_none();
            if double || (kept.len() >= room && !on_trial) {
                actions.push(Action::Close(link.id));
            } else {
                kept.push((link.id, &link.address));
            }
        }
        let kept: Vec<LinkId> = kept.into_iter().map(|(id, _)| id).collect();
        self.links.retain(|link| kept.contains(&link.id));
    }

    /// The replicas beside the leader, as it says: the one that will lead when it is gone comes first. None without a
    /// stream to the leader.
    fn others(&self) -> impl Iterator<Item = &str> {
        let mut active = self
            .links
            .iter()
            .filter(|link| Some(link.id) == self.active);
        let said = active
            .next()
            .and_then(|link| Some((link, link.hint.as_ref()?)));
        said.into_iter().flat_map(|(link, hint)| {
            let replicas = hint.replicas.iter().map(String::as_str);
            replicas.filter(|other| *other != link.address)
        })
    }

    fn successor(&self) -> Option<&str> {
        self.others().next()
    }

    /// Addresses to dial, best first, without those that have a stream; none where there are enough streams.
    fn wanted(&self, pick: &impl Fn(usize) -> usize) -> Vec<Wanted> {
        let mut wanted = match self.active {
            Some(_) => self.wanted_beside(),
            None => self.wanted_to_find(pick),
        };
        wanted.retain(|wanted| !self.links.iter().any(|link| link.address == wanted.address));
        wanted
    }

    /// Beside the stream to the leader: one to the replica that leads next, or to another one.
    fn wanted_beside(&self) -> Vec<Wanted> {
        let of = |need| {
            move |address: &str| Wanted {
                address: address.to_owned(),
                need,
            }
        };
        if self.links.len() < 2 {
            return self.others().map(of(Need::Spare)).collect();
        }
        let all_answered = self.links.iter().all(|link| link.hint.is_some());
        let better = self.successor().filter(|_| all_answered);
        better.map(of(Need::Better)).into_iter().collect()
    }

    /// Without a stream to the leader.
    fn wanted_to_find(&self, pick: &impl Fn(usize) -> usize) -> Vec<Wanted> {
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
        let enough = match best {
            Some(hint) if !hint.leader_address.is_empty() => {
                wanted.push(Wanted {
                    address: hint.leader_address.clone(),
                    need: Need::Leader,
                });
                self.links
                    .iter()
                    .any(|link| link.address == hint.leader_address)
            }
            // No leader is known: the streams there are will say. A second one widens the view.
            Some(_) => self.links.len() >= 2 || unanswered,
            None => unanswered,
        };
        if enough {
            return Vec::new();
        }
        replicas.push(self.bootstrap.clone());
        // Without a replica that has answered, none is to spare.
        let need = if best.is_some() {
            Need::Spare
        } else {
            Need::Leader
        };
        let others = replicas.into_iter().map(|address| Wanted { address, need });
        wanted.extend(others);
        wanted
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
