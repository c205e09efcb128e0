//! Spools of the node: their watchers, their series, and what is wrong with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::{SeriesKind, SpoolProblem};

use crate::clock::BootTime;
use crate::directives::Spool;
use crate::series::slot::Slot;
use crate::series::table::{Meaning, Table};
use crate::spool::{Roots, SpoolWatcher};

/// How often it is looked whether a watcher hangs, and a watcher that could not be started is
/// started again.
const CHECK: Duration = Duration::from_secs(1);

const NEVER: BootTime = BootTime::from_nanos(u64::MAX);

/// All that are asked for.
pub(super) struct Spools {
    roots: Arc<Roots>,
    wake: Arc<dyn Fn() + Send + Sync>,
    watched: Vec<Watched>,
    due: BootTime,
}

struct Watched {
    spool: Arc<Spool>,
    interval: Duration,
    watcher: Option<SpoolWatcher>,
    files: Slot,
    problem: String,
    told: bool,
}

impl Spools {
    /// Nothing asked for yet. `wake` makes the sampler step.
    pub(super) fn new(roots: Roots, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            roots: Arc::new(roots),
            wake,
            watched: Vec::new(),
            due: NEVER,
        }
    }

    pub(super) fn set_plan(
        &mut self,
        plan: &[(Arc<Spool>, Duration)],
        now: BootTime,
        table: &mut Table,
    ) {
        self.watched.retain_mut(|watched| {
            let stays = plan
                .iter()
                .any(|(spool, each)| *spool == watched.spool && *each == watched.interval);
            if !stays {
                watched.files.end(table);
            }
            stays
        });
        for (spool, interval) in plan {
            if !self.watched.iter().any(|watched| watched.spool == *spool) {
                self.watched.push(Watched {
                    spool: spool.clone(),
                    interval: *interval,
                    watcher: None,
                    files: Slot::default(),
                    problem: String::new(),
                    told: true,
                });
            }
        }
        self.due = if self.watched.is_empty() { NEVER } else { now };
    }

    /// When it has to be read whatever its watchers say.
    pub(super) fn due(&self) -> BootTime {
        self.due
    }

    /// Takes what the watchers found.
    pub(super) fn read(&mut self, now: BootTime, table: &mut Table) {
        let check = self.due <= now;
        if check {
            self.due = now.next_multiple(CHECK);
        }
        for watched in &mut self.watched {
            if check && watched.watcher.is_none() {
                watched.start(&self.roots, &self.wake);
            }
            watched.read(now, table);
        }
    }

    /// Problems that the stream was not told of.
    pub(super) fn take_problems(&mut self, problems: &mut Vec<SpoolProblem>) {
        for watched in self.watched.iter_mut().filter(|watched| !watched.told) {
            watched.told = true;
            problems.push(SpoolProblem {
                path: (*watched.spool.path).to_owned(),
                max_age_ms: watched.spool.max_age_ms(),
                problem: watched.problem.clone(),
            });
        }
    }

    /// A new stream has to be told again.
    pub(super) fn forget_told(&mut self) {
        for watched in &mut self.watched {
            watched.told = watched.problem.is_empty();
        }
    }
}

impl Watched {
    fn start(&mut self, roots: &Arc<Roots>, wake: &Arc<dyn Fn() + Send + Sync>) {
        let wake = wake.clone();
        let path = PathBuf::from(&*self.spool.path);
        let watcher = SpoolWatcher::start(
            roots.clone(),
            path,
            self.spool.max_age,
            self.interval,
            move || wake(),
        );
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => self.set_problem(format!("no watcher: {error}")),
        }
    }

    fn read(&mut self, now: BootTime, table: &mut Table) {
        let news = self.watcher.as_ref().map(|watcher| watcher.take_news(now));
        let Some(latest) = news.flatten() else {
            return;
        };
        match latest.found {
            Ok(count) => {
                self.files.set(table, Some(count.files), latest.at, || {
                    Meaning::of_spool(SeriesKind::SpoolFiles, &self.spool, self.interval)
                });
                self.set_problem(String::new());
            }
            Err(problem) => {
                self.files.end(table);
                self.set_problem(problem.to_string());
            }
        }
    }

    fn set_problem(&mut self, problem: String) {
        if problem == self.problem {
            return;
        }
        if problem.is_empty() {
            tracing::info!(spool = &*self.spool.path, "the spool is read again");
        } else {
            tracing::warn!(
                spool = &*self.spool.path,
                problem,
                "the spool cannot be read"
            );
        }
        self.problem = problem;
        self.told = false;
    }
}
