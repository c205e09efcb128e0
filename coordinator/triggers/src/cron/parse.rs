//! Reading a schedule.

use jiff::tz::TimeZone;

use super::{Calendar, CronError, STAR, Schedule, ScheduleKind};
use crate::metadata::parse_go_duration;

struct Unit {
    field: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MINUTE: Unit = Unit {
    field: "minute",
    low: 0,
    high: 59,
    names: &[],
};
const HOUR: Unit = Unit {
    field: "hour",
    low: 0,
    high: 23,
    names: &[],
};
const DAY_OF_MONTH: Unit = Unit {
    field: "day of month",
    low: 1,
    high: 31,
    names: &[],
};
const MONTH: Unit = Unit {
    field: "month",
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAY_OF_WEEK: Unit = Unit {
    field: "day of week",
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The IANA time zone called `name`; an empty name, `UTC` and `Local` are UTC, as in KEDA's
/// container.
#[must_use]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" | "Local" => Some(TimeZone::UTC),
        name => TimeZone::get(name).ok(),
    }
}

pub(super) fn schedule(text: &str, descriptors: bool) -> Result<Schedule, CronError> {
    if text.is_empty() {
        return Err(CronError::Empty);
    }
    let (zone, text) = match text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="))
    {
        Some(rest) => {
            let (name, rest) = rest.split_once(' ').ok_or(CronError::Empty)?;
            let zone = time_zone(name).ok_or_else(|| CronError::Zone(name.to_owned()))?;
            // Go keeps "Local" as a mark, and the schedule then follows the caller's zone.
            let zone = Some(zone).filter(|_| name != "Local");
            (zone, rest.trim())
        }
        None => (None, text),
    };
    let kind = if text.starts_with('@') {
        descriptor(text, descriptors)?
    } else {
        calendar(text)?
    };
    Ok(Schedule { kind, zone })
}

fn calendar(text: &str) -> Result<ScheduleKind, CronError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day_of_month, month, day_of_week] = fields[..] else {
        return Err(CronError::FieldCount(fields.len()));
    };
    Ok(ScheduleKind::Calendar(Calendar {
        minute: bits(minute, &MINUTE)?,
        hour: bits(hour, &HOUR)?,
        day_of_month: bits(day_of_month, &DAY_OF_MONTH)?,
        month: bits(month, &MONTH)?,
        day_of_week: bits(day_of_week, &DAY_OF_WEEK)?,
    }))
}

fn descriptor(text: &str, allowed: bool) -> Result<ScheduleKind, CronError> {
    let refuse = |or| CronError::Descriptor(text.to_owned(), or);
    if !allowed {
        return Err(refuse(""));
    }
    if let Some(duration) = text.strip_prefix("@every ") {
        let (negative, nanos) = parse_go_duration(duration)
            .ok_or_else(|| refuse(", or @every with a duration such as 1h30m"))?;
        let seconds = if negative { 0 } else { nanos / 1_000_000_000 };
        return Ok(ScheduleKind::Every(
            i64::try_from(seconds).unwrap_or(i64::MAX).max(1),
        ));
    }
    calendar(match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            return Err(refuse(
                ", or one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @every",
            ));
        }
    })
}

/// Empty elements of a list are skipped; a field of commas alone matches nothing.
fn bits(field: &str, unit: &Unit) -> Result<u64, CronError> {
    field
        .split(',')
        .filter(|part| !part.is_empty())
        .try_fold(0, |bits, part| Ok(bits | range(part, unit)?))
}

fn range(part: &str, unit: &Unit) -> Result<u64, CronError> {
    let fault = || CronError::Part {
        field: unit.field,
        part: part.to_owned(),
        low: unit.low,
        high: unit.high,
    };
    let (span, step) = match part.split('/').collect::<Vec<_>>()[..] {
        [span] => (span, None),
        [span, step] => (
            span,
            Some(number(step).filter(|step| *step > 0).ok_or_else(fault)?),
        ),
        _ => return Err(fault()),
    };
    let ends: Vec<&str> = span.split('-').collect();
    let (first, last, star) = match ends[..] {
        // What follows a star within its part is not looked at, as in robfig/cron.
        ["*" | "?", ..] => (unit.low, unit.high, step.is_none_or(|step| step == 1)),
        [first] => {
            let first = unit.value(first).ok_or_else(fault)?;
            (first, if step.is_some() { unit.high } else { first }, false)
        }
        [first, last] => (
            unit.value(first).ok_or_else(fault)?,
            unit.value(last).ok_or_else(fault)?,
            false,
        ),
        _ => return Err(fault()),
    };
    if first < unit.low || last > unit.high || first > last {
        return Err(fault());
    }
    let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
    let bits = (first..=last)
        .step_by(step)
        .fold(0, |bits, value| bits | 1 << value);
    Ok(if star { bits | STAR } else { bits })
}

impl Unit {
    fn value(&self, text: &str) -> Option<u32> {
        let low = self.low;
        match self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
        {
            Some(position) => u32::try_from(position).ok().map(|position| position + low),
            None => number(text).and_then(|number| u32::try_from(number).ok()),
        }
    }
}

/// A whole number as `strconv.Atoi` reads it, not negative: a plus sign and leading zeros may stand.
fn number(text: &str) -> Option<u64> {
    if !text
        .strip_prefix('+')
        .unwrap_or(text)
        .bytes()
        .all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    text.parse::<i64>()
        .ok()
        .and_then(|number| u64::try_from(number).ok())
}
