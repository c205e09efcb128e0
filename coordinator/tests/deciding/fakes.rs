//! What stands where Kubernetes would be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use neap_coordinator::clock::Boottime;
use neap_coordinator::keys::{LeaderId, TargetKey, TargetRef};
use neap_coordinator::publish::{EventNote, PublishError, Publisher};
use neap_coordinator::scaler::{Scale, ScaleError, Scaler, Written};
use neap_coordinator::source::{Data, ObjectSource, ReadError, SecretReader, SourceError};
use neap_coordinator::world::{ObjectKind, RemovableHpa, World};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything waits at most so long in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something, looking again at each change of `changed`.
pub(crate) async fn wait<T>(
    what: &str,
    mut changed: watch::Receiver<u64>,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let waited = async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            changed.changed().await.expect("the fake lives");
        }
    };
    tokio::time::timeout(PATIENCE, waited)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A source whose world the tests fill by hand.
pub(crate) struct ByHand {
    /// Every kind counts as listed from the start.
    pub(crate) listed: bool,
}

impl ObjectSource for ByHand {
    fn run(
        self: Arc<Self>,
        world: Arc<World>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        for kind in ObjectKind::ALL.into_iter().filter(|_| self.listed) {
            world.mark_synced(kind);
        }
        Box::pin(async move {
            shutdown.cancelled().await;
            Ok(())
        })
    }
}

/// One write that reached the fake API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) target: String,
    pub(crate) replicas: i32,
    pub(crate) version: String,
    pub(crate) at: Boottime,
}

#[derive(Debug, Default)]
struct Scales {
    scales: BTreeMap<String, (i32, u64)>,
    writes: Vec<Write>,
    refused: Vec<(i32, ScaleError)>,
    script: VecDeque<ScaleError>,
    /// So many writes are done, and neither the answer nor the watch tells of it.
    unanswered: usize,
    /// Reads are not answered.
    unreadable: bool,
}

/// Called after a write was taken: target, replicas, version.
type Echo = Box<dyn Fn(&str, i32, u64) + Send + Sync>;

/// Scales in memory.
pub(crate) struct FakeScaler {
    state: Mutex<Scales>,
    changed: watch::Sender<u64>,
    pub(crate) clock: neap_coordinator::clock::ManualClock,
    echo: Mutex<Option<Echo>>,
}

impl FakeScaler {
    pub(crate) fn new(clock: neap_coordinator::clock::ManualClock) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            clock,
            echo: Mutex::default(),
        })
    }

    /// The scale of a target as someone else sets it.
    pub(crate) fn set(&self, target: &str, replicas: i32, version: u64) {
        self.state
            .lock()
            .unwrap()
            .scales
            .insert(target.to_owned(), (replicas, version));
    }

    pub(crate) fn knows(&self, target: &str) -> bool {
        self.state.lock().unwrap().scales.contains_key(target)
    }

    pub(crate) fn get(&self, target: &str) -> (i32, u64) {
        self.state.lock().unwrap().scales[target]
    }

    pub(crate) fn on_write(&self, echo: Echo) {
        *self.echo.lock().unwrap() = Some(echo);
    }

    /// The next writes fail so, in this order.
    pub(crate) fn fail(&self, errors: impl IntoIterator<Item = ScaleError>) {
        self.state.lock().unwrap().script.extend(errors);
    }

    /// So many of the next writes are done without an answer, and the watch is late to tell of them.
    pub(crate) fn leave_unanswered(&self, writes: usize) {
        self.state.lock().unwrap().unanswered = writes;
    }

    /// Whether reads are left without an answer.
    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.state.lock().unwrap().unreadable = unreadable;
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        self.state.lock().unwrap().writes.clone()
    }

    pub(crate) fn refused(&self) -> Vec<(i32, ScaleError)> {
        self.state.lock().unwrap().refused.clone()
    }

    /// Waits for the `n`th write.
    pub(crate) async fn write(&self, n: usize) -> Write {
        wait("a write", self.changed.subscribe(), || {
            self.writes().get(n).cloned()
        })
        .await
    }

    /// Waits for the `n`th refused write.
    pub(crate) async fn refusal(&self, n: usize) -> (i32, ScaleError) {
        wait("a refused write", self.changed.subscribe(), || {
            self.refused().get(n).cloned()
        })
        .await
    }

    fn take(
        &self,
        target: &TargetRef,
        replicas: i32,
        version: &str,
    ) -> Result<Written, ScaleError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.script.pop_front() {
            state.refused.push((replicas, error.clone()));
            return Err(error);
        }
        let Some(&(_, current)) = state.scales.get(&*target.name) else {
            return Err(ScaleError::NotFound);
        };
        if current.to_string() != version {
            state.refused.push((replicas, ScaleError::Conflict));
            return Err(ScaleError::Conflict);
        }
        state
            .scales
            .insert(target.name.to_string(), (replicas, current + 1));
        let write = Write {
            target: target.name.to_string(),
            replicas,
            version: version.to_owned(),
            at: neap_coordinator::clock::Clock::boottime(&self.clock),
        };
        state.writes.push(write);
        if state.unanswered > 0 {
            state.unanswered -= 1;
            return Err(ScaleError::Timeout);
        }
        drop(state);
        if let Some(echo) = &*self.echo.lock().unwrap() {
            echo(&target.name, replicas, current + 1);
        }
        Ok(Written {
            replicas,
            resource_version: (current + 1).to_string(),
        })
    }
}

impl Scaler for FakeScaler {
    fn read<'a>(&'a self, target: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            if state.unreadable {
                return Err(ScaleError::Timeout);
            }
            let Some(&(replicas, version)) = state.scales.get(&*target.name) else {
                return Err(ScaleError::NotFound);
            };
            Ok(Scale {
                replicas,
                status_replicas: replicas,
                selector: None,
                resource_version: version.to_string(),
            })
        })
    }

    fn write<'a>(
        &'a self,
        target: &'a TargetRef,
        replicas: i32,
        resource_version: &'a str,
        leader: LeaderId,
        _: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        assert!(leader.term > 0, "a write names its leader");
        Box::pin(async move {
            let result = self.take(target, replicas, resource_version);
            self.changed.send_modify(|n| *n += 1);
            result
        })
    }
}

#[derive(Debug, Default)]
struct Published {
    status: BTreeMap<String, Value>,
    patches: usize,
    events: Vec<EventNote>,
    finalizers_removed: Vec<String>,
    hpas_removed: Vec<String>,
    hpas_kept: Option<PublishError>,
}

/// Status and events in memory.
#[derive(Debug)]
pub(crate) struct FakePublisher {
    state: Mutex<Published>,
    changed: watch::Sender<u64>,
}

impl FakePublisher {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    pub(crate) fn patches(&self) -> usize {
        self.state.lock().unwrap().patches
    }

    /// How many events there were.
    #[allow(dead_code, reason = "for the tests of several")]
    pub(crate) fn all_events(&self) -> usize {
        self.state.lock().unwrap().events.len()
    }

    pub(crate) fn status(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().status.get(name).cloned()
    }

    pub(crate) fn events(&self, reason: &str) -> Vec<EventNote> {
        let state = self.state.lock().unwrap();
        state
            .events
            .iter()
            .filter(|note| note.reason == reason)
            .cloned()
            .collect()
    }

    /// Waits until the condition of this type has this status; gives reason and message.
    pub(crate) async fn condition(
        &self,
        name: &str,
        type_: &str,
        status: &str,
    ) -> (String, String) {
        wait(
            &format!("{name}: {type_} {status}"),
            self.changed.subscribe(),
            || {
                let shown = self.status(name)?;
                let found = shown["conditions"]
                    .as_array()?
                    .iter()
                    .find(|c| c["type"] == type_)?
                    .clone();
                let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
                (found["status"] == status).then(|| (text("reason"), text("message")))
            },
        )
        .await
    }

    /// Waits until the message of the condition of this type holds a text; gives the message.
    pub(crate) async fn condition_says(&self, name: &str, type_: &str, part: &str) -> String {
        wait(
            &format!("{name}: {type_} {part:?}"),
            self.changed.subscribe(),
            || {
                let shown = self.status(name)?;
                let conditions = shown["conditions"].as_array()?;
                let found = conditions.iter().find(|c| c["type"] == type_)?;
                let message = found["message"].as_str()?;
                message.contains(part).then(|| message.to_owned())
            },
        )
        .await
    }

    /// Waits for so many events with this reason.
    pub(crate) async fn told(&self, reason: &str, count: usize) -> Vec<EventNote> {
        wait(
            &format!("{count} events {reason}"),
            self.changed.subscribe(),
            || Some(self.events(reason)).filter(|events| events.len() >= count),
        )
        .await
    }

    /// Waits for an event with this reason.
    pub(crate) async fn event(&self, reason: &str) -> EventNote {
        wait(&format!("event {reason}"), self.changed.subscribe(), || {
            self.events(reason).pop()
        })
        .await
    }

    pub(crate) async fn finalizer_removed(&self, name: &str) {
        wait(
            "the finalizer to be removed",
            self.changed.subscribe(),
            || {
                self.state
                    .lock()
                    .unwrap()
                    .finalizers_removed
                    .iter()
                    .any(|known| known == name)
                    .then_some(())
            },
        )
        .await;
    }

    /// HPAs cannot be removed, for this reason.
    pub(crate) fn keep_hpas(&self, why: PublishError) {
        self.state.lock().unwrap().hpas_kept = Some(why);
    }

    pub(crate) fn hpas_removed(&self) -> Vec<String> {
        self.state.lock().unwrap().hpas_removed.clone()
    }

    pub(crate) async fn hpa_removed(&self, name: &str) {
        wait("the HPA to be removed", self.changed.subscribe(), || {
            self.state
                .lock()
                .unwrap()
                .hpas_removed
                .iter()
                .any(|known| known == name)
                .then_some(())
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|n| *n += 1);
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Default::default());
    }
    for (field, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut into[field], value);
        }
    }
}

impl Publisher for FakePublisher {
    fn patch_status<'a>(
        &'a self,
        key: &'a TargetKey,
        status: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.change(|state| {
                state.patches += 1;
                merge(
                    state.status.entry(key.name.to_string()).or_default(),
                    status,
                );
            });
            Ok(())
        })
    }

    fn event<'a>(&'a self, note: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.change(|state| state.events.push(note.clone()));
            Ok(())
        })
    }

    fn remove_finalizer<'a>(
        &'a self,
        key: &'a TargetKey,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.change(|state| state.finalizers_removed.push(key.name.to_string()));
            Ok(())
        })
    }

    fn remove_hpa<'a>(
        &'a self,
        _: &'a str,
        hpa: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let kept = self.state.lock().unwrap().hpas_kept.clone();
            kept.map_or(Ok(()), Err)?;
            self.change(|state| state.hpas_removed.push(hpa.name.to_string()));
            Ok(())
        })
    }
}

/// There are no Secrets and ConfigMaps.
#[derive(Debug)]
pub(crate) struct FakeSecrets;

impl SecretReader for FakeSecrets {
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async { Ok(None) })
    }

    fn config_map<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async { Ok(None) })
    }
}
