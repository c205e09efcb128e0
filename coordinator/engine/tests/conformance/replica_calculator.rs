//! One metric at one moment.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use std::collections::BTreeMap;

use neap_engine::replica_calculator::{
    Calculation, CalculationError, PodMetrics, PodTarget, Tolerances, average_replicas,
    external_average_replicas, pod_replicas, total, total_for_average, value_replicas,
};
use neap_engine::{PodGroup, Resource, StartPeriods, group_of, sum_containers};
use neap_units::MilliValue;
use serde::Deserialize;

use super::report::Report;
use super::vectors::{self, VectorFile, VectorPod, VectorPodMetric, accident, at, period};

#[derive(Deserialize)]
struct Case {
    id: String,
    r#fn: String,
    #[serde(default)]
    tags: Vec<String>,
    cpu_initialization_period_ms: i64,
    initial_readiness_delay_ms: i64,
    tolerance_down: f64,
    tolerance_up: f64,
    current_replicas: i32,
    resource: Option<String>,
    container: Option<String>,
    target_utilization_percent: Option<i32>,
    target_milli: Option<i64>,
    #[serde(default)]
    pods: Vec<VectorPod>,
    #[serde(default)]
    metrics_api_fails: bool,
    #[serde(default)]
    pod_metrics: Vec<VectorPodMetric>,
    #[serde(default)]
    values_milli: Vec<i64>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    #[serde(default)]
    error: String,
    error_message: Option<String>,
    replicas: Option<i32>,
    utilization_percent: Option<i32>,
    usage_milli: Option<i64>,
    groups: Option<Groups>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
struct Groups {
    ready: usize,
    #[serde(default)]
    unready: Vec<String>,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    ignored: Vec<String>,
}

/// What comes of a case, in the vectors' words.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    error: String,
    replicas: Option<i32>,
    utilization: Option<i32>,
    usage: Option<i64>,
    groups: Option<Groups>,
}

pub(crate) fn run(file: &VectorFile, report: &mut Report) {
    for case in file.cases::<Case>() {
        if let Some((here, upstream)) = wrong_sum(&case) {
            report.differ(&format!("{} sum of containers", case.id), &here, &upstream);
            continue;
        }
        let (found, message, saturated) = compute(&case);
        let expected = Outcome {
            error: case.expect.error.clone(),
            replicas: case.expect.replicas,
            utilization: case.expect.utilization_percent,
            usage: case.expect.usage_milli,
            groups: case.expect.groups.as_ref().map(|groups| Groups {
                ready: groups.ready,
                unready: groups.unready.clone(),
                missing: groups.missing.clone(),
                ignored: groups.ignored.clone(),
            }),
        };
        let same_words = match (&message, &case.expect.error_message) {
            (Some(found), Some(expected)) => found == expected,
            _ => true,
        };
        if found == expected && same_words {
            report.pass();
        } else if let Some(tag) =
            accident(&case.tags).filter(|_| saturated && found.error == expected.error)
        {
            report.apart(tag);
        } else {
            let here = format!("{found:?} {}", message.unwrap_or_default());
            let upstream = format!(
                "{expected:?} {}",
                case.expect.error_message.unwrap_or_default()
            );
            report.differ(&format!("{} {}", case.id, case.r#fn), &here, &upstream);
        }
    }
}

/// The other level of the vectors: containers add up to the pod's value. The first that does not,
/// with both answers.
fn wrong_sum(case: &Case) -> Option<(String, String)> {
    if case.metrics_api_fails {
        return None;
    }
    case.pod_metrics.iter().find_map(|metric| {
        let containers = metric.containers_milli.as_ref()?;
        let milli = |value: &Option<i64>| value.map(MilliValue::new);
        let found = match case.container.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => containers.get(name).and_then(milli),
            None => sum_containers(containers.values().map(milli)),
        };
        let expected = metric.value_milli.map(MilliValue::new);
        // A sum that does not fit 64 bits wraps in Go and is held here.
        let held = found == Some(MilliValue::MAX);
        (found != expected && !held).then(|| (format!("{found:?}"), format!("{expected:?}")))
    })
}

fn compute(case: &Case) -> (Outcome, Option<String>, bool) {
    if case.metrics_api_fails {
        return (failed("metrics_api_error"), None, false);
    }
    let is_of_pods = matches!(
        case.r#fn.as_str(),
        "resource_utilization" | "resource_average" | "pods_average"
    );
    if is_of_pods && case.pod_metrics.is_empty() || !is_of_pods && case.values_milli.is_empty() {
        return (failed("no_metrics_returned"), None, false);
    }
    if is_of_pods {
        of_pods(case)
    } else {
        of_value(case)
    }
}

fn failed(class: &str) -> Outcome {
    Outcome {
        error: class.to_owned(),
        ..Outcome::default()
    }
}

fn tolerances(case: &Case) -> Tolerances {
    Tolerances {
        down: case.tolerance_down,
        up: case.tolerance_up,
    }
}

fn of_pods(case: &Case) -> (Outcome, Option<String>, bool) {
    let resource = match case.resource.as_deref() {
        Some("cpu") => Some(Resource::Cpu),
        Some("memory") => Some(Resource::Memory),
        _ => None,
    };
    let pods: Vec<_> = case
        .pods
        .iter()
        .map(|pod| pod.to_pod(resource.unwrap_or(Resource::Cpu)))
        .collect();
    let pods: Vec<_> = pods.iter().collect();
    let (samples, unknown) = vectors::samples(&case.pod_metrics, &case.pods);
    let metrics = PodMetrics {
        pods: &pods,
        samples: &samples,
        unknown: &unknown,
    };
    let target = match (case.r#fn.as_str(), resource) {
        ("resource_utilization", Some(resource)) => PodTarget::Utilization {
            percent: case.target_utilization_percent.unwrap(),
            resource,
            container: case.container.as_deref().filter(|name| !name.is_empty()),
        },
        _ => PodTarget::Average {
            value: target(case),
            resource,
        },
    };
    let periods = StartPeriods {
        cpu_initialization: period(case.cpu_initialization_period_ms),
        initial_readiness_delay: period(case.initial_readiness_delay_ms),
    };
    let result = pod_replicas(
        case.current_replicas,
        target,
        metrics,
        tolerances(case),
        periods,
        at(0),
    );

    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut ready = 0;
    for (index, pod) in pods.iter().enumerate() {
        let group = group_of(pod, samples[index].as_ref(), resource, periods, at(0));
        let list = match group {
            PodGroup::Ready => {
                ready += 1;
                continue;
            }
            PodGroup::Unready => "unready",
            PodGroup::Missing => "missing",
            PodGroup::Ignored => "ignored",
        };
        names.entry(list).or_default().push(pod.name.clone());
    }
    let mut sorted = |list: &str| {
        let mut names = names.remove(list).unwrap_or_default();
        names.sort();
        names
    };
    let groups = Groups {
        ready,
        unready: sorted("unready"),
        missing: sorted("missing"),
        ignored: sorted("ignored"),
    };
    outcome(result, Some(groups))
}

fn target(case: &Case) -> MilliValue {
    MilliValue::new(case.target_milli.unwrap())
}

fn of_value(case: &Case) -> (Outcome, Option<String>, bool) {
    let pods: Vec<_> = case
        .pods
        .iter()
        .map(|pod| pod.to_pod(Resource::Cpu))
        .collect();
    let pods: Vec<_> = pods.iter().collect();
    let values: Vec<_> = case
        .values_milli
        .iter()
        .copied()
        .map(MilliValue::new)
        .collect();
    let (current, target, tolerances) = (case.current_replicas, target(case), tolerances(case));
    let result = match case.r#fn.as_str() {
        "object_value" => value_replicas(current, values[0], target, &pods, tolerances),
        "external_value" => value_replicas(current, total(&values), target, &pods, tolerances),
        "object_average" => Ok(average_replicas(current, values[0], target, tolerances)),
        "external_average" => {
            let value = total_for_average(&values);
            Ok(external_average_replicas(
                current, value, target, tolerances,
            ))
        }
        other => panic!("{}: unknown fn {other}", case.id),
    };
    outcome(result, None)
}

fn outcome(
    result: Result<Calculation, CalculationError>,
    groups: Option<Groups>,
) -> (Outcome, Option<String>, bool) {
    match result {
        Ok(found) => {
            let outcome = Outcome {
                error: String::new(),
                replicas: Some(found.replicas),
                utilization: found.utilization,
                usage: Some(found.usage.get()),
                groups,
            };
            (outcome, None, found.saturated)
        }
        Err(error) => {
            let class = match &error {
                CalculationError::NoPods | CalculationError::NoReadyPods => "no_pods",
                CalculationError::NoUsableMetrics => "no_usable_metrics",
                CalculationError::MissingRequest { .. } => "missing_request",
                CalculationError::MissingPodLevelRequest { .. } => "missing_pod_level_request",
                CalculationError::ContainerNotFound { .. } => "container_not_found",
                CalculationError::ZeroRequests => "zero_requests_total",
            };
            let outcome = Outcome {
                groups,
                ..failed(class)
            };
            (outcome, Some(error.to_string()), false)
        }
    }
}
