//! Schedules against facts: what `robfig/cron/v3` v3.0.1 (Go) answers to the same questions, in
//! `data/cron_robfig.jsonl.gz`; and a second opinion by another library where the two agree.
//!
//! A line of the data is one schedule: its text, whether descriptors were allowed, and either that
//! Go refuses it or the instants that follow `from` in `zone` (an empty one: never again).
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

use std::io::Read;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use neap_triggers::cron::Schedule;
use proptest::prelude::*;

#[derive(serde::Deserialize)]
struct Fact {
    spec: String,
    #[serde(default)]
    descriptors: bool,
    #[serde(default)]
    error: bool,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    next: Vec<String>,
}

#[test]
fn agrees_with_robfig_cron() {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/cron_robfig.jsonl.gz")[..])
        .read_to_string(&mut text)
        .expect("gzip");
    let (mut facts, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let fact: Fact = serde_json::from_str(line).expect(line);
        facts += 1;
        if let Err(why) = check(&fact) {
            wrong.push(format!("{line}\n  {why}"));
        }
    }
    println!("{facts} schedules");
    assert!(facts > 1500, "{facts}");
    assert!(
        wrong.is_empty(),
        "{} of {facts} differ:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

fn check(fact: &Fact) -> Result<(), String> {
    let parsed = if fact.descriptors {
        Schedule::parse_standard(&fact.spec)
    } else {
        Schedule::parse_fields(&fact.spec)
    };
    let schedule = match parsed {
        Ok(_) if fact.error => return Err("accepted, and Go refuses it".to_owned()),
        Err(error) if !fact.error => return Err(format!("refused ({error}), and Go accepts it")),
        Err(_) => return Ok(()),
        Ok(schedule) => schedule,
    };
    let zone = TimeZone::get(&fact.zone).expect("zone");
    let mut at: Timestamp = fact.from.parse().expect("from");
    for expected in &fact.next {
        let next = schedule.next(at, &zone);
        let expected = if expected.is_empty() {
            None
        } else {
            Some(expected.parse::<Timestamp>().expect("next"))
        };
        if next != expected {
            return Err(format!("after {at}: {next:?}, and Go says {expected:?}"));
        }
        at = next.unwrap_or(at);
    }
    Ok(())
}

/// One field without the forms that the two libraries read differently.
fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        (low..=high).prop_map(|value| value.to_string()),
        (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (2..=high).prop_map(|step| format!("*/{step}")),
        proptest::collection::vec(low..=high, 1..4).prop_map(|values| values
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_croner_away_from_clock_changes(
        minute in field(0, 59),
        hour in field(0, 23),
        day in prop_oneof![Just("*".to_owned()), (1..=28_u32).prop_map(|day| day.to_string())],
        month in field(1, 12),
        // One restricted day only: the libraries combine two of them by different rules.
        weekday in prop_oneof![Just("*".to_owned()), (0..=6_u32).prop_map(|day| day.to_string())],
        second in 1_600_000_000_i64..1_900_000_000,
    ) {
        let weekday = if day == "*" { weekday } else { "*".to_owned() };
        let spec = format!("{minute} {hour} {day} {month} {weekday}");
        let from = Timestamp::from_second(second).expect("in range");
        let ours = Schedule::parse_fields(&spec).expect(&spec).next(from, &TimeZone::UTC).expect("within five years");
        let croner: croner::Cron = spec.parse().expect(&spec);
        let theirs = croner.find_next_occurrence(&from.to_zoned(TimeZone::UTC), false).expect(&spec);
        prop_assert_eq!(ours, theirs.timestamp(), "{}", spec);
    }

    #[test]
    fn next_is_later_and_reading_never_panics(text in "[-0-9*/,? A-Za-z@=]{0,24}", second in -1_000_000_000_i64..4_000_000_000) {
        if let Ok(schedule) = Schedule::parse_standard(&text) {
            let from = Timestamp::from_second(second).expect("in range");
            for zone in ["Pacific/Apia", "Europe/Berlin"] {
                let next = schedule.next(from, &TimeZone::get(zone).expect("zone"));
                prop_assert!(next.is_none_or(|next| next > from));
            }
        }
    }
}

#[test]
fn a_day_that_a_zone_skipped_ends_the_search_in_time() {
    let zone = TimeZone::get("Pacific/Apia").expect("zone");
    let from: Timestamp = "2011-12-29T00:00:00Z".parse().expect("instant");
    let schedule = Schedule::parse_fields("30 0 * * 0").expect("valid");
    assert_eq!(
        schedule.next(from, &zone),
        Some("2011-12-31T10:30:00Z".parse().expect("instant")),
        "Sunday, 1 January 2012"
    );
}
