//! Which targets have news.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::keys::TargetKey;

/// The targets whose signals changed and that nobody has looked at since. Each is in here once
/// however often it changes, so the set is bounded by the number of targets.
#[derive(Debug, Default)]
pub struct DirtyTargets {
    targets: Mutex<HashSet<TargetKey>>,
    arrived: Notify,
}

impl DirtyTargets {
    // A panic under this lock cannot leave the set half changed.
    fn targets(&self) -> MutexGuard<'_, HashSet<TargetKey>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a signal of `target` changed.
    pub fn mark(&self, target: &TargetKey) {
        let mut targets = self.targets();
        if !targets.contains(target) {
            let first = targets.is_empty();
            targets.insert(target.clone());
            if first {
                self.arrived.notify_one();
            }
        }
    }

    /// Waits until there is at least one.
    pub async fn wait(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.targets().is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// Takes all of them, in no order.
    pub fn take(&self) -> HashSet<TargetKey> {
        std::mem::take(&mut *self.targets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_merge_until_taken() {
        let dirty = DirtyTargets::default();
        let a = TargetKey::new("ns", "a");
        dirty.mark(&a);
        dirty.mark(&a);
        dirty.mark(&TargetKey::new("ns", "b"));
        dirty.wait().await;
        assert_eq!(dirty.take().len(), 2);
        assert!(dirty.take().is_empty());
        dirty.mark(&a);
        dirty.wait().await;
        assert_eq!(dirty.take(), HashSet::from([a]));
    }
}
