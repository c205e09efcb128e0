use super::*;
use crate::{MetricSpec, Target, TriggerContext, build};

fn with(metadata: [(&str, &str); 4]) -> TriggerConfig {
    let mut config = TriggerConfig::new("cron", TriggerContext::default());
    config.metadata = metadata
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    config
}

fn cron(zone: &str, start: &str, end: &str, desired: &str) -> Arc<CronTrigger> {
    let config = with([
        ("timezone", zone),
        ("start", start),
        ("end", end),
        ("desiredReplicas", desired),
    ]);
    match build(&config).expect("valid").source {
        Source::Timed(cron) => cron,
        other => panic!("{other:?}"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

#[test]
fn is_inside_from_start_up_to_end() {
    let cron = cron("Asia/Tokyo", "15 * * * *", "20 * * * *", "10");
    let read = |time: &str| cron.read(at(time));
    let inside = TimedReading {
        value: MilliValue::from_units(10),
        active: true,
        next_edge: Some(at("2026-01-01T00:20:00Z")),
    };
    let before = TimedReading {
        value: MilliValue::ZERO,
        active: false,
        next_edge: Some(at("2026-01-01T00:15:00Z")),
    };
    let after = TimedReading {
        next_edge: Some(at("2026-01-01T01:15:00Z")),
        ..before
    };
    assert_eq!(read("2026-01-01T00:16:00Z"), inside);
    assert_eq!(read("2026-01-01T00:14:59.999Z"), before);
    assert_eq!(
        read("2026-01-01T00:15:00Z"),
        inside,
        "the edge itself belongs to what follows"
    );
    assert_eq!(read("2026-01-01T00:19:59.999Z"), inside);
    assert_eq!(read("2026-01-01T00:20:00Z"), after);
}

#[test]
fn spans_midnight_in_its_own_zone() {
    let cron = cron("America/New_York", "0 22 * * *", "0 6 * * *", "3");
    assert!(
        cron.read(at("2026-01-02T04:00:00Z")).active,
        "23:00 in New York"
    );
    assert!(cron.read(at("2026-01-02T10:59:00Z")).active, "05:59");
    let day = cron.read(at("2026-01-02T11:00:00Z"));
    assert_eq!(
        (day.active, day.next_edge),
        (false, Some(at("2026-01-03T03:00:00Z")))
    );
}

#[test]
fn follows_keda_where_an_edge_never_comes_or_both_come_together() {
    let now = at("2026-01-01T00:00:00Z");
    let never_starts = cron("UTC", "0 0 30 2 *", "0 5 * * *", "2");
    assert!(never_starts.read(now).active);
    let never_ends = cron("UTC", "0 5 * * *", "0 0 30 2 *", "2");
    assert!(!never_ends.read(now).active);
    let neither = cron("UTC", "0 0 30 2 *", "0 0 31 2 *", "2");
    assert_eq!(
        neither.read(now),
        TimedReading {
            value: MilliValue::from_units(2),
            active: true,
            next_edge: None
        }
    );
    let together = cron("UTC", "0 5 * * *", "00 5 * * *", "2");
    assert!(together.read(now).active);
    let negative = cron("UTC", "0 0 * * *", "0 5 * * *", "-4").read(at("2026-01-01T01:00:00Z"));
    assert_eq!((negative.active, negative.value), (true, MilliValue::ZERO));
}

#[test]
fn adds_one_metric_with_target_one() {
    let config = with([
        ("timezone", "Etc/UTC"),
        ("start", "0,30 */2 ? * *"),
        ("end", "59 23 * * Thu"),
        ("desiredReplicas", "10"),
    ]);
    let built = build(&config).expect("valid");
    let target = Target::External {
        kind: crate::ExternalKind::AverageValue,
        value: MilliValue::from_units(1),
    };
    assert_eq!(
        built.metrics,
        [MetricSpec {
            name: "s0-cron-Etc-UTC-0Cm30xSl2Qmxx-5923xxThu".to_owned(),
            target
        }]
    );
    assert_eq!(built.activation, Activation::Reported);
}

#[test]
fn names_every_fault() {
    let config = with([
        ("timezone", "Mars/Base"),
        ("start", "61 * * * *"),
        ("end", "* * * *"),
        ("desiredReplicas", "0"),
    ]);
    let error = build(&config).expect_err("refused").to_string();
    for part in [
        "start: \"61 * * * *\" is not allowed: minute: \"61\" must be a number from 0 to 59",
        "end: \"* * * *\" is not allowed: it must be exactly five fields",
        "timezone: \"Mars/Base\" is not allowed: it must be the name of an IANA time zone",
        "desiredReplicas: \"0\" is not allowed: it must be a whole number other than 0",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let same = with([
        ("timezone", "UTC"),
        ("start", "0 5 * * *"),
        ("end", "0 5 * * *"),
        ("desiredReplicas", "1"),
    ]);
    assert!(
        build(&same)
            .expect_err("refused")
            .to_string()
            .contains("end: \"0 5 * * *\" is not allowed: it must differ from start")
    );
}
