//! What the agents see: pods and nodes by CPU, memory, pressure and queue, from the signals that the leader
//! holds. What the store does not hold is absent; nothing is read for the sake of an answer.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use neap_triggers::{RESOURCE_WINDOW, ResourceKind, ResourceSource};
use neap_units::NodeName;
use serde::Serialize;

use super::top_query::{Order, TopQuery};
use crate::clock::Boottime;
use crate::decide::used;
use crate::signals::{
    NodeView, PressureKind, PressureResource, SeriesKey, Signal, SignalStore, Subject,
};
use crate::world::{PodFacts, World};

/// The answer: the first `limit` rows in the order asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Top<T> {
    /// CPU and pressure are means over so many seconds, as those of a CPU trigger.
    window_seconds: u64,
    /// The rows there are.
    total: usize,
    /// Those left out by the limit.
    omitted: usize,
    /// The rows, the largest first; those whose value is not known are last.
    items: Vec<T>,
}

/// One pod that is bound to a node and has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodRow {
    namespace: String,
    name: String,
    node: String,
    /// `null` where not all of its containers are known over the window.
    cpu_cores: Option<f64>,
    /// The working set, as last read.
    memory_bytes: Option<u64>,
    pressure: Stalls,
    /// Connections that wait in all of `queues`; `null` where none is read.
    queue: Option<u64>,
    queues: Vec<QueueRow>,
}

/// One node with an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeRow {
    name: String,
    /// Whether its agent was heard from lately; all else is `null` where it was not.
    heard: bool,
    cpu_cores: Option<f64>,
    memory_bytes: Option<u64>,
    /// The one-minute load average.
    load: Option<f64>,
    pressure: Stalls,
    /// Connections that wait in the queues of its pods; `null` where none is read.
    queue: Option<u64>,
    /// Pods that its agent sees.
    pods: Option<usize>,
}

/// For how much of the window some task waited for the resource, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Stalls {
    cpu: Option<f64>,
    memory: Option<f64>,
    io: Option<f64>,
}

/// One accept queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueRow {
    /// The TCP port, or the path of a Unix socket.
    at: String,
    /// Connections that wait, as last read.
    waiting: u64,
    /// At most so many may.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// The pods that `query` asks for.
pub(super) fn pods(
    world: &World,
    store: &SignalStore,
    now: Boottime,
    query: &TopQuery,
) -> Top<PodRow> {
    let mut by_node: HashMap<NodeName, Vec<Arc<PodFacts>>> = HashMap::new();
    for pod in world.pods() {
        if let Some(node) = pod.node.clone()
            && !pod.phase.is_terminated()
            && query.wants(&pod)
        {
            by_node.entry(node).or_default().push(pod);
        }
    }
    let mut rows = Vec::new();
    for (node, pods) in by_node {
        let seen = store.read(&node, now, |view| {
            let seen = pods.iter().map(|pod| pod_row(pod, &node, Some(view)));
            seen.collect::<Vec<_>>()
        });
        rows.extend(seen.unwrap_or_else(|| {
            let unseen = pods.iter().map(|pod| pod_row(pod, &node, None));
            unseen.collect()
        }));
    }
    let place = |row: &PodRow| (row.namespace.clone(), row.name.clone());
    let measure = |row: &PodRow| match query.order {
        Order::Cpu => row.cpu_cores,
        Order::Memory => row.memory_bytes.map(|bytes| bytes as f64),
        Order::Queue => row.queue.map(|waiting| waiting as f64),
        Order::Pressure => row.pressure.worst(),
    };
    top(rows, query.limit, measure, place)
}

/// The nodes that `query` asks for.
pub(super) fn nodes(store: &SignalStore, now: Boottime, query: &TopQuery) -> Top<NodeRow> {
    let names = store.nodes().into_iter();
    let names = names.filter(|node| query.wants_name(node.as_str()));
    let rows = names.map(|node| {
        let seen = store.read(&node, now, |view| node_row(&node, view));
        seen.unwrap_or_else(|| NodeRow {
            name: node.to_string(),
            heard: false,
            cpu_cores: None,
            memory_bytes: None,
            load: None,
            pressure: Stalls::default(),
            queue: None,
            pods: None,
        })
    });
    let measure = |row: &NodeRow| match query.order {
        Order::Cpu => row.cpu_cores,
        Order::Memory => row.memory_bytes.map(|bytes| bytes as f64),
        Order::Queue => row.queue.map(|waiting| waiting as f64),
        Order::Pressure => row.pressure.worst(),
    };
    let place = |row: &NodeRow| row.name.clone();
    top(rows.collect(), query.limit, measure, place)
}

/// Sorts and cuts `rows`: by `measure` from the largest on, then by `place`.
fn top<T, P: Ord>(
    mut rows: Vec<T>,
    limit: usize,
    measure: impl Fn(&T) -> Option<f64>,
    place: impl Fn(&T) -> P,
) -> Top<T> {
    let total = rows.len();
    rows.sort_by_cached_key(&place);
    // Stable: rows of one measure stay in the order of their places.
    rows.sort_by(|a, b| match (measure(a), measure(b)) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
    rows.truncate(limit);
    Top {
        window_seconds: RESOURCE_WINDOW.as_secs(),
        total,
        omitted: total - rows.len(),
        items: rows,
    }
}

fn pod_row(pod: &PodFacts, node: &NodeName, view: Option<&NodeView<'_>>) -> PodRow {
    let resource = |resource| {
        let source = ResourceSource {
            resource,
            container: None,
            window: RESOURCE_WINDOW,
        };
        view.and_then(|view| used(view, pod, &source))
    };
    let subject = Subject::Pod(pod.cgroup_uid.clone());
    let queues = view.map(|view| queues(view, pod)).unwrap_or_default();
    PodRow {
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        node: node.to_string(),
        cpu_cores: resource(ResourceKind::Cpu).map(rounded),
        // A container's group is read as soon as it is there, maybe before its process: nothing that
        // runs uses no memory.
        memory_bytes: resource(ResourceKind::Memory)
            .map(|bytes| bytes as u64)
            .filter(|bytes| *bytes > 0),
        pressure: view.map(|view| stalls(view, &subject)).unwrap_or_default(),
        queue: waiting(&queues),
        queues,
    }
}

fn node_row(node: &NodeName, view: &NodeView<'_>) -> NodeRow {
    let subject = Subject::Node(node.clone());
    let key = |signal| SeriesKey {
        subject: subject.clone(),
        signal,
    };
    let last = |signal| view.last(&key(signal));
    let cpu = view.window(&key(Signal::NodeCpuUsage), RESOURCE_WINDOW);
    let mut pods = 0;
    let mut queue = None;
    for pod in view.pods() {
        pods += 1;
        for backlog in view.keys_of(pod).filter(|key| is_backlog(&key.signal)) {
            if let Some(waiting) = view.last(backlog) {
                queue = Some(queue.unwrap_or(0) + waiting);
            }
        }
    }
    NodeRow {
        name: node.to_string(),
        heard: true,
        cpu_cores: cpu.map(|reading| rounded(reading.value / 1e6)),
        memory_bytes: last(Signal::NodeMemoryWorkingSet),
        load: last(Signal::NodeLoad).map(|thousandths| thousandths as f64 / 1e3),
        pressure: stalls(view, &subject),
        queue,
        pods: Some(pods),
    }
}

/// To millionths: more digits would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn stalls(view: &NodeView<'_>, subject: &Subject) -> Stalls {
    let share = |resource| {
        let key = SeriesKey {
            subject: subject.clone(),
            signal: Signal::Pressure(resource, PressureKind::Some),
        };
        // Microseconds per second are ten-thousandths of a percent.
        let reading = view.window(&key, RESOURCE_WINDOW)?;
        Some(rounded(reading.value / 1e4))
    };
    Stalls {
        cpu: share(PressureResource::Cpu),
        memory: share(PressureResource::Memory),
        io: share(PressureResource::Io),
    }
}

impl Stalls {
    /// The largest that is known.
    fn worst(&self) -> Option<f64> {
        let known = [self.cpu, self.memory, self.io].into_iter().flatten();
        known.reduce(f64::max)
    }
}

fn is_backlog(signal: &Signal) -> bool {
    matches!(signal, Signal::AcceptBacklog(_) | Signal::UnixBacklog(_))
}

/// The queues of a pod that its agent reads, by port, then by path.
fn queues(view: &NodeView<'_>, pod: &PodFacts) -> Vec<QueueRow> {
    let of_pod = |signal| SeriesKey::pod(&pod.cgroup_uid, signal);
    let mut queues = BTreeMap::new();
    for key in view.keys_of(&pod.cgroup_uid) {
        let (at, limit) = match &key.signal {
            Signal::AcceptBacklog(port) => (port.to_string(), Signal::AcceptLimit(*port)),
            Signal::UnixBacklog(path) => (path.to_string(), Signal::UnixLimit(path.clone())),
            _ => continue,
        };
        if let Some(waiting) = view.last(key) {
            let limit = view.last(&of_pod(limit));
            queues.insert(&key.signal, QueueRow { at, waiting, limit });
        }
    }
    queues.into_values().collect()
}

fn waiting(queues: &[QueueRow]) -> Option<u64> {
    (!queues.is_empty()).then(|| queues.iter().map(|queue| queue.waiting).sum())
}

#[cfg(test)]
#[path = "top_test.rs"]
mod tests;
