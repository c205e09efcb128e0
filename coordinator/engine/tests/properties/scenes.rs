//! What is seen of a target at one moment, before it is known how many replicas it has by then.

use neap_engine::{
    Container, ContainerKind, FailureCause, MetricSpec, Pod, PodPhase, Ready, ReadyStatus,
    Requests, ScalingSpec,
};
use neap_units::{MilliValue, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// One moment.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Milliseconds since the moment before.
    pub(crate) after: i64,
    /// The pods, repeated as often as there are replicas.
    pub(crate) pods: Vec<PodScene>,
    /// How many pods exist besides the replicas wanted; some may be missing.
    pub(crate) surplus: i32,
    /// One per trigger.
    pub(crate) readings: Vec<ReadingScene>,
    /// Somebody else sets the replicas first.
    pub(crate) manual: Option<i32>,
    /// The write is refused.
    pub(crate) refused: bool,
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodScene {
    Ready,
    /// Ready with a status that is not known.
    Unknown,
    /// Started a moment ago and not ready.
    Starting,
    /// Was ready and is not any more.
    NoLonger,
    Pending,
    Failed,
    Deleting,
}

/// What a trigger reads.
#[derive(Clone, Debug)]
pub(crate) enum ReadingScene {
    /// Thousandths per pod, repeated as often as there are pods, and of unknown pods.
    Pods {
        samples: Vec<Option<i64>>,
        unknown: Vec<i64>,
        arrivals: Option<i64>,
    },
    /// Thousandths of each series.
    Values {
        series: Vec<i64>,
        active: Option<bool>,
    },
    Failed {
        cause: FailureCause,
        counts: bool,
    },
}

fn pod_scene() -> impl Strategy<Value = PodScene> {
    prop_oneof![
        8 => Just(PodScene::Ready),
        1 => Just(PodScene::Unknown),
        1 => Just(PodScene::Starting),
        1 => Just(PodScene::NoLonger),
        1 => Just(PodScene::Pending),
        1 => Just(PodScene::Failed),
        1 => Just(PodScene::Deleting),
    ]
}

fn thousandths() -> impl Strategy<Value = i64> {
    prop_oneof![1 => Just(0_i64), 4 => 0..4000_i64, 2 => 0..100_000_i64]
}

fn failed() -> impl Strategy<Value = ReadingScene> {
    let cause = prop_oneof![
        Just(FailureCause::Source),
        Just(FailureCause::Empty),
        Just(FailureCause::Other)
    ];
    (cause, any::<bool>()).prop_map(|(cause, counts)| ReadingScene::Failed { cause, counts })
}

pub(crate) fn is_of_pods(metric: &MetricSpec) -> bool {
    matches!(
        metric,
        MetricSpec::Resource { .. } | MetricSpec::Pods { .. }
    )
}

/// A reading of the kind that `metric` takes.
fn reading(metric: &MetricSpec) -> BoxedStrategy<ReadingScene> {
    let whole = if is_of_pods(metric) {
        let samples = vec(option::weighted(0.9, thousandths()), 1..6);
        let unknown = prop_oneof![6 => Just(Vec::new()), 1 => vec(thousandths(), 1..3)];
        (samples, unknown, option::of(thousandths()))
            .prop_map(|(samples, unknown, arrivals)| ReadingScene::Pods {
                samples,
                unknown,
                arrivals,
            })
            .boxed()
    } else {
        let active = prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)];
        (vec(thousandths(), 1..3), active)
            .prop_map(|(series, active)| ReadingScene::Values { series, active })
            .boxed()
    };
    prop_oneof![5 => whole, 1 => failed()].boxed()
}

fn scene(readings: Vec<BoxedStrategy<ReadingScene>>) -> impl Strategy<Value = Scene> {
    (
        prop_oneof![1..2000_i64, 1..60_000_i64],
        vec(pod_scene(), 1..5),
        prop_oneof![6 => Just(0), 1 => -2..3_i32],
        readings,
        option::weighted(0.05, 0..50_i32),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(after, pods, surplus, readings, manual, refused)| Scene {
            after,
            pods,
            surplus,
            readings,
            manual,
            refused,
        })
}

/// From one to `most` moments that fit the triggers of a spec.
pub(crate) fn scenes(spec: &ScalingSpec, most: usize) -> BoxedStrategy<Vec<Scene>> {
    let readings = spec.triggers.iter().map(|trigger| reading(&trigger.metric));
    vec(scene(readings.collect()), 1..=most).boxed()
}

impl PodScene {
    pub(crate) fn pod(self, index: usize, now: Timestamp) -> Pod {
        let ago = |seconds: i64| Timestamp::from_millis(now.as_millis() - seconds * 1000);
        let (phase, started, status, since) = match self {
            Self::Ready | Self::Deleting => (PodPhase::Running, 9000, ReadyStatus::True, 8990),
            Self::Unknown => (PodPhase::Running, 9000, ReadyStatus::Unknown, 8990),
            Self::Starting => (PodPhase::Running, 20, ReadyStatus::False, 19),
            Self::NoLonger => (PodPhase::Running, 9000, ReadyStatus::False, 100),
            Self::Pending => (PodPhase::Pending, 5, ReadyStatus::False, 5),
            Self::Failed => (PodPhase::Failed, 9000, ReadyStatus::False, 100),
        };
        Pod {
            name: format!("web-{index}"),
            phase,
            deleting: self == Self::Deleting,
            started: Some(ago(started)),
            ready: Some(Ready {
                status,
                since: Some(ago(since)),
            }),
            containers: vec![Container {
                name: "app".to_owned(),
                kind: ContainerKind::Main,
                requests: REQUESTS,
            }],
            pod_requests: None,
            overhead: Requests::default(),
        }
    }
}

/// What every pod requests: one of each, so that a thousandth of use is a thousandth of the request.
const REQUESTS: Requests = Requests {
    cpu: Some(MilliValue::from_units(1)),
    memory: Some(MilliValue::from_units(1)),
};
