use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> BootTime {
    BootTime::from_nanos((seconds * 1e9).round() as u64)
}

fn cpu(pod: &str) -> Meaning {
    Meaning::of_pod(SeriesKind::PressureCpuSome, &pod.into(), SECOND)
}

fn backlog(pod: &str) -> Meaning {
    Meaning::of_port(
        SeriesKind::AcceptBacklog,
        &pod.into(),
        80,
        Duration::from_millis(100),
    )
}

fn streaming() -> Table {
    let mut table = Table::default();
    table.attach();
    let (replay, more) = table.replay(0, 100, at(0.0));
    assert!(replay.last && more.is_none() && replay.series.is_empty());
    table
}

#[test]
fn a_counter_is_defined_once_and_sent_when_it_moves() {
    let mut table = streaming();
    let id = table.begin(cpu("a"), 100, at(1.0));
    let changes = table.take_changes(at(1.5));
    assert_eq!(changes.defined.len(), 1);
    assert_eq!(changes.defined[0].pod_uid, "a");
    assert_eq!(changes.defined[0].interval_ms, 1000);
    assert_eq!(
        changes.counters,
        [node::CounterPoint {
            series: id,
            age_us: 500_000,
            value: 100,
            unchanged_us: 0
        }]
    );

    table.read(id, 100, at(2.0));
    assert!(!table.has_changes());
    table.read(id, 130, at(3.0));
    let changes = table.take_changes(at(3.0));
    assert!(changes.defined.is_empty());
    // It still had the former value a second before.
    assert_eq!(
        changes.counters,
        [node::CounterPoint {
            series: id,
            age_us: 0,
            value: 130,
            unchanged_us: 1_000_000
        }]
    );
    table.read(id, 140, at(4.0));
    assert_eq!(table.take_changes(at(4.0)).counters[0].unchanged_us, 0);
}

#[test]
fn a_batch_that_could_not_be_sent_does_not_bend_the_next() {
    let mut table = streaming();
    let id = table.begin(cpu("a"), 1, at(1.0));
    table.take_changes(at(1.0));
    table.read(id, 1, at(2.0));
    table.read(id, 5, at(3.0));
    table.read(id, 5, at(4.0));
    table.read(id, 9, at(5.0));
    // What was told is 1, and 1 it was until 2 s, whatever came in between.
    let changes = table.take_changes(at(5.0));
    assert_eq!(
        changes.counters,
        [node::CounterPoint {
            series: id,
            age_us: 0,
            value: 9,
            unchanged_us: 3_000_000
        }]
    );
}

#[test]
fn a_counter_that_goes_backwards_is_dropped_and_counted() {
    let mut table = streaming();
    let id = table.begin(cpu("a"), 100, at(1.0));
    table.take_changes(at(1.0));
    table.read(id, 50, at(2.0));
    assert!(!table.has_changes());
    assert_eq!(table.backwards(), 1);
    table.read(id, 110, at(3.0));
    assert_eq!(table.take_changes(at(3.0)).counters[0].value, 110);
}

#[test]
fn a_gauge_is_its_integral_and_its_peak() {
    let mut table = streaming();
    let id = table.begin(backlog("a"), 0, at(1.0));
    table.take_changes(at(1.0));
    table.read(id, 10, at(2.0)); // 0 held for 1 s
    table.read(id, 4, at(2.5)); // 10 held for 0.5 s
    let changes = table.take_changes(at(2.5));
    assert_eq!(
        changes.gauges,
        [node::GaugePoint {
            series: id,
            age_us: 0,
            integral: 5.0,
            last: 4,
            peak: 10
        }]
    );
    table.read(id, 4, at(3.0));
    assert!(!table.has_changes(), "an unchanged gauge is not sent");
    table.read(id, 0, at(4.0)); // 4 held for 1.5 s
    let changes = table.take_changes(at(4.0));
    assert_eq!(
        changes.gauges,
        [node::GaugePoint {
            series: id,
            age_us: 0,
            integral: 11.0,
            last: 0,
            peak: 4
        }]
    );
}

#[test]
fn an_id_is_used_again_only_after_the_stream_knows_that_it_is_gone() {
    let mut table = streaming();
    let a = table.begin(cpu("a"), 1, at(1.0));
    table.take_changes(at(1.0));
    table.end(a);
    let b = table.begin(cpu("b"), 1, at(1.0));
    assert_ne!(a, b);
    assert_eq!(table.take_changes(at(1.0)).gone, [a]);
    assert_eq!(table.begin(cpu("c"), 1, at(1.0)), a);
    assert_eq!(table.live(), 2);
}

#[test]
fn a_series_that_ends_before_it_was_told_leaves_no_trace() {
    let mut table = streaming();
    let a = table.begin(cpu("a"), 1, at(1.0));
    table.end(a);
    assert!(!table.has_changes());
    let b = table.begin(cpu("b"), 7, at(1.0));
    assert_eq!(a, b);
    let changes = table.take_changes(at(1.0));
    assert_eq!(
        (
            changes.gone.len(),
            changes.defined.len(),
            changes.counters[0].value
        ),
        (0, 1, 7)
    );
}

#[test]
fn nothing_gathers_while_no_stream_takes_it() {
    let mut table = Table::default();
    for round in 0..1_000 {
        let id = table.begin(cpu("a"), round, at(round as f64));
        table.read(id, round + 1, at(round as f64 + 0.5));
        table.end(id);
    }
    assert_eq!(
        (
            table.series.len(),
            table.dirty.capacity(),
            table.gone.capacity()
        ),
        (1, 0, 0)
    );
}

#[test]
fn a_new_stream_gets_history_and_then_what_changes() {
    let mut table = Table::default();
    let counter = table.begin(cpu("a"), 0, at(0.0));
    let gauge = table.begin(backlog("a"), 3, at(0.0));
    for second in 1..=5 {
        table.read(counter, second * 10, at(second as f64));
        table.read(gauge, 3, at(second as f64));
    }
    table.read(counter, 50, at(6.0));
    table.attach();
    let (first, more) = table.replay(0, 1, at(6.5));
    assert!(!first.last);
    let (second, end) = table.replay(more.unwrap(), 1, at(6.5));
    assert!(second.last && end.is_none());

    let history = &first.series[0];
    assert_eq!(first.defined[0].id, counter);
    assert_eq!(history.values, [0, 10, 20, 30, 40, 50, 50]);
    assert_eq!(history.ages_us.last(), Some(&500_000));
    assert!(history.ages_us.is_sorted_by(|a, b| a > b) && history.integrals.is_empty());

    let history = &second.series[0];
    assert_eq!((history.series, &history.values), (gauge, &vec![3, 3]));
    assert_eq!(history.integrals, [0.0, 15.0]);

    assert!(!table.has_changes());
    table.read(counter, 60, at(7.0));
    let changes = table.take_changes(at(7.0));
    assert!(changes.defined.is_empty(), "the replay defined it");
    assert_eq!(changes.counters[0].unchanged_us, 0);
}

#[test]
fn a_changed_interval_is_told_without_a_point() {
    let mut table = streaming();
    let id = table.begin(cpu("a"), 1, at(1.0));
    table.take_changes(at(1.0));
    table.set_interval(id, SECOND);
    assert!(!table.has_changes());
    table.set_interval(id, Duration::from_secs(10));
    let changes = table.take_changes(at(2.0));
    assert_eq!(
        (changes.defined[0].interval_ms, changes.counters.len()),
        (10_000, 0)
    );
}
