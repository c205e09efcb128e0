#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use neap_engine::{
    Container, ContainerKind, Pod, PodPhase, Ready, ReadyStatus, Requests, Resource, Sample,
};
use neap_units::{MilliValue, Timestamp};
use serde::Deserialize;

pub(crate) struct VectorFile {
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Copy)]
pub(crate) enum Schema {
    ReplicaCalculator,
    Sequences,
    Quantity,
    SpecValidation,
}

impl VectorFile {
    /// Which schema the first line has.
    pub(crate) fn schema(&self) -> Option<Schema> {
        let first: serde_json::Value = serde_json::from_str(self.lines.first()?).ok()?;
        let has = |keys: &[&str]| keys.iter().all(|key| first.get(key).is_some());
        if has(&["fn", "expect", "current_replicas"]) {
            Some(Schema::ReplicaCalculator)
        } else if has(&["steps", "spec_defaulted"]) {
            Some(Schema::Sequences)
        } else if has(&["s", "valid"]) {
            Some(Schema::Quantity)
        } else if has(&["spec", "valid", "gate_hpa_scale_to_zero"]) {
            Some(Schema::SpecValidation)
        } else {
            None
        }
    }

    /// The cases, read as `T`.
    pub(crate) fn cases<'a, T: Deserialize<'a>>(&'a self) -> impl Iterator<Item = T> {
        self.lines.iter().enumerate().map(|(number, line)| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{} line {}: {error}", self.name, number + 1))
        })
    }
}

/// Every `*.jsonl` and `*.jsonl.gz` file of a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<VectorFile> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("vectors in {}: {error}", folder.display()));
    let mut files: Vec<VectorFile> = entries
        .filter_map(|entry| read(&entry.unwrap().path()))
        .collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    files
}

fn read(path: &Path) -> Option<VectorFile> {
    let name = path.file_name()?.to_str()?.to_owned();
    let bytes = || fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = if name.ends_with(".jsonl.gz") {
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(bytes().as_slice())
            .read_to_string(&mut text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text
    } else if name.ends_with(".jsonl") {
        String::from_utf8(bytes()).unwrap()
    } else {
        return None;
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect();
    Some(VectorFile { name, lines })
}

/// A pod of the vectors.
#[derive(Deserialize)]
pub(crate) struct VectorPod {
    pub(crate) name: String,
    phase: String,
    #[serde(default)]
    deleting: bool,
    start_ms: Option<i64>,
    ready: Option<String>,
    ready_since_ms: Option<i64>,
    #[serde(default)]
    containers: Vec<VectorContainer>,
    pod_requests_milli: Option<BTreeMap<String, i64>>,
    overhead_milli: Option<i64>,
}

#[derive(Deserialize)]
struct VectorContainer {
    name: String,
    kind: String,
    request_milli: Option<i64>,
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn period(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap())
}

/// Requests of one resource.
fn only(resource: Resource, milli: Option<i64>) -> Requests {
    let milli = milli.map(MilliValue::new);
    match resource {
        Resource::Cpu => Requests {
            cpu: milli,
            memory: None,
        },
        Resource::Memory => Requests {
            cpu: None,
            memory: milli,
        },
    }
}

impl VectorPod {
    /// The pod as the engine sees it; its containers' requests are those of `resource`.
    pub(crate) fn to_pod(&self, resource: Resource) -> Pod {
        let containers = self.containers.iter().map(|container| Container {
            name: container.name.clone(),
            kind: match container.kind.as_str() {
                "main" => ContainerKind::Main,
                "sidecar" => ContainerKind::Sidecar,
                "init" => ContainerKind::Init,
                other => panic!("container kind {other}"),
            },
            requests: only(resource, container.request_milli),
        });
        Pod {
            name: self.name.clone(),
            phase: match self.phase.as_str() {
                "Pending" => PodPhase::Pending,
                "Running" => PodPhase::Running,
                "Succeeded" => PodPhase::Succeeded,
                "Failed" => PodPhase::Failed,
                "Unknown" => PodPhase::Unknown,
                other => panic!("phase {other}"),
            },
            deleting: self.deleting,
            started: self.start_ms.map(at),
            ready: self.ready.as_deref().map(|status| Ready {
                status: match status {
                    "True" => ReadyStatus::True,
                    "False" => ReadyStatus::False,
                    "Unknown" => ReadyStatus::Unknown,
                    other => panic!("ready {other}"),
                },
                since: self.ready_since_ms.map(at),
            }),
            containers: containers.collect(),
            pod_requests: self.pod_requests_milli.as_ref().map(|requests| Requests {
                cpu: requests.get("cpu").copied().map(MilliValue::new),
                memory: requests.get("memory").copied().map(MilliValue::new),
            }),
            overhead: only(resource, self.overhead_milli),
        }
    }
}

/// One pod's entry in the metrics API's answer.
#[derive(Deserialize)]
pub(crate) struct VectorPodMetric {
    pub(crate) pod: String,
    pub(crate) ts_ms: i64,
    pub(crate) window_ms: i64,
    pub(crate) containers_milli: Option<BTreeMap<String, Option<i64>>>,
    pub(crate) value_milli: Option<i64>,
}

/// The samples of known pods in their order, and those of others.
pub(crate) fn samples(
    metrics: &[VectorPodMetric],
    pods: &[VectorPod],
) -> (Vec<Option<Sample>>, Vec<MilliValue>) {
    let mut samples = vec![None; pods.len()];
    let mut unknown = Vec::new();
    for metric in metrics {
        let Some(value) = metric.value_milli.map(MilliValue::new) else {
            continue;
        };
        match pods.iter().position(|pod| pod.name == metric.pod) {
            Some(position) => {
                samples[position] = Some(Sample {
                    value,
                    at: at(metric.ts_ms),
                    window: period(metric.window_ms),
                });
            }
            None => unknown.push(value),
        }
    }
    (samples, unknown)
}

/// Tags of cases that Go answers with an accident of its arithmetic.
const ACCIDENTS: [&str; 4] = [
    "go_amd64_float_to_int",
    "beyond_int32",
    "int64_overflow",
    "int32_wrap",
];

/// The accident that a case is tagged with.
pub(crate) fn accident(tags: &[String]) -> Option<&'static str> {
    ACCIDENTS
        .into_iter()
        .find(|accident| tags.iter().any(|tag| tag == accident))
}
