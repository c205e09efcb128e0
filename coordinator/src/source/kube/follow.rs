//! One watch, kept alive: list as a stream where the server can, in pages where it cannot; backoff on
//! failure; what was known stays known while the server is away.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::runtime::watcher::{self, Config, Event};
use tokio_util::sync::CancellationToken;

use crate::clock::{Boottime, Clock};

/// What is done with the objects of one watch.
pub(super) trait Sink {
    /// The object as it is read.
    type Object;
    /// What tells objects of one list apart.
    type Key: Eq + Hash;

    /// A whole list begins; [`keep`](Self::keep) ends it.
    fn listing(&mut self) {}

    /// Takes in an object that is there. Returns its key.
    fn apply(&mut self, object: Self::Object) -> Option<Self::Key>;

    /// Takes in that an object is gone.
    fn remove(&mut self, object: Self::Object);

    /// A whole list was taken in: whatever it did not hold is gone.
    fn keep(&mut self, listed: &HashSet<Self::Key>);

    /// The watch works, after a failure or for the first time.
    fn working(&mut self) {}

    /// The watch fails since this time.
    fn failing(&mut self, _since: Boottime, _error: &watcher::Error) {}
}

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// A handful of watches from a few replicas may ask this often without being a burden.
const BACKOFF_LAST: Duration = Duration::from_secs(10);
/// The server ends a watch after this time; a connection that died silently is noticed soon after.
const WATCH_SECONDS: u32 = 120;
const PAGE: u32 = 500;

/// Where and how to watch.
pub(super) struct Watch<K> {
    /// Resource name for logs.
    pub(super) name: Arc<str>,
    /// The API, in its namespace or in all.
    pub(super) api: Api<K>,
    /// `metadata.name` of the only object of interest.
    pub(super) only: Option<&'static str>,
}

/// Runs a watch into `sink` until `shutdown`.
pub(super) async fn follow<K, S>(
    watch: Watch<K>,
    sink: &mut S,
    clock: &dyn Clock,
    shutdown: &CancellationToken,
) where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    S: Sink<Object = K>,
{
    let mut streaming = true;
    loop {
        let mut config = Config::default().timeout(WATCH_SECONDS);
        config = if streaming {
            config.streaming_lists()
        } else {
            config.page_size(PAGE)
        };
        if let Some(name) = watch.only {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let events = watcher::watcher(watch.api.clone(), config).boxed();
        let ended = shutdown
            .run_until_cancelled(drain(&watch.name, events, sink, clock, streaming))
            .await;
        match ended {
            None => return,
            Some(Ended::NoStreamedLists) => {
                tracing::info!(resource = %watch.name, "the API server does not stream lists; they are read in pages");
                streaming = false;
            }
        }
    }
}

/// Why a stream of events is given up.
enum Ended {
    NoStreamedLists,
}

async fn drain<K, S>(
    name: &str,
    mut events: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    sink: &mut S,
    clock: &dyn Clock,
    streaming: bool,
) -> Ended
where
    S: Sink<Object = K>,
{
    let mut listed = HashSet::new();
    let mut failing: Option<Boottime> = None;
    let mut wait = BACKOFF_FIRST;
    let mut last_error = String::new();
    loop {
        // A watcher's stream has no end.
        let Some(event) = events.next().await else {
            return Ended::NoStreamedLists;
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if streaming && refuses_streamed_lists(&error) {
                    return Ended::NoStreamedLists;
                }
                let since = *failing.get_or_insert_with(|| clock.boottime());
                sink.failing(since, &error);
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(
                        resource = name,
                        error = text,
                        "watch fails; what is known stays in use"
                    );
                    last_error = text;
                }
                tokio::time::sleep(jittered(wait)).await;
                wait = (wait * 2).min(BACKOFF_LAST);
                continue;
            }
        };
        // `Init` is told before anything was read: it proves nothing.
        let proves_it_works = !matches!(event, Event::Init);
        match event {
            Event::Init => {
                listed.clear();
                sink.listing();
            }
            Event::InitApply(object) => {
                if let Some(key) = sink.apply(object) {
                    listed.insert(key);
                }
            }
            Event::InitDone => {
                sink.keep(&listed);
                listed = HashSet::new();
                sink.working();
            }
            Event::Apply(object) => {
                sink.apply(object);
            }
            Event::Delete(object) => sink.remove(object),
        }
        if proves_it_works {
            if failing.take().is_some() {
                tracing::info!(resource = name, "watch works again");
                sink.working();
            }
            wait = BACKOFF_FIRST;
            last_error.clear();
        }
    }
}

/// A server that does not know `sendInitialEvents`, or has it switched off, answers 400 or 422.
fn refuses_streamed_lists(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return false,
    };
    matches!(code, 400 | 422)
}

/// Between half of `wait` and all of it.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait / 2 + wait.mul_f64(fraction() / 2.0)
}

/// A number from 0 to 1 that differs from process to process and call to call.
fn fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// True when the server says that this may not be read.
pub(super) fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(code_of(error), Some(401 | 403))
}

/// True when the server does not know the resource, or cannot watch it.
pub(super) fn is_unwatchable(error: &watcher::Error) -> bool {
    matches!(code_of(error), Some(404 | 405))
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[derive(Default)]
    struct Seen {
        known: HashSet<u32>,
        told: Vec<&'static str>,
    }

    impl Sink for Seen {
        type Object = u32;
        type Key = u32;
        fn apply(&mut self, object: u32) -> Option<u32> {
            self.known.insert(object);
            Some(object)
        }
        fn remove(&mut self, object: u32) {
            self.known.remove(&object);
        }
        fn keep(&mut self, listed: &HashSet<u32>) {
            self.known.retain(|known| listed.contains(known));
            self.told.push("listed");
        }
        fn working(&mut self) {
            self.told.push("working");
        }
        fn failing(&mut self, _: Boottime, _: &watcher::Error) {
            self.told.push("failing");
        }
    }

    fn api_error(code: u16) -> watcher::Error {
        let status = kube::core::Status {
            code,
            ..kube::core::Status::failure("no", "No")
        };
        watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_relist_drops_what_went_and_a_failure_drops_nothing() {
        let mut seen = Seen::default();
        let script = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(1)),
            Ok(Event::InitApply(2)),
            Ok(Event::InitDone),
            Ok(Event::Apply(3)),
            Ok(Event::Delete(1)),
            Err(api_error(500)),
            Err(api_error(500)),
            Ok(Event::Init),
            Ok(Event::InitApply(3)),
        ];
        let events = futures::stream::iter(script);
        drain("things", events, &mut seen, &SystemClock, false).await;
        assert_eq!(
            seen.known,
            HashSet::from([2, 3]),
            "2 is kept until the new list is whole"
        );
        assert_eq!(
            seen.told,
            ["listed", "working", "failing", "failing", "working"]
        );

        let rest = futures::stream::iter(vec![
            Ok(Event::Init),
            Ok(Event::InitApply(3)),
            Ok(Event::InitDone),
        ]);
        drain("things", rest, &mut seen, &SystemClock, false).await;
        assert_eq!(seen.known, HashSet::from([3]));
    }

    #[tokio::test]
    async fn a_server_without_streamed_lists_is_asked_for_pages() {
        let mut seen = Seen::default();
        let events = futures::stream::iter(vec![Err(api_error(422)), Ok(Event::Apply(1))]);
        let Ended::NoStreamedLists = drain("things", events, &mut seen, &SystemClock, true).await;
        assert!(
            seen.known.is_empty() && seen.told.is_empty(),
            "it is no failure"
        );
    }

    #[test]
    fn jitter_stays_within_its_half() {
        for _ in 0..1_000 {
            let wait = jittered(Duration::from_secs(10));
            assert!(
                wait >= Duration::from_secs(5) && wait <= Duration::from_secs(10),
                "{wait:?}"
            );
        }
    }
}
