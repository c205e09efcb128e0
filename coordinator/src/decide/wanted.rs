//! What all targets together want of the agents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use neap_units::NodeName;
use tokio::sync::watch;

use crate::keys::TargetKey;
use crate::signals::{Spool, WantedSignal, WantedSignals, WantedWatch};

/// Collects what each target wants and publishes it by node.
#[derive(Debug)]
pub(super) struct WantedIndex {
    of_target: HashMap<TargetKey, BTreeMap<NodeName, Vec<WantedSignal>>>,
    targets_on: HashMap<NodeName, BTreeSet<TargetKey>>,
    changed: BTreeSet<NodeName>,
    spools: BTreeMap<TargetKey, Vec<Spool>>,
    spools_changed: bool,
    published: watch::Sender<Arc<WantedSignals>>,
}

impl WantedIndex {
    pub(super) fn new() -> Self {
        Self {
            of_target: HashMap::new(),
            targets_on: HashMap::new(),
            changed: BTreeSet::new(),
            spools: BTreeMap::new(),
            spools_changed: false,
            published: watch::Sender::new(Arc::default()),
        }
    }

    pub(super) fn watch(&self) -> WantedWatch {
        self.published.subscribe()
    }

    /// Replaces what `key` wants.
    pub(super) fn set(&mut self, key: &TargetKey, wanted: BTreeMap<NodeName, Vec<WantedSignal>>) {
        let former = self.of_target.remove(key).unwrap_or_default();
        if former == wanted {
            if !wanted.is_empty() {
                self.of_target.insert(key.clone(), wanted);
            }
            return;
        }
        for (node, list) in &former {
            if wanted.get(node) != Some(list) {
                self.changed.insert(node.clone());
            }
            if !wanted.contains_key(node)
                && let Some(targets) = self.targets_on.get_mut(node)
            {
                targets.remove(key);
            }
        }
        for (node, list) in &wanted {
            if former.get(node) != Some(list) {
                self.changed.insert(node.clone());
                self.targets_on
                    .entry(node.clone())
                    .or_default()
                    .insert(key.clone());
            }
        }
        if !wanted.is_empty() {
            self.of_target.insert(key.clone(), wanted);
        }
    }

    /// Replaces the directories of the nodes that `key` wants looked into. Whether that is a change.
    pub(super) fn set_spools(&mut self, key: &TargetKey, spools: &[Spool]) -> bool {
        if self.spools.get(key).map_or(&[][..], Vec::as_slice) == spools {
            return false;
        }
        if spools.is_empty() {
            self.spools.remove(key);
        } else {
            self.spools.insert(key.clone(), spools.to_vec());
        }
        self.spools_changed = true;
        true
    }

    /// Publishes what changed since the last call.
    pub(super) fn publish(&mut self) {
        if self.changed.is_empty() && !self.spools_changed {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let mut signals = WantedSignals::clone(&self.published.borrow());
        for node in changed {
            // Two targets on one pod, or two triggers on one signal: read it at the shorter interval.
            let mut merged = BTreeMap::new();
            for key in self.targets_on.get(&node).into_iter().flatten() {
                for wanted in self
                    .of_target
                    .get(key)
                    .and_then(|of| of.get(&node))
                    .into_iter()
                    .flatten()
                {
                    let every = merged
                        .entry((wanted.pod.clone(), wanted.what.clone()))
                        .or_insert(wanted.every);
                    *every = wanted.every.min(*every);
                }
            }
            if merged.is_empty() {
                self.targets_on.remove(&node);
                signals.by_node.remove(&node);
            } else {
                let list = merged.into_iter().map(|((pod, what), every)| WantedSignal {
                    pod,
                    what,
                    every,
                });
                signals.by_node.insert(node, list.collect());
            }
        }
        if std::mem::take(&mut self.spools_changed) {
            let all: BTreeSet<Spool> = self.spools.values().flatten().cloned().collect();
            signals.spools = all.into_iter().collect();
        }
        self.published.send_replace(Arc::new(signals));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use neap_units::PodUid;

    use super::*;
    use crate::signals::Wanted;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn wanted(pod: &str, seconds: u64) -> WantedSignal {
        WantedSignal {
            pod: PodUid::new(pod).unwrap(),
            what: Wanted::Resources,
            every: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn nodes_that_do_not_change_keep_their_list() {
        let mut index = WantedIndex::new();
        let seen = index.watch();
        let (a, b) = (TargetKey::new("ns", "a"), TargetKey::new("ns", "b"));
        index.set(
            &a,
            BTreeMap::from([
                (node("n1"), vec![wanted("p", 10)]),
                (node("n2"), vec![wanted("q", 1)]),
            ]),
        );
        index.publish();
        let first = seen.borrow().clone();
        index.set(&b, BTreeMap::from([(node("n1"), vec![wanted("p", 1)])]));
        index.publish();
        let second = seen.borrow().clone();
        assert_eq!(
            *second.by_node[&node("n1")],
            [wanted("p", 1)],
            "the shorter interval"
        );
        assert!(Arc::ptr_eq(
            &first.by_node[&node("n2")],
            &second.by_node[&node("n2")]
        ));
        index.set(&a, BTreeMap::new());
        index.set(&b, BTreeMap::new());
        index.publish();
        assert!(seen.borrow().by_node.is_empty());
        assert!(index.of_target.is_empty() && index.targets_on.is_empty());
    }

    #[test]
    fn spools_are_asked_for_once_as_long_as_any_target_wants_them() {
        let mut index = WantedIndex::new();
        let mut seen = index.watch();
        let (a, b) = (TargetKey::new("ns", "a"), TargetKey::new("ns", "b"));
        let spool = |path: &str| Spool {
            path: path.into(),
            max_age: None,
        };
        index.set_spools(&a, &[spool("/two"), spool("/one")]);
        index.set_spools(&b, &[spool("/one")]);
        index.publish();
        assert_eq!(
            *seen.borrow_and_update().spools,
            [spool("/one"), spool("/two")]
        );
        index.set_spools(&a, &[]);
        index.publish();
        assert_eq!(*seen.borrow_and_update().spools, [spool("/one")]);
        index.set_spools(&b, &[spool("/one")]);
        index.publish();
        assert!(!seen.has_changed().unwrap(), "nothing changed");
        index.set_spools(&b, &[]);
        index.publish();
        assert!(seen.borrow().spools.is_empty());
    }
}
