//! What changed, per ScaledObject, coalesced until someone looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::keys::TargetKey;

/// A set of kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChangeSet(u8);

impl ChangeSet {
    /// The ScaledObject is new, or its spec, annotations, labels or deletion changed.
    pub const SPEC: Self = Self(1);
    /// The ScaledObject is gone.
    pub const GONE: Self = Self(1 << 1);
    /// What is scaled appeared, went, or changed its replicas, selector or pod template.
    pub const TARGET: Self = Self(1 << 2);
    /// A pod of the target, or one under a selector registered for the ScaledObject, changed.
    pub const PODS: Self = Self(1 << 3);
    /// An HPA on the target, another ScaledObject on it, or KEDA's presence changed.
    pub const OWNER: Self = Self(1 << 4);
    /// A TriggerAuthentication that a trigger names changed.
    pub const AUTH: Self = Self(1 << 5);

    /// True when all of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for ChangeSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for ChangeSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[derive(Debug, Default)]
struct Pending {
    changes: Mutex<HashMap<TargetKey, ChangeSet>>,
    ready: Notify,
}

/// One reader of changes. Changes to the same ScaledObject merge until they are taken, so what
/// waits is bounded by the number of ScaledObjects however slow the reader is.
#[derive(Debug)]
pub struct Changes(Arc<Pending>);

impl Changes {
    /// Waits for changes and takes them all, in no order.
    pub async fn next(&mut self) -> Vec<(TargetKey, ChangeSet)> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            // A mark between the two lines above and below leaves a permit behind.
            self.0.ready.notified().await;
        }
    }

    /// Takes what is there now, which may be nothing.
    pub fn take(&mut self) -> Vec<(TargetKey, ChangeSet)> {
        self.0
            .changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .collect()
    }
}

/// The writing end: all readers.
#[derive(Debug, Default)]
pub(super) struct ChangeFeed(Vec<Weak<Pending>>);

impl ChangeFeed {
    pub(super) fn subscribe(&mut self, present: impl IntoIterator<Item = TargetKey>) -> Changes {
        let pending = Arc::new(Pending::default());
        for key in present {
            mark(&pending, &key, ChangeSet::SPEC);
        }
        self.0.push(Arc::downgrade(&pending));
        Changes(pending)
    }

    pub(super) fn send(&mut self, key: &TargetKey, what: ChangeSet) {
        self.0.retain(|reader| match reader.upgrade() {
            Some(pending) => {
                mark(&pending, key, what);
                true
            }
            None => false,
        });
    }
}

fn mark(pending: &Pending, key: &TargetKey, what: ChangeSet) {
    let mut changes = pending
        .changes
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match changes.get_mut(key) {
        Some(known) => *known |= what,
        None => {
            changes.insert(key.clone(), what);
        }
    }
    drop(changes);
    pending.ready.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_merge_until_taken() {
        let mut feed = ChangeFeed::default();
        let first = TargetKey::new("a", "first");
        let mut changes = feed.subscribe([first.clone()]);
        for _ in 0..1_000 {
            feed.send(&first, ChangeSet::PODS);
        }
        let taken = changes.next().await;
        assert_eq!(taken, [(first.clone(), ChangeSet::SPEC | ChangeSet::PODS)]);
        assert!(changes.take().is_empty());

        let waiting = tokio::spawn(async move { changes.next().await });
        tokio::task::yield_now().await;
        feed.send(&first, ChangeSet::GONE);
        assert_eq!(waiting.await.unwrap(), [(first.clone(), ChangeSet::GONE)]);
        feed.send(&first, ChangeSet::SPEC);
        assert!(feed.0.is_empty(), "a reader that is gone is forgotten");
    }
}
