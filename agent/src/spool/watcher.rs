//! Watches one spool on a thread of its own: a file system that does not answer must not keep
//! anything else from being read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::count::{Count, count};
use super::roots::{Problem, Roots};
use crate::clock::{BootClock, BootTime, SystemBootClock, wall_now};

/// Looks are at least so far apart, however many files come and go.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// And so many times as long as the last one took: looks take at most a twentieth of a core.
const PAUSE_PER_LOOK: u32 = 20;
/// A look that takes longer hangs.
const HANGS: Duration = Duration::from_secs(10);

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What is known of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// When it was looked at.
    pub at: BootTime,
    /// What was found.
    pub found: Result<Count, Problem>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Latest>,
    /// When the look began that has not ended.
    looking: Option<BootTime>,
    /// Something else was found than before, and nobody took it yet.
    news: bool,
}

/// A watch on one spool; it ends when this is dropped.
#[derive(Debug)]
pub struct SpoolWatcher {
    state: Arc<Mutex<State>>,
    stop: Arc<OwnedFd>,
}

impl SpoolWatcher {
    /// Begins one: looks each `interval`, and when inotify says that something came or went.
    /// `wake` is called when something else was found than before.
    ///
    /// # Errors
    /// No file descriptor, or no thread, left.
    pub fn start(
        roots: Arc<Roots>,
        path: PathBuf,
        max_age: Option<Duration>,
        interval: Duration,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let state: Arc<Mutex<State>> = Arc::default();
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(stop);
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let watch = Watch {
            roots,
            path,
            max_age,
            interval,
            state: state.clone(),
            stop: stop.clone(),
            inotify,
            watched: None,
        };
        std::thread::Builder::new()
            .name("neap-spool".into())
            .stack_size(128 * 1024)
            .spawn(move || watch.run(&wake))?;
        Ok(Self { state, stop })
    }

    /// What was found last, if it is something else than what was taken before. A look that has not
    /// ended for long is a problem from then on.
    pub fn take_news(&self, now: BootTime) -> Option<Latest> {
        let mut state = lock(&self.state);
        if state.looking.is_some_and(|since| now.since(since) > HANGS) {
            state.find(Latest {
                at: now,
                found: Err(Problem::Hangs),
            });
        }
        std::mem::take(&mut state.news)
            .then(|| state.latest.clone())
            .flatten()
    }
}

impl Drop for SpoolWatcher {
    fn drop(&mut self) {
        // The thread is not waited for: it may hang.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // It is whole at any moment, whoever panicked.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Whether it is news.
    fn find(&mut self, latest: Latest) -> bool {
        let former = self.latest.as_ref();
        let news = former.is_none_or(|former| former.found != latest.found);
        self.latest = Some(latest);
        self.news |= news;
        news
    }
}

/// The thread's side.
struct Watch {
    roots: Arc<Roots>,
    path: PathBuf,
    max_age: Option<Duration>,
    interval: Duration,
    state: Arc<Mutex<State>>,
    stop: Arc<OwnedFd>,
    inotify: Option<OwnedFd>,
    watched: Option<i32>,
}

impl Watch {
    fn run(mut self, wake: &(impl Fn() + ?Sized)) {
        let clock = SystemBootClock;
        loop {
            let began = clock.now();
            lock(&self.state).looking = Some(began);
            let found = self.look();
            let at = clock.now();
            let news = {
                let mut state = lock(&self.state);
                state.looking = None;
                state.find(Latest { at, found })
            };
            if news {
                wake();
            }
            let rest = at.since(began) * PAUSE_PER_LOOK;
            if !self.wait(LEAST_PAUSE.max(rest), false) {
                return;
            }
            if !self.wait(
                self.interval
                    .max(rest)
                    .saturating_sub(clock.now().since(at)),
                true,
            ) {
                return;
            }
        }
    }

    fn look(&mut self) -> Result<Count, Problem> {
        let directory = self.roots.open(&self.path)?;
        self.watch(&directory);
        Ok(count(directory.as_fd(), self.max_age, wall_now())?)
    }

    /// Watches what the path leads to now, before it is counted: what comes in between is looked at
    /// twice and not missed.
    fn watch(&mut self, directory: &OwnedFd) {
        let Some(inotify) = &self.inotify else { return };
        let mut events = [0u8; 4096];
        while rustix::io::read(inotify, &mut events).is_ok_and(|length| length > 0) {}
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        // Without a watch it is looked at each interval all the same.
        let watched = inotify::add_watch(inotify, path, EVENTS).ok();
        if let Some(former) = self.watched
            && watched != self.watched
        {
            // Fails when the directory went: the watch is over then too.
            let _ = inotify::remove_watch(inotify, former);
        }
        self.watched = watched;
    }

    /// Sleeps; with `alert`, until something came or went at most. False when it is to end.
    fn wait(&self, pause: Duration, alert: bool) -> bool {
        let timeout = Timespec::try_from(pause).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut fds = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        if let Some(inotify) = self.inotify.as_ref().filter(|_| alert) {
            fds.push(PollFd::new(inotify, PollFlags::IN));
        }
        // An interrupted sleep is a short one.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        fds.first().is_some_and(|stop| stop.revents().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const NEVER: Duration = Duration::from_secs(3_600);

    struct Fixture {
        watcher: SpoolWatcher,
        woken: mpsc::Receiver<()>,
    }

    impl Fixture {
        fn start(root: &std::path::Path, path: PathBuf) -> Self {
            let (wake, woken) = mpsc::channel();
            let roots = Arc::new(Roots::new(vec![root.to_owned()], "/".into()));
            let watcher = SpoolWatcher::start(roots, path, None, NEVER, move || {
                let _ = wake.send(());
            })
            .unwrap();
            Self { watcher, woken }
        }

        /// Waits for something else to be found.
        fn found(&self) -> Result<u64, Problem> {
            self.woken
                .recv_timeout(PATIENCE)
                .expect("nothing was found");
            let latest = self.watcher.take_news(SystemBootClock.now());
            latest.unwrap().found.map(|count| count.files)
        }
    }

    #[test]
    fn files_that_come_and_go_are_told_at_once() {
        let root = tempfile::tempdir().unwrap();
        let spool = root.path().join("jobs");
        std::fs::create_dir(&spool).unwrap();
        // Nothing but inotify can wake it within the hour.
        let fixture = Fixture::start(root.path(), spool.clone());
        assert_eq!(fixture.found(), Ok(0));
        File::create(spool.join("one")).unwrap();
        assert_eq!(fixture.found(), Ok(1));
        File::create(root.path().join("two")).unwrap();
        std::fs::rename(root.path().join("two"), spool.join("two")).unwrap();
        assert_eq!(fixture.found(), Ok(2));
        std::fs::remove_file(spool.join("one")).unwrap();
        assert_eq!(fixture.found(), Ok(1));
        // A directory that goes is a problem.
        std::fs::remove_file(spool.join("two")).unwrap();
        assert_eq!(fixture.found(), Ok(0));
        std::fs::remove_dir(&spool).unwrap();
        assert_eq!(
            fixture.found().unwrap_err().to_string(),
            "No such file or directory (os error 2)"
        );
        assert!(fixture.woken.try_recv().is_err());
    }

    #[test]
    fn a_directory_that_comes_later_and_one_in_the_place_of_another_are_found() {
        let root = tempfile::tempdir().unwrap();
        let spool = root.path().join("jobs");
        let (wake, woken) = mpsc::channel();
        let roots = Arc::new(Roots::new(vec![root.path().to_owned()], "/".into()));
        let watcher = SpoolWatcher::start(roots, spool.clone(), None, LEAST_PAUSE, move || {
            let _ = wake.send(());
        })
        .unwrap();
        let fixture = Fixture { watcher, woken };
        assert!(fixture.found().is_err());
        std::fs::create_dir(&spool).unwrap();
        assert_eq!(fixture.found(), Ok(0));
        let other = root.path().join("other");
        std::fs::create_dir(&other).unwrap();
        File::create(other.join("waiting")).unwrap();
        std::fs::rename(&other, &spool).unwrap();
        assert_eq!(fixture.found(), Ok(1));
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let fixture = Fixture::start(root.path(), root.path().to_owned());
        assert_eq!(fixture.found(), Ok(0));
        let Fixture { watcher, woken } = fixture;
        drop(watcher);
        // The sender goes with the thread.
        assert_eq!(
            woken.recv_timeout(PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn a_look_that_does_not_end_is_a_problem_and_no_old_value() {
        let began = BootTime::from_nanos(1_000_000_000);
        let state = State {
            latest: Some(Latest {
                at: began,
                found: Ok(Count { files: 3, dead: 0 }),
            }),
            looking: Some(began),
            news: false,
        };
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let watcher = SpoolWatcher {
            state: Arc::new(Mutex::new(state)),
            stop: Arc::new(stop),
        };
        assert_eq!(watcher.take_news(began.plus(HANGS)), None);
        let late = began.plus(HANGS + LEAST_PAUSE);
        let latest = watcher.take_news(late).unwrap();
        assert_eq!((latest.at, latest.found), (late, Err(Problem::Hangs)));
        assert_eq!(watcher.take_news(late), None, "it is told once");
        // Once it answers, the same number is news.
        let found = Ok(Count { files: 3, dead: 0 });
        assert!(lock(&watcher.state).find(Latest { at: late, found }));
    }
}
