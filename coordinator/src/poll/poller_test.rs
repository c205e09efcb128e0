use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use neap_api::{AuthenticationRef, ScaleTrigger, TriggerAuthentication};
use neap_triggers::{PollCall, PollFuture, PolledTrigger, QueryKey, Reading};
use neap_units::MilliValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{Boottime, Clock, ManualClock};
use crate::keys::TargetKey;
use crate::metrics::Metrics;
use crate::source::{Data, ReadError, SecretReader};
use crate::world::World;

#[derive(Debug)]
struct Counting {
    key: u128,
    asked: AtomicUsize,
}

impl PolledTrigger for Counting {
    fn poll(&self, _: PollCall) -> PollFuture<'_> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let value = MilliValue::from_units(i64::try_from(asked).unwrap());
        Box::pin(async move {
            Ok(Reading {
                values: vec![value],
                active: true,
            })
        })
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key)
    }
}

/// One Secret whose value a test may rotate.
#[derive(Debug, Default)]
struct OneSecret(std::sync::Mutex<String>);

impl SecretReader for OneSecret {
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        let value = self.0.lock().unwrap().clone().into_bytes();
        Box::pin(async move { Ok(Some(Data::from([("key".to_owned(), value)]))) })
    }

    fn config_map<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<Data>, ReadError>> {
        Box::pin(async { Ok(None) })
    }
}

struct Bench {
    clock: ManualClock,
    poller: Arc<Poller>,
    outcomes: mpsc::Receiver<PollOutcome>,
    secret: Arc<OneSecret>,
    auth: AuthContext,
    stop: CancellationToken,
}

impl Bench {
    fn start() -> Self {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let (poller, outcomes) =
            Poller::new(shared, Arc::new(Metrics::new()), PollLimits::default());
        let secret = Arc::new(OneSecret::default());
        let world = Arc::new(World::new());
        let mut authentication = TriggerAuthentication::default();
        authentication.metadata.namespace = Some("ns".into());
        authentication.metadata.name = Some("auth".into());
        authentication.spec.secret_target_ref =
            vec![neap_api::trigger_authentication::AuthTargetRef {
                parameter: "password".into(),
                name: "secret".into(),
                key: "key".into(),
            }];
        world.apply_authentication(authentication);
        let auth = AuthContext {
            world,
            secrets: secret.clone(),
            own_namespace: "neap".into(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(poller.clone().run(auth.clone(), stop.clone()));
        Self {
            clock,
            poller,
            outcomes,
            secret,
            auth,
            stop,
        }
    }

    async fn outcome(&mut self) -> PollOutcome {
        tokio::time::timeout(Duration::from_secs(60), self.outcomes.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn answer(&mut self) -> (TargetKey, i64) {
        loop {
            match self.outcome().await {
                PollOutcome::Answered { key, answer, .. } => {
                    return (key, answer.unwrap().values[0].get() / 1000);
                }
                PollOutcome::ReferencesChanged { key } => return (key, -1),
                PollOutcome::Stopped => {}
            }
        }
    }
}

fn source(key: u128) -> Arc<Counting> {
    Arc::new(Counting {
        key,
        asked: AtomicUsize::new(0),
    })
}

fn spec(source: &Arc<Counting>, definition: ScaleTrigger, resolved: Resolved) -> PollSpec {
    PollSpec {
        trigger: 0,
        source: source.clone(),
        interval: Duration::from_secs(30),
        definition,
        resolved,
        template: None,
        container: None,
    }
}

fn plain(source: &Arc<Counting>) -> PollSpec {
    spec(source, ScaleTrigger::default(), Resolved::default())
}

fn key(name: &str) -> TargetKey {
    TargetKey::new("ns", name)
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_only_while_leading() {
    let mut bench = Bench::start();
    // A digest of 0 makes the second interval half the first.
    let source = source(0);
    bench.poller.set(&key("a"), vec![plain(&source)]);
    bench.poller.set(&key("b"), vec![plain(&source)]);
    assert_eq!(bench.poller.questions(), 1);
    bench.clock.advance(Duration::from_secs(100));
    tokio::task::yield_now().await;
    assert_eq!(
        source.asked.load(Ordering::SeqCst),
        0,
        "a follower asks nothing"
    );

    bench.poller.lead(true);
    assert_eq!(
        (bench.answer().await, bench.answer().await),
        ((key("a"), 1), (key("b"), 1))
    );
    bench.clock.advance(Duration::from_secs(15));
    assert_eq!(
        (bench.answer().await, bench.answer().await),
        ((key("a"), 2), (key("b"), 2))
    );
    bench.poller.set(&key("c"), vec![plain(&source)]);
    assert_eq!(
        bench.answer().await,
        (key("c"), 2),
        "a newcomer gets the last answer at once"
    );
    bench.poller.remove(&key("a"));
    bench.poller.remove(&key("b"));
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(bench.answer().await, (key("c"), 3));
    bench.poller.remove(&key("c"));
    assert_eq!(bench.poller.questions(), 0);
    bench.stop.cancel();
}

#[tokio::test]
async fn each_leadership_asks_at_once_and_spreads_then() {
    let mut bench = Bench::start();
    let source = source(0);
    bench.poller.set(&key("a"), vec![plain(&source)]);
    for leadership in 0..2 {
        bench.poller.lead(true);
        assert_eq!(bench.answer().await, (key("a"), 3 * leadership + 1));
        // As the digest will have it: after half an interval, and whole ones from then on.
        for (asked, after) in [(2, 15), (3, 30)] {
            bench.clock.advance(Duration::from_secs(after));
            assert_eq!(bench.answer().await, (key("a"), 3 * leadership + asked));
        }
        bench.poller.lead(false);
    }
    bench.stop.cancel();
}

#[tokio::test]
async fn what_an_earlier_leadership_was_answered_is_told_to_nobody() {
    let mut bench = Bench::start();
    let source = source(0);
    bench.poller.set(&key("a"), vec![plain(&source)]);
    bench.poller.lead(true);
    assert_eq!(bench.answer().await, (key("a"), 1));
    bench.poller.lead(false);
    assert!(matches!(bench.outcome().await, PollOutcome::Stopped));
    bench.poller.set(&key("b"), vec![plain(&source)]);
    bench.poller.lead(true);
    assert_eq!(
        (bench.answer().await, bench.answer().await),
        ((key("a"), 2), (key("b"), 2)),
        "a newcomer waits for an answer to what is asked now"
    );
    bench.stop.cancel();
}

#[tokio::test]
async fn a_rotated_secret_is_noticed_at_the_next_poll() {
    let mut bench = Bench::start();
    *bench.secret.0.lock().unwrap() = "old".to_owned();
    let definition = ScaleTrigger {
        authentication_ref: Some(AuthenticationRef {
            name: "auth".into(),
            kind: None,
        }),
        ..ScaleTrigger::default()
    };
    let resolved = resolve(&bench.auth, "ns", &definition, None, None)
        .await
        .unwrap();
    assert_eq!(resolved.params.get("password"), Some("old"));
    let source = source(0);
    bench.poller.lead(true);
    bench
        .poller
        .set(&key("a"), vec![spec(&source, definition, resolved)]);
    assert_eq!(bench.answer().await, (key("a"), 1));
    *bench.secret.0.lock().unwrap() = "new".to_owned();
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(
        bench.answer().await,
        (key("a"), -1),
        "built again instead of asked with the old one"
    );
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    bench.stop.cancel();
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let bench = Bench::start();
    let mut definition = ScaleTrigger {
        authentication_ref: Some(AuthenticationRef {
            name: "none".into(),
            kind: None,
        }),
        ..ScaleTrigger::default()
    };
    let error = resolve(&bench.auth, "ns", &definition, None, None)
        .await
        .unwrap_err();
    assert!(!error.may_pass());
    assert!(
        error
            .to_string()
            .contains("authenticationRef.name: \"none\" is not allowed"),
        "{error}"
    );

    let mut authentication = TriggerAuthentication::default();
    authentication.metadata.namespace = Some("ns".into());
    authentication.metadata.name = Some("vault".into());
    authentication.spec.file_path = Some("creds.json".into());
    bench.auth.world.apply_authentication(authentication);
    definition.authentication_ref = Some(AuthenticationRef {
        name: "vault".into(),
        kind: None,
    });
    let error = resolve(&bench.auth, "ns", &definition, None, None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("filePath of TriggerAuthentication \"vault\""),
        "{error}"
    );
    bench.stop.cancel();
}
