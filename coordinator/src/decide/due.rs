//! When which target is to be looked at.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::clock::Boottime;
use crate::keys::TargetKey;

/// The earliest due time of each target. Entries that were overtaken stay in the heap until they
/// surface; the heap is rebuilt when they outnumber the targets.
#[derive(Debug, Default)]
pub(super) struct DueTimes {
    of: HashMap<TargetKey, Boottime>,
    heap: BinaryHeap<Reverse<(Boottime, TargetKey)>>,
}

impl DueTimes {
    /// The target is due at `at`, or earlier if it already was.
    pub(super) fn no_later_than(&mut self, key: &TargetKey, at: Boottime) {
        match self.of.get_mut(key) {
            Some(known) if *known <= at => return,
            Some(known) => *known = at,
            None => {
                self.of.insert(key.clone(), at);
            }
        }
        self.heap.push(Reverse((at, key.clone())));
        if self.heap.len() > 64 + 4 * self.of.len() {
            self.heap = self
                .of
                .iter()
                .map(|(key, at)| Reverse((*at, key.clone())))
                .collect();
        }
    }

    /// The target is not due any more.
    pub(super) fn remove(&mut self, key: &TargetKey) {
        self.of.remove(key);
    }

    /// Nothing is due any more.
    pub(super) fn clear(&mut self) {
        self.of.clear();
        self.heap.clear();
    }

    /// The earliest due time.
    pub(super) fn next(&mut self) -> Option<Boottime> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if self.of.get(key) == Some(at) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes all targets that are due at `now`, the longest overdue first.
    pub(super) fn take(&mut self, now: Boottime) -> Vec<TargetKey> {
        let mut taken = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse((_, key))) = self.heap.pop() else {
                break;
            };
            self.of.remove(&key);
            taken.push(key);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> TargetKey {
        TargetKey::new("ns", name)
    }

    const fn at(micros: i64) -> Boottime {
        Boottime::from_micros(micros)
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut due = DueTimes::default();
        due.no_later_than(&key("a"), at(30));
        due.no_later_than(&key("b"), at(20));
        due.no_later_than(&key("a"), at(10));
        due.no_later_than(&key("a"), at(40));
        assert_eq!(due.next(), Some(at(10)));
        assert_eq!(due.take(at(25)), [key("a"), key("b")]);
        assert_eq!(due.take(at(100)), [], "each is taken once");
        due.no_later_than(&key("a"), at(40));
        due.remove(&key("a"));
        assert_eq!(due.next(), None);
    }

    #[test]
    fn overtaken_entries_do_not_pile_up() {
        let mut due = DueTimes::default();
        for n in (0..100_000).rev() {
            due.no_later_than(&key("a"), at(n));
        }
        assert!(due.heap.len() <= 128, "{}", due.heap.len());
        assert_eq!(due.take(at(0)), [key("a")]);
    }
}
