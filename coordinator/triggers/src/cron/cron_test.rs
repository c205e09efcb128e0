use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{CronError, Schedule};

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

#[test]
fn says_what_is_wrong() {
    let error = |text: &str| Schedule::parse_fields(text).expect_err(text).to_string();
    assert!(error("").contains("five fields"));
    assert_eq!(
        Schedule::parse_fields("* * * *"),
        Err(CronError::FieldCount(4))
    );
    let part = error("* 1,25 * * *");
    assert!(
        part.starts_with("hour: \"25\" must be a number from 0 to 23"),
        "{part}"
    );
    assert!(error("@daily").contains("\"@daily\" must be five fields"));
    assert!(error("TZ=Mars/Base * * * * *").contains("IANA"));
    assert!(
        Schedule::parse_standard("@soon")
            .expect_err("unknown")
            .to_string()
            .contains("@every")
    );
}

#[test]
fn a_zone_of_its_own_wins() {
    let schedule = Schedule::parse_fields("TZ=Asia/Tokyo 0 9 * * *").expect("valid");
    assert_eq!(
        schedule.next(
            at("2024-01-01T00:00:00Z"),
            &TimeZone::get("Europe/Berlin").expect("zone")
        ),
        Some(at("2024-01-02T00:00:00Z"))
    );
}

#[test]
fn gaps_are_skipped_and_repeats_come_twice() {
    let berlin = TimeZone::get("Europe/Berlin").expect("zone");
    let schedule = Schedule::parse_fields("30 2 * * *").expect("valid");
    // 31 March 2024 has no 02:30.
    assert_eq!(
        schedule.next(at("2024-03-30T12:00:00Z"), &berlin),
        Some(at("2024-04-01T00:30:00Z"))
    );
    // 27 October 2024 has two.
    assert_eq!(
        schedule.next(at("2024-10-26T12:00:00Z"), &berlin),
        Some(at("2024-10-27T00:30:00Z"))
    );
    assert_eq!(
        schedule.next(at("2024-10-27T00:30:00Z"), &berlin),
        Some(at("2024-10-27T01:30:00Z"))
    );
}

#[test]
fn never_due_is_none() {
    for text in ["0 0 30 2 *", ", * * * *", "* , * * *"] {
        assert_eq!(
            Schedule::parse_fields(text)
                .expect(text)
                .next(at("2024-01-01T00:00:00Z"), &TimeZone::UTC),
            None,
            "{text}"
        );
    }
}

#[test]
fn fractions_of_a_second_count_as_before_the_minute() {
    let schedule = Schedule::parse_fields("0 * * * *").expect("valid");
    let next = |text| schedule.next(at(text), &TimeZone::UTC);
    assert_eq!(
        next("2024-01-01T00:59:59.9Z"),
        Some(at("2024-01-01T01:00:00Z"))
    );
    assert_eq!(
        next("2024-01-01T01:00:00Z"),
        Some(at("2024-01-01T02:00:00Z"))
    );
    assert_eq!(
        next("1969-12-31T22:59:59.5Z"),
        Some(at("1969-12-31T23:00:00Z"))
    );
}
