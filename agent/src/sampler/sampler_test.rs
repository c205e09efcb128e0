use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use neap_proto::node::agent_message::Message;
use neap_proto::node::{
    self, AgentMessage, Directives, NodeSettings, PodDirective, Samples, SeriesKind,
};
use tokio::sync::mpsc;

use super::*;
use crate::cgroup::hierarchy::Hierarchies;
use crate::cgroup::tree::Tree;

const POD: &str = "0f8c1d2e-3a4b-4c5d-8e6f-7a8b9c0d1e2f";

#[derive(Clone, Default)]
struct ManualClock(Arc<Mutex<BootTime>>);

impl ManualClock {
    fn set(&self, now: BootTime) {
        *self.0.lock().unwrap() = now;
    }
}

impl BootClock for ManualClock {
    fn now(&self) -> BootTime {
        *self.0.lock().unwrap()
    }
}

struct Fixture {
    root: tempfile::TempDir,
    clock: ManualClock,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
    sampler: Sampler<ManualClock>,
}

fn container() -> String {
    "ab".repeat(32)
}

fn pod_path() -> String {
    format!("kubepods/burstable/pod{POD}")
}

impl Fixture {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(namespaces: Option<Namespaces>) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory io").unwrap();
        std::fs::create_dir_all(root.path().join("kubepods/burstable")).unwrap();
        let clock = ManualClock::default();
        clock.set(BootTime::from_nanos(1_000_000_000));
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let metrics = Arc::new(Metrics::new("restricted"));
        let sources = Sources {
            pods: PodSource::Cgroups(
                Tree::new(Hierarchies::detect(root.path()).unwrap(), None),
                None,
            ),
            node: NodeReader::open(Path::new("/proc")).unwrap(),
            namespaces,
            trigger: None,
            spool_roots: Roots::new(vec![root.path().join("spool")], "/".into()),
        };
        let sampler = Sampler::new(clock.clone(), sources, mailbox.clone(), metrics.clone());
        Self {
            root,
            clock,
            mailbox,
            metrics,
            sampler,
        }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn add_pod(&self, usage: u64) {
        self.write(
            &format!("{}/cpu.pressure", pod_path()),
            "some avg10=0 total=11\nfull avg10=0 total=7\n",
        );
        self.set_usage(usage);
    }

    fn set_usage(&self, usage: u64) {
        self.write(
            &format!("{}/{}/cpu.stat", pod_path(), container()),
            &format!("usage_usec {usage}\n"),
        );
    }

    fn attach(&self, room: usize) -> mpsc::Receiver<AgentMessage> {
        let (messages, receiver) = mpsc::channel(room);
        self.mailbox.set_outlet(Some(Outlet {
            messages,
            sent: Arc::new(AtomicU64::new(0)),
        }));
        receiver
    }

    fn direct(&self, generation: u64, interval_ms: u32) {
        self.mailbox.set_directives(Directives {
            generation,
            node: Some(NodeSettings::default()),
            pods: vec![PodDirective {
                pod_uid: POD.into(),
                interval_ms,
                ..Default::default()
            }],
            ..Default::default()
        });
    }

    fn step_at(&mut self, seconds: f64) -> BootTime {
        self.clock.set(BootTime::from_nanos((seconds * 1e9) as u64));
        match self.sampler.step(false) {
            Step::Until(due) => due,
            Step::Stop => panic!("nobody asked it to stop"),
        }
    }
}

fn samples(receiver: &mut mpsc::Receiver<AgentMessage>) -> Vec<Samples> {
    let mut samples = Vec::new();
    while let Ok(message) = receiver.try_recv() {
        if let Some(Message::Samples(batch)) = message.message {
            samples.push(batch);
        }
    }
    samples
}

fn defined(samples: &[Samples], kind: SeriesKind) -> Option<&node::SeriesDefinition> {
    samples
        .iter()
        .flat_map(|batch| &batch.defined)
        .find(|defined| defined.kind() == kind)
}

#[test]
fn a_pod_appears_is_read_at_its_interval_and_goes() {
    let mut fixture = Fixture::new();
    let mut stream = fixture.attach(64);
    fixture.step_at(1.0);
    let first = samples(&mut stream);
    assert_eq!((first[0].sequence, first[0].pods_appeared.len()), (1, 0));
    assert!(defined(&first, SeriesKind::NodeCpuUsage).is_some());

    fixture.direct(3, 1_000);
    fixture.add_pod(500);
    fixture.step_at(1.2);
    let batches = samples(&mut stream);
    assert_eq!(
        batches
            .iter()
            .flat_map(|batch| &batch.pods_appeared)
            .collect::<Vec<_>>(),
        [POD]
    );
    assert_eq!(batches[0].directives_generation, 3);
    let usage = defined(&batches, SeriesKind::CpuUsage).unwrap();
    assert_eq!(
        (usage.container_id.clone(), usage.interval_ms),
        (container(), 1_000)
    );
    let usage = usage.id;
    assert!(defined(&batches, SeriesKind::PressureCpuFull).is_some());
    assert_eq!(fixture.metrics.pods.get(), 1);

    fixture.set_usage(900);
    fixture.step_at(1.9);
    assert!(
        samples(&mut stream)
            .iter()
            .all(|batch| batch.counters.iter().all(|point| point.series != usage))
    );
    assert!(fixture.step_at(2.0) > BootTime::from_nanos(2_000_000_000));
    let point = samples(&mut stream)
        .iter()
        .flat_map(|batch| batch.counters.clone())
        .find(|point| point.series == usage);
    assert_eq!(point.unwrap().value, 900);

    std::fs::remove_dir_all(fixture.root.path().join(pod_path())).unwrap();
    fixture.step_at(2.1);
    let batches = samples(&mut stream);
    assert_eq!(batches[0].pods_vanished, [POD]);
    assert!(batches[0].gone.contains(&usage));
    assert_eq!(fixture.metrics.pods.get(), 0);
}

#[test]
fn a_change_in_a_queue_is_told_by_the_step_that_saw_it() {
    let namespaces = Namespaces::new(Path::new("/proc")).unwrap();
    if !namespaces.permitted() {
        println!("skipped: namespaces can be entered by root only");
        return;
    }
    let mut fixture = Fixture::with(Some(namespaces));
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    fixture.add_pod(1);
    fixture.write(
        &format!("{}/{}/cgroup.procs", pod_path(), container()),
        &format!("{}\n", std::process::id()),
    );
    let mut stream = fixture.attach(64);
    fixture.step_at(0.9);
    samples(&mut stream);
    fixture.mailbox.set_directives(Directives {
        generation: 1,
        pods: vec![PodDirective {
            pod_uid: POD.into(),
            interval_ms: 1_000,
            accept_queues: vec![node::AcceptQueue {
                port: port.into(),
                interval_ms: 0,
            }],
            host_network: true,
            ..Default::default()
        }],
        ..Default::default()
    });
    let due = fixture.step_at(1.0);
    assert_eq!(
        due,
        BootTime::from_nanos(1_100_000_000),
        "looked up at 10 Hz"
    );
    let backlog = defined(&samples(&mut stream), SeriesKind::AcceptBacklog)
        .unwrap()
        .id;

    let _one = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    fixture.step_at(1.1);
    let batches = samples(&mut stream);
    assert_eq!((batches.len(), batches[0].boottime_ns), (1, 1_100_000_000));
    let point = batches[0].gauges[0];
    assert_eq!((point.series, point.age_us, point.last), (backlog, 0, 1));

    // Where the slower files are due in the same step, the queue does not wait for them.
    let _two = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    fixture.set_usage(9);
    fixture.step_at(2.0);
    let batches = samples(&mut stream);
    let series =
        |batch: &Samples| -> Vec<u32> { batch.gauges.iter().map(|point| point.series).collect() };
    assert_eq!(series(&batches[0]), [backlog]);
    assert!(batches[0].counters.is_empty() && !batches[1].counters.is_empty());
}

#[test]
fn a_counter_that_goes_backwards_is_left_out_and_shows_in_the_metrics() {
    let mut fixture = Fixture::new();
    fixture.direct(1, 1_000);
    fixture.add_pod(500);
    let mut stream = fixture.attach(64);
    fixture.step_at(1.0);
    let usage = defined(&samples(&mut stream), SeriesKind::CpuUsage)
        .unwrap()
        .id;
    let mut told = |fixture: &mut Fixture, second: u64, usage_us| {
        fixture.set_usage(usage_us);
        fixture.step_at(second as f64);
        let batches = samples(&mut stream);
        let points = batches.iter().flat_map(|batch| batch.counters.clone());
        points
            .filter(|point| point.series == usage)
            .map(|point| point.value)
            .collect::<Vec<_>>()
    };
    assert!(told(&mut fixture, 2, 400).is_empty());
    let text = fixture.metrics.encode().unwrap();
    assert!(
        text.contains("neap_agent_counters_backwards_total 1"),
        "{text}"
    );
    assert_eq!(told(&mut fixture, 3, 600), [600]);
}

#[test]
fn a_new_stream_gets_the_replay_before_anything_else() {
    let mut fixture = Fixture::new();
    fixture.direct(1, 1_000);
    fixture.add_pod(0);
    for second in 1..=5u64 {
        fixture.set_usage(second * 100);
        fixture.step_at(second as f64);
    }
    let mut stream = fixture.attach(64);
    fixture.step_at(5.5);
    let Some(Message::Replay(replay)) = stream.try_recv().unwrap().message else {
        panic!("no replay first")
    };
    assert!(replay.last);
    let usage = replay
        .defined
        .iter()
        .find(|defined| defined.kind() == SeriesKind::CpuUsage)
        .unwrap();
    let history = replay
        .series
        .iter()
        .find(|history| history.series == usage.id)
        .unwrap();
    assert_eq!(history.values, [100, 200, 300, 400, 500]);
    assert_eq!(
        history.ages_us,
        [4_500_000, 3_500_000, 2_500_000, 1_500_000, 500_000]
    );
    let first = &samples(&mut stream)[0];
    assert_eq!(
        (first.sequence, &first.pods_appeared),
        (1, &vec![POD.to_owned()])
    );
    assert!(first.defined.is_empty());
}

#[test]
fn a_stream_without_room_loses_nothing_and_does_not_spin() {
    let mut fixture = Fixture::new();
    fixture.direct(1, 1_000);
    fixture.add_pod(0);
    let mut stream = fixture.attach(2);
    fixture.step_at(1.0);
    for second in 2..=6u64 {
        fixture.set_usage(second);
        let due = fixture.step_at(second as f64);
        assert!(due > fixture.clock.now(), "it would spin");
    }
    assert!(fixture.metrics.batches_deferred.get() > 0);
    stream.try_recv().unwrap();
    stream.try_recv().unwrap();
    fixture.step_at(6.2);
    let batches = samples(&mut stream);
    assert!(
        batches
            .iter()
            .flat_map(|batch| &batch.counters)
            .any(|point| point.value == 6)
    );
}

#[test]
fn silence_is_broken_by_heartbeats() {
    let mut fixture = Fixture::new();
    let mut stream = fixture.attach(64);
    fixture.mailbox.set_directives(Directives {
        generation: 1,
        node: Some(NodeSettings {
            node_interval_ms: 60_000,
            heartbeat_ms: 2_000,
            ..Default::default()
        }),
        ..Default::default()
    });
    fixture.step_at(1.0);
    samples(&mut stream);
    fixture.step_at(2.9);
    assert_eq!(samples(&mut stream), []);
    fixture.step_at(3.0);
    let heartbeat = samples(&mut stream);
    assert_eq!(
        (
            heartbeat.len(),
            heartbeat[0].counters.len(),
            heartbeat[0].boottime_ns
        ),
        (1, 0, 3_000_000_000)
    );
}

#[test]
fn a_stream_that_ends_is_let_go() {
    let mut fixture = Fixture::new();
    drop(fixture.attach(4));
    fixture.step_at(1.0);
    fixture.step_at(2.0);
    assert_eq!(fixture.metrics.batches.get(), 0);
    let mut stream = fixture.attach(4);
    fixture.step_at(3.0);
    assert_eq!(samples(&mut stream)[0].sequence, 1);
}

#[test]
fn a_pressed_node_is_read_at_once() {
    let mut fixture = Fixture::new();
    fixture.add_pod(10);
    let mut stream = fixture.attach(64);
    fixture.step_at(1.0);
    samples(&mut stream);
    fixture.set_usage(20);
    fixture.clock.set(BootTime::from_nanos(1_300_000_000));
    fixture.sampler.step(true);
    let batches = samples(&mut stream);
    assert!(batches.iter().any(|batch| batch.pressure_trigger_fired));
    // Pods without a directive are read each 10 s otherwise.
    assert!(
        batches
            .iter()
            .flat_map(|batch| &batch.counters)
            .any(|point| point.value == 20)
    );
}

#[test]
fn it_runs_on_its_own_thread_until_it_is_stopped() {
    let fixture = Fixture::new();
    let mut stream = fixture.attach(64);
    let Fixture {
        root,
        mailbox,
        sampler,
        ..
    } = fixture;
    let thread = std::thread::spawn(move || sampler.run());
    let Some(first) = stream.blocking_recv() else {
        panic!("nothing came")
    };
    assert!(matches!(first.message, Some(Message::Replay(_))));
    mailbox.stop();
    thread.join().unwrap().unwrap();
    assert!(mailbox.last_step_nanos() > 0);
    drop(root);
}

#[test]
fn a_pod_at_rest_is_one_file_and_still_has_all_its_series() {
    let mut fixture = Fixture::new();
    let set_pod_usage = |fixture: &Fixture, usage: u64| {
        fixture.write(
            &format!("{}/cpu.stat", pod_path()),
            &format!("usage_usec {usage}\n"),
        );
    };
    let stall = |fixture: &Fixture, total: u64| {
        fixture.write(
            &format!("{}/cpu.pressure", pod_path()),
            &format!("some avg10=0 total={total}\n"),
        );
    };
    fixture.direct(1, 1_000);
    fixture.add_pod(100);
    set_pod_usage(&fixture, 100);
    let mut stream = fixture.attach(64);
    fixture.step_at(1.0);
    fixture.step_at(2.0);
    let usage = defined(&samples(&mut stream), SeriesKind::CpuUsage)
        .unwrap()
        .id;

    // The container's own file is not read while the pod's stands still.
    fixture.set_usage(150);
    fixture.step_at(3.0);
    fixture.step_at(4.0);
    let at = |batches: &[Samples]| {
        batches
            .iter()
            .flat_map(|batch| batch.counters.clone())
            .find(|point| point.series == usage)
    };
    assert_eq!(at(&samples(&mut stream)), None);
    set_pod_usage(&fixture, 150);
    fixture.step_at(5.0);
    // It is known that it had its old value a second before.
    let point = at(&samples(&mut stream)).unwrap();
    assert_eq!((point.value, point.unchanged_us), (150, 1_000_000));

    // A stall without any CPU time is seen too, only later; and followed closely from there.
    for second in 6..=12 {
        fixture.step_at(second as f64);
    }
    samples(&mut stream);
    let pressure = |batches: &[Samples], total: u64| {
        batches
            .iter()
            .any(|batch| batch.counters.iter().any(|point| point.value == total))
    };
    stall(&fixture, 7_777);
    let seen = (13..=12 + u64::from(pod::PRESSURE_PAUSE) + 1).find(|second| {
        fixture.step_at(*second as f64);
        pressure(&samples(&mut stream), 7_777)
    });
    let seen = seen.expect("the stall was not seen in time");
    stall(&fixture, 8_888);
    fixture.step_at((seen + 1) as f64);
    assert!(pressure(&samples(&mut stream), 8_888));
}

#[test]
fn memory_of_a_pod_at_rest_is_one_file_and_a_change_of_it_is_seen_at_once() {
    let mut fixture = Fixture::new();
    let set_pod = |fixture: &Fixture, usage: u64, memory: u64| {
        fixture.write(
            &format!("{}/cpu.stat", pod_path()),
            &format!("usage_usec {usage}\n"),
        );
        fixture.write(
            &format!("{}/memory.current", pod_path()),
            &memory.to_string(),
        );
    };
    let set_container = |fixture: &Fixture, memory: u64, inactive: u64| {
        let below = format!("{}/{}", pod_path(), container());
        fixture.write(&format!("{below}/memory.current"), &memory.to_string());
        fixture.write(
            &format!("{below}/memory.stat"),
            &format!("inactive_file {inactive}\n"),
        );
    };
    fixture.direct(1, 1_000);
    fixture.add_pod(100);
    set_pod(&fixture, 100, 5_000);
    set_container(&fixture, 5_000, 1_000);
    let mut stream = fixture.attach(64);
    fixture.step_at(10.0);
    let working_set = defined(&samples(&mut stream), SeriesKind::MemoryWorkingSet)
        .unwrap()
        .id;
    let seen = |batches: &[Samples]| {
        batches
            .iter()
            .flat_map(|batch| batch.gauges.clone())
            .filter(|point| point.series == working_set)
            .map(|point| (point.last, point.integral))
            .next_back()
    };
    fixture.step_at(20.0);
    samples(&mut stream);

    // Neither CPU time nor the pod's memory moved: the containers' files are not read ...
    set_container(&fixture, 5_000, 3_000);
    fixture.step_at(30.0);
    assert_eq!(seen(&samples(&mut stream)), None);
    // ... but now and then,
    let late = (4..=3 + u64::from(pod::MEMORY_PAUSE) + 1).find_map(|tens| {
        fixture.step_at(10.0 * tens as f64);
        seen(&samples(&mut stream)).map(|point| (tens, point))
    });
    let (tens, (value, integral)) = late.expect("seen in time");
    assert_eq!(value, 2_000);
    let until = 10.0 * (tens - 1) as f64;
    assert!(
        (integral - 4_000.0 * until).abs() < 1.0,
        "it was held all the time: {integral}"
    );

    // and at once when either moves.
    set_pod(&fixture, 100, 6_000);
    set_container(&fixture, 6_000, 3_000);
    fixture.step_at(10.0 * (tens + 1) as f64);
    assert_eq!(
        seen(&samples(&mut stream)).map(|(value, _)| value),
        Some(3_000)
    );
    set_pod(&fixture, 101, 6_000);
    set_container(&fixture, 6_000, 2_000);
    fixture.step_at(10.0 * (tens + 2) as f64);
    assert_eq!(
        seen(&samples(&mut stream)).map(|(value, _)| value),
        Some(4_000)
    );
}
