use std::sync::Arc;
use std::time::Duration;

use neap_units::{BootId, NodeName, PodUid};

use super::*;
use crate::clock::Boottime;
use crate::keys::TargetKey;

const SECOND: u64 = 1_000_000_000;
const WINDOW: Duration = Duration::from_secs(2);

fn at(seconds: i64) -> Boottime {
    Boottime::from_micros(seconds * 1_000_000)
}

fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

fn boot(id: &str) -> BootId {
    BootId::new(id).unwrap()
}

fn pod() -> PodUid {
    PodUid::new("pod-1").unwrap()
}

fn backlog() -> SeriesKey {
    SeriesKey::pod(&pod(), Signal::AcceptBacklog(80))
}

/// A stream whose node runs 1,000 s behind our clock, with a backlog of `value` since second 0.
fn feed(stream: &mut StreamWriter, from: u64, to: u64, value: u64) {
    for second in from..=to {
        let closed = NodeTime::from_nanos(second * SECOND);
        let mut batch = stream.batch().unwrap();
        if second == from {
            batch
                .define(7, backlog(), Duration::from_millis(100), true)
                .unwrap();
        }
        batch.gauge(7, closed, (second * value) as f64, value, value);
        batch.heartbeat(closed, at(second as i64 + 1_000));
    }
}

fn mean(store: &SignalStore, now: Boottime) -> Option<f64> {
    store
        .read(&node(), now, |view| {
            view.window(&backlog(), WINDOW).map(|reading| reading.value)
        })
        .flatten()
}

#[test]
fn a_window_is_read_on_our_clock_and_a_silent_node_is_absent() {
    let store = SignalStore::new(SignalLimits::default());
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    feed(&mut stream, 0, 10, 4);
    assert_eq!(mean(&store, at(1_010)), Some(4.0));
    assert_eq!(
        mean(&store, at(1_013)),
        Some(4.0),
        "an unchanged gauge holds its value"
    );
    assert_eq!(
        mean(&store, at(1_014)),
        None,
        "three heartbeats were missed"
    );
    assert_eq!(
        store.read(&NodeName::new("n2").unwrap(), at(1_010), |_| ()),
        None
    );
}

#[test]
fn only_what_a_target_lives_on_makes_it_dirty() {
    let store = SignalStore::new(SignalLimits::default());
    let target = TargetKey::new("ns", "t");
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    store.watch(&pod(), &target, SignalSet::of(&Signal::CpuUsage));
    feed(&mut stream, 0, 0, 4);
    assert_eq!(store.dirty().take().len(), 1, "the node can be read");
    feed(&mut stream, 1, 3, 4);
    assert!(store.dirty().take().is_empty());
    store.watch(&pod(), &target, SignalSet::of(&Signal::AcceptBacklog(0)));
    feed(&mut stream, 4, 5, 4);
    assert_eq!(
        store.dirty().take().into_iter().collect::<Vec<_>>(),
        std::slice::from_ref(&target)
    );
    stream
        .batch()
        .unwrap()
        .heartbeat(NodeTime::from_nanos(6 * SECOND), at(1_006));
    assert!(
        store.dirty().take().is_empty(),
        "a heartbeat alone is no news"
    );
    stream.batch().unwrap().gone(7);
    assert_eq!(store.dirty().take().len(), 1, "that a series went is news");
    assert_eq!(mean(&store, at(1_006)), None);
}

#[test]
fn a_node_that_goes_silent_and_comes_back_is_news_once_each() {
    let store = SignalStore::new(SignalLimits::default());
    let target = TargetKey::new("ns", "t");
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    store.watch(&pod(), &target, SignalSet::of(&Signal::AcceptBacklog(80)));
    feed(&mut stream, 0, 3, 0);
    store.dirty().take();
    let told = |now| {
        store.sweep(at(now));
        store.dirty().take().len()
    };
    assert_eq!(told(1_006), 0, "3 s are a heartbeat late");
    assert_eq!((told(1_007), told(1_008)), (1, 0));
    let mut heartbeat = |second: u64| {
        let closed = NodeTime::from_nanos(second * SECOND);
        let received = at(i64::try_from(second).unwrap() + 1_000);
        stream.batch().unwrap().heartbeat(closed, received);
        store.dirty().take().len()
    };
    assert_eq!((heartbeat(9), heartbeat(10)), (1, 0));
    assert_eq!(told(1_014), 1, "and silent again");
}

#[test]
fn another_boot_begins_anew() {
    let store = SignalStore::new(SignalLimits::default());
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    feed(&mut stream, 0, 10, 4);
    let mut again = store.connect(node(), boot("c"), 1, at(1_011)).unwrap();
    assert_eq!(stream.batch().err(), Some(SignalError::Superseded));
    feed(&mut again, 11, 11, 4);
    assert_eq!(mean(&store, at(1_011)), None, "one point covers no window");
}

#[test]
fn what_the_kernel_counts_goes_on_over_a_restart_of_the_agent() {
    let store = SignalStore::new(SignalLimits::default());
    let cpu = SeriesKey::container(
        &pod(),
        &ContainerId::new("containerd://c1"),
        Signal::CpuUsage,
    );
    let define = |connection: u64, second: u64| {
        let mut stream = store
            .connect(node(), boot("b"), connection, at(second as i64))
            .unwrap();
        let mut batch = stream.batch().unwrap();
        let closed = NodeTime::from_nanos(second * SECOND);
        batch
            .define(1, cpu.clone(), Duration::from_secs(1), false)
            .unwrap();
        batch
            .define(2, backlog(), Duration::from_millis(100), true)
            .unwrap();
        batch.counter(1, closed, second * 1_000, 0);
        batch.gauge(2, closed, 0.0, 0, 0);
        batch.heartbeat(closed, at(second as i64));
    };
    define(1, 10);
    define(2, 12);
    let read = |key: &SeriesKey| {
        store
            .read(&node(), at(12), |view| {
                view.window(key, WINDOW).map(|reading| reading.value)
            })
            .flatten()
    };
    assert_eq!(read(&cpu), Some(1_000.0));
    assert_eq!(
        read(&backlog()),
        None,
        "the agent's own integral began anew"
    );
}

#[test]
fn a_new_leader_is_warm_after_the_replay() {
    let store = SignalStore::new(SignalLimits::default());
    store.watch(
        &pod(),
        &TargetKey::new("ns", "t"),
        SignalSet::of(&Signal::AcceptBacklog(0)),
    );
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    let mut batch = stream.batch().unwrap();
    batch
        .define(7, backlog(), Duration::from_millis(100), true)
        .unwrap();
    let points: Vec<_> = (0..=20u64)
        .map(|n| ReplayPoint {
            at: NodeTime::from_nanos(n * SECOND),
            total: 3.0 * n as f64,
        })
        .collect();
    batch.replay(7, &points, 3);
    batch.heartbeat(NodeTime::from_nanos(20 * SECOND), at(1_020));
    drop(batch);
    assert_eq!(mean(&store, at(1_020)), Some(3.0));
    assert_eq!(store.dirty().take().len(), 1);
}

/// A new stream of process `start` says what it remembers of the backlog, and that all is well.
fn come_back(
    store: &Arc<SignalStore>,
    start: u64,
    points: &[(u64, f64)],
    last: u64,
    closed: u64,
) -> StreamWriter {
    let received = at(closed as i64 + 1_000);
    let mut stream = store.connect(node(), boot("b"), start, received).unwrap();
    let points: Vec<_> = points
        .iter()
        .map(|&(second, total)| ReplayPoint {
            at: NodeTime::from_nanos(second * SECOND),
            total,
        })
        .collect();
    let mut batch = stream.batch().unwrap();
    batch
        .define(7, backlog(), Duration::from_millis(100), true)
        .unwrap();
    batch.replay(7, &points, last);
    drop(batch);
    stream
        .batch()
        .unwrap()
        .heartbeat(NodeTime::from_nanos(closed * SECOND), received);
    stream
}

#[test]
fn a_leader_that_comes_back_believes_the_replay() {
    let store = SignalStore::new(SignalLimits::default());
    let target = TargetKey::new("ns", "t");
    store.watch(&pod(), &target, SignalSet::of(&Signal::AcceptBacklog(80)));
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    feed(&mut stream, 0, 10, 8);
    store.dirty().take();
    let last = |now| {
        store
            .read(&node(), at(now), |view| view.last(&backlog()))
            .flatten()
    };
    // Another replica led. The queue emptied at second 20.
    let mut stream = come_back(&store, 1, &[(0, 0.0), (20, 160.0), (60, 160.0)], 0, 60);
    assert!(store.dirty().take().contains(&target));
    assert_eq!((last(1_060), mean(&store, at(1_060))), (Some(0), Some(0.0)));
    // Nothing more is said of it.
    stream
        .batch()
        .unwrap()
        .heartbeat(NodeTime::from_nanos(61 * SECOND), at(1_061));
    assert_eq!((last(1_061), mean(&store, at(1_061))), (Some(0), Some(0.0)));
    // And again: 5 since second 80.
    come_back(&store, 1, &[(20, 160.0), (80, 160.0), (90, 210.0)], 5, 90);
    assert_eq!((last(1_090), mean(&store, at(1_090))), (Some(5), Some(5.0)));
    // And nothing new.
    come_back(&store, 1, &[(80, 160.0), (90, 210.0), (95, 235.0)], 5, 95);
    assert_eq!((last(1_095), mean(&store, at(1_095))), (Some(5), Some(5.0)));
    // Another process of the agent, whose sums begin anew.
    come_back(&store, 2, &[(97, 0.0), (99, 6.0)], 3, 99);
    assert_eq!((last(1_099), mean(&store, at(1_099))), (Some(3), Some(3.0)));
    assert_eq!(store.figures(at(1_099)).points, 2);
}

#[test]
fn what_the_kernel_counts_goes_on_with_the_replay_of_another_agent() {
    let store = SignalStore::new(SignalLimits::default());
    let opens = SeriesKey::pod(&pod(), Signal::PassiveOpens);
    store.watch(
        &pod(),
        &TargetKey::new("ns", "t"),
        SignalSet::of(&Signal::PassiveOpens),
    );
    let define = |stream: &mut StreamWriter| {
        let mut batch = stream.batch().unwrap();
        batch
            .define(1, opens.clone(), Duration::from_secs(1), false)
            .unwrap();
    };
    let mut stream = store.connect(node(), boot("b"), 1, at(10)).unwrap();
    define(&mut stream);
    stream
        .batch()
        .unwrap()
        .counter(1, NodeTime::from_nanos(10 * SECOND), 1_000, 0);
    let mut stream = store.connect(node(), boot("b"), 2, at(20)).unwrap();
    define(&mut stream);
    let mut batch = stream.batch().unwrap();
    let points = [(18, 1_400.0), (20, 1_600.0)].map(|(second, total)| ReplayPoint {
        at: NodeTime::from_nanos(second * SECOND),
        total,
    });
    batch.replay(1, &points, 1_600);
    batch.heartbeat(NodeTime::from_nanos(20 * SECOND), at(20));
    drop(batch);
    let rate = |window| {
        store
            .read(&node(), at(20), |view| {
                view.window(&opens, window).map(|reading| reading.value)
            })
            .flatten()
    };
    assert_eq!(rate(WINDOW), Some(100.0));
    assert_eq!(rate(Duration::from_secs(10)), Some(60.0));
}

#[test]
fn series_that_a_new_stream_does_not_name_are_dropped() {
    let store = SignalStore::new(SignalLimits::default());
    let mut stream = store.connect(node(), boot("b"), 1, at(1_000)).unwrap();
    feed(&mut stream, 0, 10, 4);
    let mut again = store.connect(node(), boot("b"), 1, at(1_011)).unwrap();
    again
        .batch()
        .unwrap()
        .heartbeat(NodeTime::from_nanos(11 * SECOND), at(1_011));
    assert_eq!(
        mean(&store, at(1_011)),
        None,
        "not named, not known to be read"
    );
    assert_eq!(store.figures(at(1_011)).series, 1);
    again
        .batch()
        .unwrap()
        .heartbeat(NodeTime::from_nanos(30 * SECOND), at(1_030));
    assert_eq!(store.figures(at(1_030)).series, 0);
}

#[test]
fn limits_are_kept_and_faults_counted() {
    let limits = SignalLimits {
        nodes: 1,
        series_per_node: 1,
        ..SignalLimits::default()
    };
    let store = SignalStore::new(limits);
    let mut stream = store.connect(node(), boot("b"), 1, at(0)).unwrap();
    let refused = store.connect(NodeName::new("n2").unwrap(), boot("b"), 1, at(0));
    assert_eq!(refused.err(), Some(SignalError::TooManyNodes { limit: 1 }));
    let mut batch = stream.batch().unwrap();
    batch
        .define(
            1,
            SeriesKey::pod(&pod(), Signal::PassiveOpens),
            WINDOW,
            false,
        )
        .unwrap();
    let second = batch.define(2, backlog(), WINDOW, false);
    assert_eq!(second, Err(SignalError::TooManySeries { limit: 1 }));
    batch.counter(1, NodeTime::from_nanos(SECOND), 10, 0);
    batch.counter(1, NodeTime::from_nanos(2 * SECOND), 9, 0);
    batch.counter(3, NodeTime::from_nanos(2 * SECOND), 9, 0);
    batch.gauge(1, NodeTime::from_nanos(3 * SECOND), 1.0, 1, 1);
    batch.heartbeat(NodeTime::from_nanos(2 * SECOND), at(2));
    drop(batch);
    let figures = store.figures(at(2));
    assert_eq!(
        (figures.taken, figures.backwards, figures.unknown),
        (1, 1, 2)
    );
    store.sweep(at(2_000));
    assert_eq!(store.figures(at(2_000)).nodes, 0);
}
