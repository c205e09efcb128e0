use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    root: tempfile::TempDir,
    hierarchies: Hierarchies,
    table: Table,
    scratch: Scratch,
    container: Container,
}

impl Fixture {
    fn new(markers: &[&str], files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for marker in markers {
            let path = root.path().join(marker);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut fixture = Self {
            hierarchies: Hierarchies::detect(root.path()).unwrap_or(Hierarchies {
                mode: crate::cgroup::hierarchy::Mode::V1,
                unified: None,
                cpu: Some(root.path().join("cpu")),
                cpuacct: Some(root.path().join("cpuacct")),
                memory: Some(root.path().join("memory")),
                systemd: None,
            }),
            root,
            table: Table::default(),
            scratch: Scratch::default(),
            container: Container::new("c1".into(), "pod/c1".into(), None),
        };
        for (path, content) in files {
            fixture.write(path, content);
        }
        fixture.table.attach();
        fixture
    }

    fn write(&mut self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// What a stream is told: kind and value.
    fn read(&mut self, second: u64) -> Vec<(SeriesKind, u64)> {
        let at = BootTime::from_nanos(second * 1_000_000_000);
        let mut reading = Reading {
            hierarchies: &self.hierarchies,
            scratch: &mut self.scratch,
            table: &mut self.table,
        };
        self.container
            .read_cpu(&"pod".into(), SECOND, at, &mut reading);
        self.container
            .read_memory(&"pod".into(), SECOND, at, &mut reading);
        let changes = self.table.take_changes(at);
        let kind = |id| {
            changes
                .defined
                .iter()
                .find(|defined| defined.id == id)
                .map(|defined| defined.kind())
        };
        let counters = changes
            .counters
            .iter()
            .map(|point| (kind(point.series), point.value));
        let gauges = changes
            .gauges
            .iter()
            .map(|point| (kind(point.series), point.last));
        counters
            .chain(gauges)
            .map(|(kind, value)| (kind.unwrap_or_default(), value))
            .collect()
    }
}

#[test]
fn version_2_has_all_in_one_place() {
    let mut fixture = Fixture::new(
        &["cgroup.controllers"],
        &[
            (
                "pod/c1/cpu.stat",
                "usage_usec 700\nnr_periods 5\nnr_throttled 2\nthrottled_usec 90\n",
            ),
            ("pod/c1/memory.current", "10000\n"),
            ("pod/c1/memory.stat", "anon 1\ninactive_file 4000\n"),
            (
                "pod/c1/memory.events",
                "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n",
            ),
        ],
    );
    assert_eq!(
        fixture.read(1),
        [
            (SeriesKind::CpuUsage, 700),
            (SeriesKind::CpuPeriods, 5),
            (SeriesKind::CpuThrottledPeriods, 2),
            (SeriesKind::CpuThrottled, 90),
            (SeriesKind::MemoryEventsHigh, 1),
            (SeriesKind::MemoryEventsMax, 2),
            (SeriesKind::MemoryEventsOom, 3),
            (SeriesKind::MemoryEventsOomKill, 4),
            (SeriesKind::MemoryWorkingSet, 6000),
        ]
    );
}

#[test]
fn hybrid_takes_usage_from_version_2_and_the_rest_from_version_1() {
    let mut fixture = Fixture::new(
        &[
            "unified/cgroup.controllers",
            "cpu/x",
            "cpuacct/x",
            "memory/x",
        ],
        &[
            ("unified/pod/c1/cpu.stat", "usage_usec 700\nuser_usec 1\n"),
            ("cpuacct/pod/c1/cpuacct.usage", "999999\n"),
            (
                "cpu/pod/c1/cpu.stat",
                "nr_periods 5\nnr_throttled 2\nthrottled_time 90000\n",
            ),
            ("memory/pod/c1/memory.usage_in_bytes", "10000\n"),
            (
                "memory/pod/c1/memory.stat",
                "inactive_file 1\ntotal_inactive_file 4000\n",
            ),
            (
                "memory/pod/c1/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
            ),
            ("memory/pod/c1/memory.failcnt", "2\n"),
        ],
    );
    assert_eq!(
        fixture.read(1),
        [
            (SeriesKind::CpuUsage, 700),
            (SeriesKind::CpuPeriods, 5),
            (SeriesKind::CpuThrottledPeriods, 2),
            (SeriesKind::CpuThrottled, 90),
            (SeriesKind::MemoryEventsMax, 2),
            (SeriesKind::MemoryEventsOomKill, 4),
            (SeriesKind::MemoryWorkingSet, 6000),
        ]
    );
}

#[test]
fn version_1_alone() {
    let mut fixture = Fixture::new(
        &["memory/x", "cpuacct/x"],
        &[("cpuacct/pod/c1/cpuacct.usage", "1234567\n")],
    );
    assert_eq!(fixture.read(1), [(SeriesKind::CpuUsage, 1234)]);
}

#[test]
fn a_file_that_goes_ends_its_series_and_is_not_zero() {
    let mut fixture = Fixture::new(
        &["cgroup.controllers"],
        &[
            ("pod/c1/cpu.stat", "usage_usec 700\n"),
            ("pod/c1/memory.current", "10000\n"),
            ("pod/c1/memory.stat", "inactive_file 1\n"),
        ],
    );
    assert_eq!(fixture.read(1).len(), 2);
    assert_eq!(fixture.table.live(), 2);
    // Without one of its two parts the working set is unknown.
    fixture.write("pod/c1/memory.stat", "anon 1\n");
    assert_eq!(fixture.read(2), []);
    assert_eq!(fixture.table.live(), 1);
    fixture.write("pod/c1/cpu.stat", "\n");
    fixture.read(3);
    assert_eq!(fixture.table.live(), 0);
}

#[test]
fn readings_that_change_nothing_allocate_no_series_and_send_nothing() {
    let mut fixture = Fixture::new(
        &["cgroup.controllers"],
        &[("pod/c1/cpu.stat", "usage_usec 700\n")],
    );
    fixture.read(1);
    for second in 2..50 {
        assert_eq!(fixture.read(second), []);
    }
    fixture.write("pod/c1/cpu.stat", "usage_usec 900\n");
    assert_eq!(
        fixture.read(50),
        [(SeriesKind::default(), 900)],
        "defined already, so only its point"
    );
}

#[test]
fn a_hybrid_node_whose_runtime_makes_no_cgroup2_groups_has_its_usage_from_version_1() {
    let mut fixture = Fixture::new(
        &["unified/cgroup.controllers", "cpuacct/x", "memory/x"],
        &[("cpuacct/pod/c1/cpuacct.usage", "999999\n")],
    );
    for second in 1..20 {
        let expected: &[_] = if second == 1 {
            &[(SeriesKind::CpuUsage, 999)]
        } else {
            &[]
        };
        assert_eq!(fixture.read(second), expected);
        assert_eq!(fixture.table.live(), 1);
    }
}
