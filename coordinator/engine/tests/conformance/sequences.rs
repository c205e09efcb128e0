//! A whole controller over time.

use std::collections::BTreeMap;

use neap_engine::hpa_spec::HpaSpec;
use neap_engine::{
    ConditionType, Container, ContainerKind, DecisionState, Evaluation, Failure, FailureCause,
    MetricSpec, MetricStatus, Observation, Pod, PodReadings, Reading, Requests, Resource, Sample,
    ScalingSpec, Settings, Step as WhyStep, TriggerOutcome, ValueReading, ValueTarget,
    ZeroHandling, evaluate,
};
use neap_units::{MilliValue, Timestamp};
use serde::Deserialize;

use super::report::Report;
use super::vectors::{self, VectorFile, VectorPod, VectorPodMetric, accident, at, period};

#[derive(Deserialize)]
pub(crate) struct Sequence {
    pub(crate) id: String,
    pub(crate) family: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    pub(crate) controller: Controller,
    pub(crate) spec_defaulted: HpaSpec,
    #[serde(default)]
    pub(crate) pod_template: Vec<TemplateContainer>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Controller {
    tolerance: f64,
    downscale_stabilization_ms: i64,
    cpu_initialization_period_ms: i64,
    initial_readiness_delay_ms: i64,
    gate_hpa_scale_to_zero: bool,
    gate_hpa_configurable_tolerance: bool,
}

#[derive(Deserialize)]
pub(crate) struct TemplateContainer {
    name: String,
    #[serde(default)]
    requests_milli: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) t_ms: i64,
    #[serde(default)]
    pub(crate) controller_restart: bool,
    pub(crate) set_controller: Option<Controller>,
    pub(crate) set_spec_defaulted: Option<HpaSpec>,
    pub(crate) spec_replicas: i32,
    pub(crate) status_replicas: i32,
    #[serde(default)]
    pub(crate) scale_update_fails: bool,
    #[serde(default)]
    pub(crate) manual_scale: bool,
    pub(crate) recommendation: Option<i32>,
    #[serde(default)]
    pub(crate) metrics: Vec<MetricInput>,
    #[serde(default)]
    pub(crate) pods: Vec<VectorPod>,
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
pub(crate) struct MetricInput {
    #[serde(default)]
    error: bool,
    values_milli: Option<Vec<i64>>,
    value_milli: Option<i64>,
    pods: Option<Vec<VectorPodMetric>>,
}

#[derive(Deserialize)]
pub(crate) struct Expect {
    metric_recommendation: Option<i32>,
    desired_replicas: i32,
    scaled_to: Option<i32>,
    conditions: BTreeMap<String, (String, String)>,
    #[serde(default)]
    events: Vec<(String, String, String)>,
    reconcile_error: bool,
    current_metrics: Option<Vec<Option<ExpectedMetric>>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ExpectedMetric {
    value_milli: Option<i64>,
    average_value_milli: Option<i64>,
    average_utilization: Option<i32>,
}

impl Controller {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            tolerance: self.tolerance,
            downscale_stabilization: period(self.downscale_stabilization_ms),
            cpu_initialization_period: period(self.cpu_initialization_period_ms),
            initial_readiness_delay: period(self.initial_readiness_delay_ms),
            configurable_tolerance: self.gate_hpa_configurable_tolerance,
            // The controller's own pace: every evaluation is one of its looks.
            reversal_hold: std::time::Duration::ZERO,
            sync_period: std::time::Duration::ZERO,
            noise_margin: 0.0,
        }
    }

    fn zero(&self) -> ZeroHandling {
        if self.gate_hpa_scale_to_zero {
            ZeroHandling::HpaScaleToZero
        } else {
            ZeroHandling::Disabled
        }
    }

    pub(crate) fn compile(&self, spec: &HpaSpec) -> ScalingSpec {
        spec.to_scaling_spec("ns", self.zero(), self.settings())
    }
}

/// The text the recorded metrics API failed with.
const API_ERROR: &str = "the metrics API is unavailable";

/// Everything an observation of a step borrows from.
pub(crate) struct StepData {
    pods: Vec<Pod>,
    samples: Vec<(Vec<Option<Sample>>, Vec<MilliValue>)>,
    values: Vec<Vec<MilliValue>>,
}

impl StepData {
    pub(crate) fn of(sequence: &Sequence, step: &Step) -> Self {
        let containers: Vec<_> = sequence
            .pod_template
            .iter()
            .map(|container| {
                let milli = |name: &str| {
                    container
                        .requests_milli
                        .get(name)
                        .copied()
                        .map(MilliValue::new)
                };
                Container {
                    name: container.name.clone(),
                    kind: ContainerKind::Main,
                    requests: Requests {
                        cpu: milli("cpu"),
                        memory: milli("memory"),
                    },
                }
            })
            .collect();
        let pods = step.pods.iter().map(|pod| Pod {
            containers: containers.clone(),
            ..pod.to_pod(Resource::Cpu)
        });
        let samples = step
            .metrics
            .iter()
            .map(|metric| vectors::samples(metric.pods.as_deref().unwrap_or_default(), &step.pods));
        let values = step.metrics.iter().map(|metric| {
            let one = metric.value_milli.into_iter();
            let all = one.chain(metric.values_milli.iter().flatten().copied());
            all.map(MilliValue::new).collect()
        });
        Self {
            pods: pods.collect(),
            samples: samples.collect(),
            values: values.collect(),
        }
    }

    pub(crate) fn pods(&self) -> Vec<&Pod> {
        self.pods.iter().collect()
    }

    pub(crate) fn readings<'a>(
        &'a self,
        spec: &ScalingSpec,
        step: &Step,
        now: Timestamp,
    ) -> Vec<Reading<'a>> {
        let each = spec.triggers.iter().zip(&step.metrics).enumerate();
        each.map(|(index, (trigger, metric))| {
            let of_pods = matches!(
                trigger.metric,
                MetricSpec::Resource { .. } | MetricSpec::Pods { .. }
            );
            let empty = if of_pods {
                metric.pods.as_ref().is_none_or(Vec::is_empty)
            } else {
                self.values[index].is_empty()
            };
            let failure = |cause, message| {
                Reading::Failed(Failure {
                    cause,
                    message,
                    counts_for_fallback: true,
                    at: now,
                })
            };
            if metric.error {
                return failure(FailureCause::Source, API_ERROR);
            }
            match (empty, of_pods) {
                (true, true) => failure(
                    FailureCause::Empty,
                    "no metrics returned from resource metrics API",
                ),
                (true, false) => failure(
                    FailureCause::Empty,
                    "no metrics returned from external metrics API",
                ),
                (false, true) => {
                    let (samples, unknown) = &self.samples[index];
                    Reading::Pods(PodReadings {
                        samples,
                        unknown,
                        arrival_rate: None,
                    })
                }
                (false, false) => Reading::Values(ValueReading {
                    values: &self.values[index],
                    active: None,
                    at: now,
                }),
            }
        })
        .collect()
    }
}

/// What is kept of an object between steps.
#[derive(Default)]
struct Status {
    state: DecisionState,
    desired: i32,
    conditions: BTreeMap<String, (String, String)>,
}

pub(crate) fn run(file: &VectorFile, report: &mut Report) {
    for sequence in file.cases::<Sequence>() {
        let mut means_of_nothing = 0;
        match first_difference(&sequence, &mut means_of_nothing) {
            // The mean over no pods is x/0, which Go turns into whatever the platform does.
            None if means_of_nothing > 0 => report.apart("go_amd64_float_to_int"),
            None => report.pass(),
            Some(difference) => match accident(&sequence.tags).filter(|_| difference.saturated) {
                Some(tag) => report.apart(tag),
                None => {
                    let case = format!("{} {} {}", sequence.id, sequence.family, difference.at);
                    report.differ(&case, &difference.here, &difference.upstream);
                }
            },
        }
    }
}

struct Difference {
    at: String,
    here: String,
    upstream: String,
    saturated: bool,
}

fn first_difference(sequence: &Sequence, means_of_nothing: &mut usize) -> Option<Difference> {
    let mut controller = sequence.controller.clone();
    let mut hpa = sequence.spec_defaulted.clone();
    let mut status = Status::default();
    let mut spec = controller.compile(&hpa);
    for step in &sequence.steps {
        if step.controller_restart {
            status.state.forget_history();
        }
        if let Some(settings) = &step.set_controller {
            controller = settings.clone();
        }
        if let Some(edited) = &step.set_spec_defaulted {
            hpa = edited.clone();
        }
        if step.set_controller.is_some() || step.set_spec_defaulted.is_some() {
            spec = controller.compile(&hpa);
        }
        let found = reconcile(sequence, &spec, step, &mut status);
        *means_of_nothing += usize::from(found.has_mean_of_nothing(step));
        if let Some((here, upstream)) = found.compare(step, &status) {
            let at = format!("t={} ms, {}", step.t_ms, found.differs_in(step, &status));
            return Some(Difference {
                at,
                here,
                upstream,
                saturated: found.saturated,
            });
        }
    }
    None
}

struct Found {
    scaled_to: Option<i32>,
    raw: Option<i32>,
    computed: bool,
    events: Vec<(String, String, String)>,
    error: bool,
    metrics: Vec<Option<ExpectedMetric>>,
    saturated: bool,
    compares_metrics: bool,
    /// Which metrics are means over the pods that exist.
    means: Vec<bool>,
}

fn reconcile(sequence: &Sequence, spec: &ScalingSpec, step: &Step, status: &mut Status) -> Found {
    let now = at(step.t_ms);
    let data = StepData::of(sequence, step);
    let (pods, readings) = (data.pods(), data.readings(spec, step, now));
    let seen = Observation {
        spec_replicas: step.spec_replicas,
        status_replicas: step.status_replicas,
        ready_replicas: None,
        pods: &pods,
        selector_problem: None,
        readings: &readings,
    };
    let evaluation = evaluate(spec, &status.state, &seen, now);
    let (state, conditions, events, refused) =
        if step.scale_update_fails && evaluation.write.is_some() {
            let refused = evaluation.refuse("the scale update was refused");
            (refused.state, refused.conditions, refused.events, true)
        } else {
            (
                evaluation.state.clone(),
                evaluation.conditions.clone(),
                evaluation.events.clone(),
                false,
            )
        };
    status.state = state;
    if let Some(desired) = evaluation.hpa_desired.filter(|_| !refused) {
        status.desired = desired;
    }
    for condition in conditions {
        let value = (
            condition.status.name().to_owned(),
            condition.reason.into_owned(),
        );
        status
            .conditions
            .insert(condition.kind.name().to_owned(), value);
    }
    note_zero(status);
    Found {
        scaled_to: evaluation.write.filter(|_| !refused),
        raw: raw(&evaluation),
        computed: evaluation
            .why
            .steps
            .iter()
            .any(|step| matches!(step, WhyStep::Aggregated { .. } | WhyStep::Blocked { .. })),
        events: events
            .into_iter()
            .map(|event| (event.kind.name().to_owned(), event.reason.into_owned(), event.message))
            .collect(),
        error: evaluation.error.is_some() || refused,
        metrics: evaluation.current_metrics.iter().map(|metric| metric.map(expected)).collect(),
        saturated: evaluation.why.triggers.iter().any(|trigger| {
            matches!(&trigger.outcome, TriggerOutcome::Proposed(proposal) if proposal.saturated)
        }),
        means: spec.triggers.iter().map(|trigger| is_mean(&trigger.metric)).collect(),
        compares_metrics: matches!(sequence.family.as_str(), "zero" | "full"),
    }
}

/// The condition ScaledToZero stands in the state, from where it can also go away.
fn note_zero(status: &mut Status) {
    let name = ConditionType::ScaledToZero.name().to_owned();
    match status.state.scaled_to_zero() {
        None => {
            status.conditions.remove(&name);
        }
        Some(true) => {
            status
                .conditions
                .insert(name, ("True".to_owned(), "ScaledToZero".to_owned()));
        }
        Some(false) => {
            status
                .conditions
                .insert(name, ("False".to_owned(), "NotScaledToZero".to_owned()));
        }
    }
}

/// What the metrics proposed together; `None` if the failure rule said to do nothing.
fn raw(evaluation: &Evaluation) -> Option<i32> {
    evaluation.why.steps.iter().find_map(|step| match step {
        WhyStep::Aggregated { replicas, .. } => Some(*replicas),
        _ => None,
    })
}

fn expected(status: MetricStatus) -> ExpectedMetric {
    ExpectedMetric {
        value_milli: status.value.map(MilliValue::get),
        average_value_milli: status.average_value.map(MilliValue::get),
        average_utilization: status.average_utilization,
    }
}

fn is_mean(metric: &MetricSpec) -> bool {
    matches!(
        metric,
        MetricSpec::External {
            target: ValueTarget::AverageValue(_),
            ..
        } | MetricSpec::Object {
            target: ValueTarget::AverageValue(_),
            ..
        }
    )
}

impl Found {
    /// Whether metric `index` of the step is a mean over no pods, of which the engine says that it
    /// does not fit.
    fn is_mean_of_nothing(&self, step: &Step, index: usize) -> bool {
        step.status_replicas == 0 && self.saturated && self.means.get(index) == Some(&true)
    }

    fn metrics_differ(&self, step: &Step, but_means_of_nothing: bool) -> bool {
        let expected = step.expect.current_metrics.as_deref().unwrap_or_default();
        self.compares_metrics
            && (self.metrics.len() != expected.len()
                || self.metrics.iter().zip(expected).enumerate().any(
                    |(index, (found, expected))| {
                        found != expected
                            && !(but_means_of_nothing
                                && found.is_some() == expected.is_some()
                                && self.is_mean_of_nothing(step, index))
                    },
                ))
    }

    fn has_mean_of_nothing(&self, step: &Step) -> bool {
        self.metrics_differ(step, false) && !self.metrics_differ(step, true)
    }

    fn differs_in(&self, step: &Step, status: &Status) -> String {
        let expect = &step.expect;
        let parts = [
            ("scaled_to", self.scaled_to != expect.scaled_to),
            (
                "recommendation",
                self.computed && self.raw != expect.metric_recommendation,
            ),
            (
                "recommendation given",
                self.computed
                    && step
                        .recommendation
                        .is_some_and(|given| self.raw != Some(given)),
            ),
            ("desired", status.desired != expect.desired_replicas),
            ("conditions", status.conditions != expect.conditions),
            ("events", self.events != expect.events),
            ("error", self.error != expect.reconcile_error),
            ("metrics", self.metrics_differ(step, true)),
        ];
        let parts = parts
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name);
        parts.collect::<Vec<_>>().join(", ")
    }

    fn compare(&self, step: &Step, status: &Status) -> Option<(String, String)> {
        if self.differs_in(step, status).is_empty() {
            return None;
        }
        let expect = &step.expect;
        let here = format!(
            "{:?} raw {:?} desired {} {:?} {:?} error {} {:?}",
            self.scaled_to,
            self.raw,
            status.desired,
            status.conditions,
            self.events,
            self.error,
            self.metrics
        );
        let upstream = format!(
            "{:?} raw {:?} desired {} {:?} {:?} error {} {:?}",
            expect.scaled_to,
            expect.metric_recommendation,
            expect.desired_replicas,
            expect.conditions,
            expect.events,
            expect.reconcile_error,
            expect.current_metrics
        );
        Some((here, upstream))
    }
}
