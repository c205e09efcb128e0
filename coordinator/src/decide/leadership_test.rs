//! What a leadership does not take over from an earlier one, nor an object from another of its name.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use neap_consensus::{Leader, Leadership, LogPosition, NodeId, ProposeError, StateMachine};
use neap_engine::DecisionState;
use neap_triggers::{Reading, Source, TriggerContext};
use neap_units::{MilliValue, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::decider::{DecideSettings, Decider, Parts};
use super::replicated::{Command, DecisionTable, TargetRecord};
use super::target::Target;
use super::time::Opened;
use crate::clock::{Boottime, Clock, ManualClock};
use crate::keys::{LeaderId, TargetKey, TargetRef};
use crate::metrics::Metrics;
use crate::poll::{AuthContext, PollLimits, PollOutcome, Poller};
use crate::publish::{Desk, EventNote, Explain, History, PublishError, Publisher};
use crate::scaler::{Scale, ScaleError, Scaler, Written};
use crate::signals::{SignalLimits, SignalStore};
use crate::source::{Data, ReadError, SecretReader};
use crate::testing::replicas::Replicas;
use crate::world::{
    Changes, RemovableHpa, ScaleResource, TargetFacts, TargetId, World, testing as pods,
};

/// What the decider asks nothing of here.
struct Nobody;

impl Scaler for Nobody {
    fn read<'a>(&'a self, _: &'a TargetRef) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async { Err(ScaleError::NotFound) })
    }

    fn write<'a>(
        &'a self,
        _: &'a TargetRef,
        _: i32,
        _: &'a str,
        _: LeaderId,
        _: Boottime,
    ) -> BoxFuture<'a, Result<Written, ScaleError>> {
        Box::pin(async { Err(ScaleError::NotFound) })
    }
}

impl Publisher for Nobody {
    fn patch_status<'a>(
        &'a self,
        _: &'a TargetKey,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn event<'a>(&'a self, _: &'a EventNote) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove_finalizer<'a>(&'a self, _: &'a TargetKey) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove_hpa<'a>(
        &'a self,
        _: &'a str,
        _: &'a RemovableHpa,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }
}

impl SecretReader for Nobody {
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

/// A decider whose turns the tests take themselves, and which is told who leads.
struct Bench {
    clock: ManualClock,
    world: Arc<World>,
    changes: Changes,
    decider: Decider,
    replicas: Replicas,
    version: u64,
}

fn key() -> TargetKey {
    TargetKey::new("ns", "web")
}

fn producers() -> Value {
    json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}})
}

impl Bench {
    async fn start() -> Self {
        let clock = ManualClock::new(Boottime::from_micros(0), jiff::Timestamp::UNIX_EPOCH);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let replicas = Replicas::formed(1).await;
        let consensus = replicas.members()[0].clone();
        let world = Arc::new(World::new());
        let metrics = Arc::new(Metrics::new());
        let (poller, polls) = Poller::new(shared.clone(), metrics.clone(), PollLimits::default());
        let nobody = Arc::new(Nobody);
        let desk = Desk::new(
            nobody.clone(),
            consensus.clone(),
            shared.clone(),
            metrics.clone(),
        );
        let auth = AuthContext {
            world: world.clone(),
            secrets: nobody.clone(),
            own_namespace: "neap".into(),
        };
        let parts = Parts {
            world: world.clone(),
            store: SignalStore::new(SignalLimits::default()),
            poller,
            polls,
            consensus,
            table: DecisionTable::new(shared.clone()),
            scaler: nobody,
            desk,
            explain: Arc::new(Explain::new(shared.clone(), Arc::new(History::default()))),
            metrics,
            auth,
            opened: Opened::before(&clock),
            clock: shared,
            settings: DecideSettings::default(),
        };
        let changes = world.changes();
        let context = TriggerContext::default();
        Self {
            clock,
            world,
            changes,
            decider: Decider::new(parts, context, CancellationToken::new()),
            replicas,
            version: 0,
        }
    }

    /// The decider, which is of member 1, is told who leads.
    fn led_by(&mut self, node: u64, term: u64) {
        let node = NodeId(node);
        let leader = Leader {
            id: LeaderId { term, node },
            name: format!("member-{}", node.0),
            address: String::new(),
        };
        self.decider.on_leadership(&Leadership {
            node: Some(NodeId(1)),
            term,
            leader: Some(leader),
            is_self: node == NodeId(1),
        });
    }

    /// Takes in what has changed.
    fn take(&mut self) {
        let changes = self.changes.take();
        self.decider.on_changes(changes);
    }

    fn scaled_object(&mut self, uid: &str, trigger: &Value) {
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "web", "namespace": "ns", "uid": uid},
            "spec": {
                "minReplicaCount": 1,
                "scaleTargetRef": {"name": "web"},
                "triggers": [trigger],
            },
        });
        let object = serde_json::from_value(object).unwrap();
        self.world.apply_scaled_object(object);
        self.take();
    }

    /// The target is seen at these replicas.
    fn see(&mut self, replicas: i32) {
        self.version += 1;
        let facts = TargetFacts {
            resource: Arc::new(ScaleResource {
                group: "apps".into(),
                version: "v1".into(),
                kind: "Deployment".into(),
                plural: "deployments".into(),
            }),
            uid: "deployment-web".into(),
            replicas,
            status_replicas: replicas,
            selector: Ok(Some("app=web".parse().unwrap())),
            resource_version: self.version.to_string().into(),
            generation: 1,
            deleting: false,
            template: None,
            last_writer: None,
        };
        let target = TargetRef::new("ns", "apps/v1", "Deployment", "web");
        self.world
            .apply_target_facts(&TargetId::from(&target), facts);
        self.take();
    }

    fn target(&mut self) -> &mut Target {
        self.decider.targets.get_mut(&key()).unwrap()
    }

    /// The event source of the first trigger answers.
    fn answered(&mut self) {
        let compiled = self.target().compiled().unwrap();
        let Source::Polled(source) = &compiled.triggers[0].source else {
            panic!("it is polled");
        };
        let asked = source.query_key();
        let answer = Ok(Reading {
            values: vec![MilliValue::from_units(1_000)],
            active: true,
        });
        self.decider.on_poll(PollOutcome::Answered {
            key: key(),
            trigger: 0,
            asked,
            answer,
        });
        assert!(self.is_read());
    }

    fn is_read(&mut self) -> bool {
        self.target().polled[0].is_some()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_a_leadership_is_not_decided_on() {
    let mut bench = Bench::start().await;
    bench.led_by(1, 1);
    bench.scaled_object(
        "first",
        &json!({"type": "prometheus", "metadata": {
            "serverAddress": "http://127.0.0.1:1", "query": "up", "threshold": "1"
        }}),
    );
    bench.see(1);
    assert!(!bench.is_read());
    bench.answered();
    bench.led_by(2, 2);
    bench.led_by(1, 3);
    assert!(!bench.is_read(), "another led in between");
    bench.answered();
    bench.led_by(1, 5);
    assert!(!bench.is_read(), "another may have led in between");
    bench.answered();
    bench.decider.on_poll(PollOutcome::Stopped);
    assert!(!bench.is_read(), "nobody asked in between");
    bench.answered();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_leaders_write_is_no_contest() {
    let mut bench = Bench::start().await;
    bench.led_by(1, 1);
    bench.scaled_object("first", &producers());
    bench.see(5);
    for turn in 1..=3 {
        bench.target().contest.wrote(5);
        bench.led_by(2, 2 * turn);
        bench.see(8);
        bench.see(5);
        bench.led_by(1, 2 * turn + 1);
    }
    // The watch is late, and the leadership new.
    bench.see(8);
    let now = bench.clock.boottime();
    assert!(!bench.target().contest.is_contested(now));
    for _ in 0..3 {
        bench.target().contest.wrote(5);
        bench.see(5);
        bench.see(8);
    }
    assert!(
        bench.target().contest.is_contested(now),
        "what is not a leader's is"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_does_not_take_the_record_of_another_that_had_its_name() {
    let mut bench = Bench::start().await;
    let mut state = DecisionState::default();
    let active = Timestamp::from_millis(5);
    state.mark_active(active);
    let record = TargetRecord {
        replicas: 1,
        state: state.encode(),
    };
    let entry = Command {
        at: Timestamp::from_millis(10),
        wall_micros: 0,
        changes: vec![(key(), Some(record))],
    };
    let position = LogPosition {
        term: 1,
        node: NodeId(1),
        index: 1,
    };
    let mut log = bench.decider.parts.table.machine();
    log.apply(position, &entry.encode()).unwrap();
    bench.led_by(1, 1);
    bench.scaled_object("first", &producers());
    bench.see(1);
    assert_eq!(bench.target().state.last_active(), Some(active));
    bench.world.remove_scaled_object(&key());
    bench.take();
    bench.scaled_object("first", &producers());
    bench.see(1);
    assert_eq!(
        bench.target().state.last_active(),
        Some(active),
        "it was away for a moment"
    );

    bench.scaled_object("second", &producers());
    bench.see(1);
    assert_eq!(bench.target().state, DecisionState::default());
    bench.world.remove_scaled_object(&key());
    bench.take();
    bench.scaled_object("third", &producers());
    bench.see(1);
    assert_eq!(bench.target().state, DecisionState::default());

    // The old record goes and the new one comes, together.
    let leading = bench.decider.leading.unwrap();
    let now = bench.clock.boottime();
    bench.decider.unsaved.insert(key());
    let committed = bench.decider.commit(&leading, now, &[], &[]).await;
    committed.unwrap();
    assert!(bench.decider.removed.is_empty());
    let target = bench.target();
    assert!(target.committed.is_some());
    assert_eq!(target.committed, target.record());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_committed_is_written_again_and_nothing_due_is_lost() {
    let mut bench = Bench::start().await;
    bench.led_by(1, 1);
    bench.scaled_object("first", &producers());
    bench.see(1);
    for n in 0..3 {
        let pod = pods::pod("ns", &format!("producer-{n}")).label("app", "producer");
        bench.world.apply_pod(pod.done());
    }
    bench.take();
    let leading = bench.decider.leading.unwrap();
    let now = bench.clock.boottime();
    let (cron, edge) = (TargetKey::new("ns", "cron"), now + Duration::from_secs(60));
    bench.decider.due.clear();
    bench.decider.due.no_later_than(&cron, edge);
    let act = bench.decider.look_at(&key(), &leading, now);
    let acts = [act.expect("it is scaled up")];
    let target = bench.target();
    target.committed = target.record();
    bench.replicas.members()[0].shutdown().await;
    let committed = bench.decider.commit(&leading, now, &[], &acts).await;
    assert!(committed.is_err());
    let refused = ProposeError::NotLeader { hint: None };
    bench.decider.not_committed(&refused, &acts);
    assert_eq!(
        bench.decider.due.next(),
        Some(now + Duration::from_millis(100)),
        "in a while, and not at once"
    );
    assert!(bench.decider.next_flush > now);
    assert_eq!(bench.decider.due.take(edge), [key(), cron]);
    // The log may hold what was never written.
    bench.decider.note_unsaved(&key(), leading.time.at(now));
    assert!(bench.decider.unsaved.contains(&key()));
}
