//! Labels of pods, shared between the pods that carry the same ones.

use std::collections::HashSet;
use std::sync::Arc;

/// A set of labels, sorted by key. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(known, _)| known.as_ref().cmp(key))
            .ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, value)| value.as_ref())
    }

    /// All pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        pairs.sort();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(pairs.into())
    }
}

/// Keeps one copy of each value that is in use, so that a thousand pods of one template hold
/// its labels and containers once. Values nobody holds any more are dropped in sweeps, each
/// after as many insertions as there were values left: constant work per insertion, and at most
/// twice the values in use are held.
#[derive(Debug)]
pub struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    inserted: usize,
    kept: usize,
}

const SWEEP_AT_LEAST: usize = 1_024;

impl<T: ?Sized + Eq + std::hash::Hash> Default for Shared<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            inserted: 0,
            kept: 0,
        }
    }
}

impl<T: ?Sized + Eq + std::hash::Hash> Shared<T> {
    /// The one copy that equals `value`.
    pub fn one<V>(&mut self, value: V) -> Arc<T>
    where
        V: AsRef<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.values.get(value.as_ref()) {
            return known.clone();
        }
        if self.inserted >= self.kept.max(SWEEP_AT_LEAST) {
            self.values.retain(|held| Arc::strong_count(held) > 1);
            self.kept = self.values.len();
            self.inserted = 0;
        }
        self.inserted += 1;
        let kept: Arc<T> = value.into();
        self.values.insert(kept.clone());
        kept
    }

    /// How many values are held, those that a sweep would drop included.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The sharing of label sets and of the strings in them.
#[derive(Debug, Default)]
pub struct LabelInterner {
    strings: Shared<str>,
    sets: Shared<[(Arc<str>, Arc<str>)]>,
}

impl LabelInterner {
    /// The shared copy of a label set.
    pub fn labels<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut shared: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (self.strings.one(key), self.strings.one(value)))
            .collect();
        shared.sort();
        shared.dedup_by(|later, earlier| later.0 == earlier.0);
        Labels(self.sets.one(shared))
    }

    /// The shared copy of one string.
    pub fn string(&mut self, value: &str) -> Arc<str> {
        self.strings.one(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_label_sets_share_one_copy() {
        let mut interner = LabelInterner::default();
        let a = interner.labels([("tier", "web"), ("app", "shop")]);
        let b = interner.labels([("app", "shop"), ("tier", "web")]);
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_eq!(a.get("app"), Some("shop"));
        assert_eq!(a.get("apple"), None);
        assert_ne!(a, interner.labels([("app", "shop")]));
    }

    #[test]
    fn values_that_nobody_holds_are_dropped() {
        let mut shared = Shared::<str>::default();
        let kept = shared.one("kept");
        for n in 0..100_000 {
            shared.one(format!("pod-{n}").as_str());
        }
        assert!(
            shared.len() <= 2 * SWEEP_AT_LEAST,
            "{} values held",
            shared.len()
        );
        assert!(Arc::ptr_eq(&kept, &shared.one("kept")));
    }
}
