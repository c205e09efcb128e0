//! Specs and observations that tests and benchmarks build on.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy
#![allow(dead_code, reason = "each test takes what it needs")]

use std::time::Duration;

use neap_engine::{
    Container, ContainerKind, DecisionState, Evaluation, MetricSpec, Observation, Pod, PodPhase,
    PodReadings, Reading, Ready, ReadyStatus, Requests, Resource, ResourceTarget, Sample,
    ScalingSpec, TriggerSpec, ValueReading, ValueTarget, evaluate,
};
use neap_units::{MilliValue, Timestamp};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub(crate) fn units(units: i64) -> MilliValue {
    MilliValue::from_units(units)
}

/// An external trigger `s0-NAME` with an average target.
pub(crate) fn external(name: &str, target: i64) -> TriggerSpec {
    TriggerSpec {
        metric_name: format!("s0-{name}"),
        name: Some(name.to_owned()),
        kind: "mysql".to_owned(),
        metric: MetricSpec::External {
            selector: None,
            target: ValueTarget::AverageValue(units(target)),
            activation: MilliValue::ZERO,
        },
    }
}

pub(crate) fn cpu(percent: i32) -> TriggerSpec {
    TriggerSpec {
        metric_name: "cpu".to_owned(),
        name: None,
        kind: "cpu".to_owned(),
        metric: MetricSpec::Resource {
            resource: Resource::Cpu,
            container: None,
            target: ResourceTarget::Utilization(percent),
        },
    }
}

/// A number per pod, such as a backlog.
pub(crate) fn per_pod(name: &str, target: MilliValue) -> TriggerSpec {
    TriggerSpec {
        metric_name: name.to_owned(),
        name: None,
        kind: "node-accept-queue".to_owned(),
        metric: MetricSpec::Pods {
            average_value: target,
            capacity_floor: None,
        },
    }
}

pub(crate) fn spec(triggers: Vec<TriggerSpec>) -> ScalingSpec {
    ScalingSpec {
        namespace: "ns".to_owned(),
        target_kind: "apps/v1.Deployment".to_owned(),
        target_name: "web".to_owned(),
        triggers,
        ..ScalingSpec::default()
    }
}

/// A pod that has been ready for long, with one container of 1 core and 1 GiB.
pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        name: name.to_owned(),
        phase: PodPhase::Running,
        deleting: false,
        started: Some(at(-100_000)),
        ready: Some(Ready {
            status: ReadyStatus::True,
            since: Some(at(-99_990)),
        }),
        containers: vec![Container {
            name: "app".to_owned(),
            kind: ContainerKind::Main,
            requests: Requests {
                cpu: Some(units(1)),
                memory: Some(MilliValue::new(1_073_741_824_000)),
            },
        }],
        pod_requests: None,
        overhead: Requests::default(),
    }
}

pub(crate) fn pods(count: usize) -> Vec<Pod> {
    (0..count)
        .map(|index| pod(&format!("web-{index}")))
        .collect()
}

pub(crate) fn samples(count: usize, milli: i64, now: Timestamp) -> Vec<Option<Sample>> {
    let value = MilliValue::new(milli);
    vec![
        Some(Sample {
            value,
            at: now,
            window: Duration::from_secs(15)
        });
        count
    ]
}

pub(crate) fn value(values: &[MilliValue], now: Timestamp) -> Reading<'_> {
    Reading::Values(ValueReading {
        values,
        active: None,
        at: now,
    })
}

pub(crate) fn of_pods(samples: &[Option<Sample>]) -> Reading<'_> {
    Reading::Pods(PodReadings {
        samples,
        unknown: &[],
        arrival_rate: None,
    })
}

/// A target in closed loop: what is decided is written, and as many pods are ready at once.
pub(crate) struct Target {
    pub(crate) spec: ScalingSpec,
    pub(crate) state: DecisionState,
    pub(crate) replicas: i32,
}

impl Target {
    pub(crate) fn new(spec: ScalingSpec, replicas: i32) -> Self {
        Self {
            spec,
            state: DecisionState::default(),
            replicas,
        }
    }

    /// Evaluates without changing anything.
    pub(crate) fn look(&self, readings: &[Reading<'_>], now: Timestamp) -> Evaluation {
        let pods = pods(usize::try_from(self.replicas).unwrap());
        let pods: Vec<&Pod> = pods.iter().collect();
        let seen = Observation {
            spec_replicas: self.replicas,
            status_replicas: self.replicas,
            ready_replicas: None,
            pods: &pods,
            selector_problem: None,
            readings,
        };
        evaluate(&self.spec, &self.state, &seen, now)
    }

    /// Evaluates, commits and writes.
    pub(crate) fn step(&mut self, readings: &[Reading<'_>], now: Timestamp) -> Evaluation {
        let evaluation = self.look(readings, now);
        self.state = evaluation.state.clone();
        self.replicas = evaluation.desired;
        evaluation
    }

    /// As [`Self::step`], with one external value per trigger.
    pub(crate) fn step_values(&mut self, values: &[i64], now: Timestamp) -> Evaluation {
        let values: Vec<MilliValue> = values.iter().copied().map(units).collect();
        let readings: Vec<Reading<'_>> = values
            .iter()
            .map(|one| value(std::slice::from_ref(one), now))
            .collect();
        self.step(&readings, now)
    }
}
