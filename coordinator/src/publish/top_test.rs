use std::collections::HashMap;
use std::time::Duration;

use neap_units::BootId;
use serde_json::{Value, json};

use super::*;
use crate::signals::{ContainerId, NodeTime, SignalLimits, StreamWriter};
use crate::world::testing;
use crate::world::{Container, ContainerRole, PodPhase, PodShape, Requests, StartedContainer};

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Boottime {
    Boottime::from_micros(i64::try_from(seconds).unwrap() * 1_000_000)
}

fn query(parameters: &[(&str, &str)]) -> TopQuery {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    TopQuery::read(&parameters.iter().map(owned).collect::<HashMap<_, _>>()).unwrap()
}

/// A pod of node `n1` with these containers.
fn pod(namespace: &str, name: &str, containers: &[&str]) -> Arc<PodFacts> {
    let (id, shape) = (
        |container: &&str| ContainerId::new(&format!("{name}-{container}")),
        PodShape {
            containers: containers
                .iter()
                .map(|name| Container {
                    name: (*name).into(),
                    role: ContainerRole::App,
                    requests: Requests::default(),
                    tcp_ports: Arc::from([]),
                })
                .collect(),
            ..PodShape::default()
        },
    );
    testing::pod(namespace, name)
        .uid(name)
        .node("n1")
        .label("app", name)
        .with(|facts| {
            facts.shape = Arc::new(shape);
            facts.started_containers = containers
                .iter()
                .map(|container| StartedContainer {
                    name: (*container).into(),
                    id: id(container),
                })
                .collect();
        })
        .done()
}

/// An agent whose clock is the coordinator's, and what it has sent.
struct Agent {
    stream: StreamWriter,
    series: u32,
}

impl Agent {
    fn connect(store: &Arc<SignalStore>, node: &str) -> Self {
        let boot = BootId::new("b").unwrap();
        let stream = store.connect(NodeName::new(node).unwrap(), boot, 1, at(0));
        Self {
            stream: stream.unwrap(),
            series: 0,
        }
    }

    fn define(&mut self, key: SeriesKey, every: u64) -> u32 {
        self.series += 1;
        let mut batch = self.stream.batch().unwrap();
        let every = Duration::from_secs(every);
        batch.define(self.series, key, every, false).unwrap();
        self.series
    }

    /// A counter that grows by `rate` per second, read each `every` seconds until `end`.
    fn counter(&mut self, key: SeriesKey, every: u64, end: u64, rate: u64) {
        let id = self.define(key, every);
        for second in (0..=end).step_by(usize::try_from(every).unwrap()) {
            let closed = NodeTime::from_nanos(second * SECOND);
            let mut batch = self.stream.batch().unwrap();
            batch.counter(id, closed, second * rate, 0);
            batch.heartbeat(closed, at(second));
        }
    }

    /// A gauge that has had this value from the beginning on.
    fn gauge(&mut self, key: SeriesKey, value: u64) {
        let id = self.define(key, 1);
        let mut batch = self.stream.batch().unwrap();
        batch.gauge(id, NodeTime::from_nanos(1), 0.0, value, value);
    }

    fn heartbeat(&mut self, second: u64) {
        let closed = NodeTime::from_nanos(second * SECOND);
        self.stream.batch().unwrap().heartbeat(closed, at(second));
    }
}

fn of_container(pod: &PodFacts, container: &str, signal: Signal) -> SeriesKey {
    let id = ContainerId::new(&format!("{}-{container}", pod.name));
    SeriesKey::container(&pod.cgroup_uid, &id, signal)
}

fn of_pod(pod: &PodFacts, signal: Signal) -> SeriesKey {
    SeriesKey::pod(&pod.cgroup_uid, signal)
}

fn some(resource: PressureResource) -> Signal {
    Signal::Pressure(resource, PressureKind::Some)
}

/// Two pods of one node after 40 s: `busy` with two containers, all of it read; `plain` that nobody scales,
/// whose CPU is read each 10 s and nothing else.
fn seen() -> (World, Arc<SignalStore>) {
    let world = World::new();
    let (busy, plain) = (
        pod("shop", "busy", &["app", "log"]),
        pod("shop", "plain", &["app"]),
    );
    world.apply_pod(busy.clone());
    world.apply_pod(plain.clone());
    let store = SignalStore::new(SignalLimits::default());
    let mut agent = Agent::connect(&store, "n1");
    agent.counter(of_container(&busy, "app", Signal::CpuUsage), 1, 40, 250_000);
    agent.counter(of_container(&busy, "log", Signal::CpuUsage), 1, 40, 50_000);
    agent.counter(
        of_container(&plain, "app", Signal::CpuUsage),
        10,
        40,
        100_000,
    );
    agent.counter(of_pod(&busy, some(PressureResource::Cpu)), 1, 40, 20_000);
    agent.counter(of_pod(&busy, some(PressureResource::Io)), 1, 40, 125_000);
    agent.gauge(
        of_container(&busy, "app", Signal::MemoryWorkingSet),
        3 << 20,
    );
    agent.gauge(
        of_container(&busy, "log", Signal::MemoryWorkingSet),
        1 << 20,
    );
    agent.gauge(of_pod(&busy, Signal::AcceptBacklog(8080)), 3);
    agent.gauge(of_pod(&busy, Signal::AcceptLimit(8080)), 128);
    agent.gauge(of_pod(&busy, Signal::UnixBacklog("/run/a".into())), 2);
    let node = Subject::Node(NodeName::new("n1").unwrap());
    let of_node = |signal| SeriesKey {
        subject: node.clone(),
        signal,
    };
    agent.counter(of_node(Signal::NodeCpuUsage), 1, 40, 1_500_000);
    agent.gauge(of_node(Signal::NodeLoad), 750);
    agent.heartbeat(40);
    (world, store)
}

fn names(answer: &Value) -> Vec<&str> {
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|row| row["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 1e-6, "{value}, not {expected}");
}

#[test]
fn a_pod_has_what_is_read_of_it_and_nothing_else() {
    let (world, store) = seen();
    let answer = json!(pods(&world, &store, at(40), &query(&[])));
    assert_eq!(names(&answer), ["busy", "plain"]);
    assert_eq!(answer["windowSeconds"], 15);
    let (busy, plain) = (&answer["items"][0], &answer["items"][1]);
    close(&busy["cpuCores"], 0.3);
    assert_eq!(busy["memoryBytes"], 4 << 20);
    close(&busy["pressure"]["cpu"], 2.0);
    close(&busy["pressure"]["io"], 12.5);
    assert_eq!(busy["pressure"]["memory"], Value::Null);
    assert_eq!(busy["queue"], 5);
    let queues = json!([
        {"at": "8080", "waiting": 3, "limit": 128},
        {"at": "/run/a", "waiting": 2},
    ]);
    assert_eq!(busy["queues"], queues);
    assert_eq!(
        (&busy["namespace"], &busy["node"]),
        (&json!("shop"), &json!("n1"))
    );

    // Read each 10 s, and averaged over the same 15 s.
    close(&plain["cpuCores"], 0.1);
    for absent in ["memoryBytes", "queue"] {
        assert_eq!(plain[absent], Value::Null, "{absent}");
    }
    assert_eq!(
        plain["pressure"],
        json!({"cpu": null, "memory": null, "io": null})
    );
}

#[test]
fn a_pod_with_a_container_that_is_not_read_has_no_cpu() {
    let (world, store) = seen();
    let known = pod("shop", "plain", &["app", "unseen"]);
    world.apply_pod(known);
    let answer = json!(pods(&world, &store, at(40), &query(&[("names", "plain")])));
    assert_eq!(answer["items"][0]["cpuCores"], Value::Null);
}

#[test]
fn a_container_that_was_read_before_its_process_was_in_it_has_no_memory_yet() {
    let (world, store) = seen();
    let plain = pod("shop", "plain", &["app"]);
    let mut agent = Agent::connect(&store, "n1");
    agent.gauge(of_container(&plain, "app", Signal::MemoryWorkingSet), 0);
    agent.heartbeat(41);
    let answer = json!(pods(&world, &store, at(41), &query(&[("names", "plain")])));
    assert_eq!(answer["items"][0]["memoryBytes"], Value::Null);
}

#[test]
fn a_silent_node_and_a_pod_that_was_just_seen_have_no_values() {
    let (world, store) = seen();
    let late = at(50);
    let answer = json!(pods(&world, &store, late, &query(&[])));
    assert_eq!(answer["items"][0]["cpuCores"], Value::Null);
    assert_eq!(answer["items"][0]["queue"], Value::Null);
    let answer = json!(nodes(&store, late, &query(&[])));
    let node = &answer["items"][0];
    assert_eq!(
        (&node["name"], &node["heard"]),
        (&json!("n1"), &json!(false))
    );
    assert_eq!(
        (&node["cpuCores"], &node["pods"]),
        (&Value::Null, &Value::Null)
    );

    let fresh = SignalStore::new(SignalLimits::default());
    let mut agent = Agent::connect(&fresh, "n1");
    let busy = pod("shop", "busy", &["app"]);
    agent.counter(of_container(&busy, "app", Signal::CpuUsage), 1, 10, 1_000);
    let answer = json!(pods(&world, &fresh, at(10), &query(&[])));
    assert_eq!(
        answer["items"][0]["cpuCores"],
        Value::Null,
        "ten seconds do not cover the window"
    );
}

#[test]
fn rows_are_sorted_cut_and_counted_and_the_unknown_is_last() {
    let (world, store) = seen();
    let order = |sort: &str| {
        let answer = json!(pods(&world, &store, at(40), &query(&[("sort", sort)])));
        names(&answer).join(" ")
    };
    world.apply_pod(pod("shop", "alone", &["app"]));
    assert_eq!(order("cpu"), "busy plain alone");
    for sort in ["memory", "queue", "pressure"] {
        assert_eq!(order(sort), "busy alone plain", "{sort}");
    }
    let one = json!(pods(&world, &store, at(40), &query(&[("limit", "1")])));
    assert_eq!(names(&one), ["busy"]);
    assert_eq!((&one["total"], &one["omitted"]), (&json!(3), &json!(2)));
}

#[test]
fn only_pods_that_are_asked_for_and_can_be_measured_are_rows() {
    let (world, store) = seen();
    world.apply_pod(pod("other", "elsewhere", &["app"]));
    let unbound = testing::pod("shop", "unbound").uid("unbound").done();
    world.apply_pod(unbound);
    let ended = testing::pod("shop", "ended").uid("ended").node("n1");
    world.apply_pod(ended.with(|facts| facts.phase = PodPhase::Succeeded).done());
    let asked = |parameters: &[(&str, &str)]| {
        let answer = json!(pods(&world, &store, at(40), &query(parameters)));
        names(&answer).join(" ")
    };
    assert_eq!(asked(&[]), "busy plain elsewhere");
    assert_eq!(asked(&[("namespace", "shop")]), "busy plain");
    assert_eq!(
        asked(&[("selector", "app in (plain,elsewhere)")]),
        "plain elsewhere"
    );
    assert_eq!(
        asked(&[("namespace", "shop"), ("names", "plain,elsewhere")]),
        "plain"
    );
}

#[test]
fn a_node_has_its_own_figures_and_the_queues_of_its_pods() {
    let (_, store) = seen();
    let _quiet = Agent::connect(&store, "n0");
    let answer = json!(nodes(&store, at(40), &query(&[])));
    assert_eq!(names(&answer), ["n1", "n0"]);
    let node = &answer["items"][0];
    close(&node["cpuCores"], 1.5);
    close(&node["load"], 0.75);
    assert_eq!((&node["queue"], &node["pods"]), (&json!(5), &json!(2)));
    assert_eq!(node["memoryBytes"], Value::Null);
    let named = json!(nodes(&store, at(40), &query(&[("names", "n0")])));
    assert_eq!(names(&named), ["n0"]);
}
