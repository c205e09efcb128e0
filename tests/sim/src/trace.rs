//! What happened, as one hash; and as lines, for people.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::time::Time;

/// The record of one simulation. Clones are the same record.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Its keys are fixed, so equal traces have equal hashes, also in another process.
    hash: DefaultHasher,
    events: u64,
    now: Time,
    print: bool,
}

impl Trace {
    /// `print`: lines go to standard output.
    pub(crate) fn new(print: bool) -> Self {
        let trace = Self::default();
        trace.inner().print = print;
        trace
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What is noted from here on happens at `now`.
    pub(crate) fn set_now(&self, now: Time) {
        self.inner().now = now;
    }

    /// Notes something that goes into the hash alone: there are many of it.
    pub(crate) fn fold(&self, what: impl Hash) {
        let mut inner = self.inner();
        inner.events += 1;
        (inner.now, what).hash(&mut inner.hash);
    }

    /// Notes something that people read too.
    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        let _ = line.write_fmt(what);
        let mut inner = self.inner();
        inner.events += 1;
        (inner.now, line.as_str()).hash(&mut inner.hash);
        if inner.print {
            println!("{:>10.3}  {line}", inner.now as f64 / 1e6);
        }
    }

    /// Hash and number of all events so far.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.hash.finish(), inner.events)
    }
}
