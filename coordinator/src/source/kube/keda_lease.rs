//! Is a KEDA operator alive? Its leader-election Lease tells.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::follow::{Sink, is_forbidden};
use super::objects::Progress;
use super::scope::covers;
use crate::clock::{Boottime, Clock};
use crate::world::{KedaPresence, World};

/// Name of the Lease, in whichever namespace KEDA runs (its flag `--leader-election-id`).
pub(super) const KEDA_LEASE: &str = "operator.keda.sh";

/// What KEDA's manifests set, for a Lease that does not say.
const DEFAULT_DURATION: Duration = Duration::from_secs(15);
/// So many durations after its last renewal a Lease is owned by nobody.
const FRESH_FOR: u32 = 2;
/// On first sight a Lease is judged by its own time stamp only if that is older than this: wall
/// clocks differ, so a younger one is watched for a while instead.
const SURELY_OLD: jiff::SignedDuration = jiff::SignedDuration::from_secs(600);

/// The Leases seen and until when each counts as fresh. A Lease is fresh for twice its duration
/// after a change was seen: an operator that crashes and restarts waits out the old Lease before
/// it takes it again, and must not lose its objects meanwhile.
#[derive(Debug)]
pub(super) struct KedaWatch {
    world: Arc<World>,
    clock: Arc<dyn Clock>,
    leases: Mutex<Leases>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    seen: HashMap<Arc<str>, Seen>,
    /// All Leases were listed, and what has happened to them since was seen.
    current: bool,
    /// Since when it was not, where it once was.
    blind_since: Option<Boottime>,
}

#[derive(Debug)]
struct Seen {
    holder: String,
    renewed: Option<jiff::Timestamp>,
    duration: Duration,
    fresh_until: Option<Boottime>,
}

impl KedaWatch {
    pub(super) fn new(world: Arc<World>, clock: Arc<dyn Clock>) -> Self {
        Self {
            world,
            clock,
            leases: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, lease: &Lease) -> Option<Arc<str>> {
        let namespace: Arc<str> = lease.namespace()?.into();
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let renewed = spec.renew_time.map(|time| time.0);
        let duration = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DEFAULT_DURATION, Duration::from_secs);
        let now = self.clock.boottime();
        let mut leases = self.leases();
        let known = leases.seen.get(&namespace);
        let fresh_until = match known {
            _ if holder.is_empty() => None,
            Some(known) if known.holder == holder && known.renewed == renewed => known.fresh_until,
            Some(_) => Some(now + duration * FRESH_FOR),
            None => {
                let age = renewed.map(|renewed| renewed.duration_until(self.clock.wall()));
                let surely_old = age.is_none_or(|age| age > SURELY_OLD);
                if surely_old {
                    None
                } else {
                    Some(now + duration * FRESH_FOR)
                }
            }
        };
        leases.seen.insert(
            namespace.clone(),
            Seen {
                holder,
                renewed,
                duration,
                fresh_until,
            },
        );
        drop(leases);
        self.changed.notify_one();
        Some(namespace)
    }

    fn forget(&self, gone: impl Fn(&str) -> bool) {
        self.leases().seen.retain(|namespace, _| !gone(namespace));
        self.changed.notify_one();
    }

    /// What is known is known to be so now. After a gap, an operator that lived before it gets its
    /// time anew: it was cut off too.
    fn set_current(&self) {
        let now = self.clock.boottime();
        let mut leases = self.leases();
        leases.current = true;
        if let Some(since) = leases.blind_since.take() {
            for seen in leases.seen.values_mut() {
                if let Some(until) = seen.fresh_until.as_mut().filter(|until| **until > since) {
                    *until = (*until).max(now + seen.duration * FRESH_FOR);
                }
            }
        }
        drop(leases);
        self.changed.notify_one();
    }

    /// From here on changes may be missed.
    fn set_blind(&self) {
        let now = self.clock.boottime();
        let mut leases = self.leases();
        if std::mem::replace(&mut leases.current, false) {
            leases.blind_since = Some(now);
        }
        drop(leases);
        self.changed.notify_one();
    }

    /// What the Leases say at `now`, and when that changes if nothing else is seen.
    fn presence(&self, now: Boottime) -> (KedaPresence, Option<Boottime>) {
        let leases = self.leases();
        let fresh = leases
            .seen
            .iter()
            .filter_map(|(namespace, seen)| Some((seen.fresh_until?, namespace)))
            .filter(|(until, _)| *until > now)
            .max();
        match fresh {
            Some((until, namespace)) => (
                KedaPresence::Alive {
                    namespace: namespace.clone(),
                },
                Some(until),
            ),
            None if !leases.current => (KedaPresence::Unknown, None),
            None => (KedaPresence::Gone, None),
        }
    }

    /// Tells the world, now and whenever it changes, until `shutdown`.
    pub(super) async fn tell(&self, shutdown: CancellationToken) {
        let mut last = None;
        loop {
            let changed = self.changed.notified();
            let (presence, until) = self.presence(self.clock.boottime());
            if last.as_ref() != Some(&presence) {
                match &presence {
                    KedaPresence::Alive { namespace } => {
                        tracing::info!(%namespace, "a living KEDA owns the ScaledObjects: they are left alone")
                    }
                    KedaPresence::Gone if last.is_some() => tracing::info!(
                        "no KEDA operator renews its Lease: ScaledObjects are Neap's"
                    ),
                    KedaPresence::Unknown if last.is_some() => tracing::warn!(
                        "whether KEDA lives cannot be read at present: ScaledObjects with an HPA of its are left alone"
                    ),
                    KedaPresence::Gone | KedaPresence::Unknown => {}
                }
                self.world.set_keda(presence.clone());
                last = Some(presence);
            }
            let expiry = async {
                match until {
                    Some(until) => self.clock.sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let event = async {
                tokio::select! {
                    () = changed => {}
                    () = expiry => {}
                }
            };
            if shutdown.run_until_cancelled(event).await.is_none() {
                return;
            }
        }
    }
}

/// Takes in the Leases of one part of the scope.
pub(super) struct LeaseSink {
    watch: Arc<KedaWatch>,
    part: Option<Arc<str>>,
    progress: Progress,
    listing: bool,
    refused: bool,
}

impl LeaseSink {
    /// For the Leases of `part`; `None` is the whole cluster.
    pub(super) fn new(watch: Arc<KedaWatch>, part: Option<Arc<str>>, progress: Progress) -> Self {
        Self {
            watch,
            part,
            progress,
            listing: false,
            refused: false,
        }
    }
}

impl Sink for LeaseSink {
    type Object = Lease;
    type Key = Arc<str>;

    fn listing(&mut self) {
        self.listing = true;
    }

    fn apply(&mut self, lease: Lease) -> Option<Arc<str>> {
        self.watch.see(&lease)
    }

    fn remove(&mut self, lease: Lease) {
        let namespace = lease.namespace().unwrap_or_default();
        self.watch.forget(|known| known == namespace);
    }

    fn keep(&mut self, listed: &HashSet<Arc<str>>) {
        self.listing = false;
        let part = self.part.clone();
        self.watch
            .forget(|known| covers(part.as_deref(), known) && !listed.contains(known));
        self.watch.set_current();
        let (presence, _) = self.watch.presence(self.watch.clock.boottime());
        // Before the kind counts as listed, so that nobody sees "synced" and no KEDA at once.
        self.watch.world.set_keda(presence);
        self.progress.listed();
    }

    fn working(&mut self) {
        self.refused = false;
        if !self.listing {
            self.watch.set_current();
        }
        self.progress.working();
    }

    fn failing(&mut self, since: Boottime, error: &watcher::Error) {
        if is_forbidden(error) && !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                lease = KEDA_LEASE,
                namespace = self.part.as_deref().unwrap_or("all"),
                "whether KEDA lives may not be read: ScaledObjects with an HPA of its are left alone until it may (see rbac.kedaNamespace of the chart)"
            );
        }
        self.watch.set_blind();
        self.progress.failing(since, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use serde_json::json;

    fn lease(namespace: &str, holder: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": KEDA_LEASE, "namespace": namespace},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
        }))
        .unwrap()
    }

    fn alive(watch: &KedaWatch, clock: &ManualClock) -> bool {
        matches!(
            watch.presence(clock.boottime()).0,
            KedaPresence::Alive { .. }
        )
    }

    #[test]
    fn a_lease_is_fresh_while_it_changes_whatever_the_wall_says() {
        let wall = "2026-11-22T10:00:00Z".parse().unwrap();
        let clock = ManualClock::new(Boottime::from_micros(1), wall);
        let watch = KedaWatch::new(Arc::new(World::new()), Arc::new(clock.clone()));
        assert!(!alive(&watch, &clock));
        // KEDA's node is five minutes behind ours.
        watch.see(&lease("keda", "pod-1", "2026-11-22T09:55:00.000000Z"));
        assert!(alive(&watch, &clock));
        clock.advance(Duration::from_secs(20));
        watch.see(&lease("keda", "pod-1", "2026-11-22T09:55:20.000000Z"));
        clock.advance(Duration::from_secs(29));
        assert!(alive(&watch, &clock));
        watch.see(&lease("keda", "pod-1", "2026-11-22T09:55:20.000000Z"));
        clock.advance(Duration::from_secs(2));
        assert!(
            !alive(&watch, &clock),
            "a relist shows the same Lease and renews nothing"
        );
        watch.see(&lease("keda", "pod-2", "2026-11-22T09:56:00.000000Z"));
        assert!(alive(&watch, &clock));
        watch.forget(|namespace| namespace == "keda");
        assert!(!alive(&watch, &clock), "a deleted Lease is no Lease");
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_not_gone() {
        let wall = "2026-11-22T10:00:00Z".parse().unwrap();
        let clock = ManualClock::new(Boottime::from_micros(1), wall);
        let watch = KedaWatch::new(Arc::new(World::new()), Arc::new(clock.clone()));
        let presence = || watch.presence(clock.boottime()).0;
        assert_eq!(presence(), KedaPresence::Unknown, "nothing was listed yet");
        watch.set_current();
        assert_eq!(presence(), KedaPresence::Gone);

        watch.see(&lease("keda", "pod-1", "2026-11-22T10:00:00.000000Z"));
        watch.set_blind();
        clock.advance(Duration::from_secs(20));
        watch.set_blind();
        assert!(alive(&watch, &clock), "it still has its time");
        clock.advance(Duration::from_secs(60));
        assert_eq!(presence(), KedaPresence::Unknown);
        // The server is back, with the Lease as it was: KEDA gets time to renew it.
        watch.see(&lease("keda", "pod-1", "2026-11-22T10:00:00.000000Z"));
        watch.set_current();
        assert!(alive(&watch, &clock));
        clock.advance(Duration::from_secs(30));
        assert_eq!(presence(), KedaPresence::Gone);
        watch.set_blind();
        watch.set_current();
        assert_eq!(presence(), KedaPresence::Gone, "it was gone before the gap");
    }

    #[test]
    fn a_lease_left_behind_long_ago_or_released_owns_nothing() {
        let wall = "2026-11-22T10:00:00Z".parse().unwrap();
        let clock = ManualClock::new(Boottime::from_micros(1), wall);
        let watch = KedaWatch::new(Arc::new(World::new()), Arc::new(clock.clone()));
        watch.see(&lease("keda", "pod-1", "2026-11-21T10:00:00.000000Z"));
        assert!(!alive(&watch, &clock));
        watch.see(&lease("keda", "", "2026-11-22T10:00:00.000000Z"));
        assert!(!alive(&watch, &clock), "released");
    }
}
