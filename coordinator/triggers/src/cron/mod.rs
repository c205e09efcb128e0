//! Cron schedules as `robfig/cron/v3` understands them, which is what KEDA uses.
//!
//! Five fields (minute, hour, day of month, month, day of week), lists, ranges, steps, names of
//! months and days, `?` as a star, an optional `TZ=` or `CRON_TZ=` prefix, and, where asked for,
//! descriptors such as `@daily` and `@every 90m`. There is no `L`, `W` or `#`, Sunday is 0 only, and where both days
//! are restricted either one suffices. Times that a clock change skips are skipped; times that it
//! repeats come twice.

mod next;
mod parse;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

pub use parse::time_zone;

/// When something is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    /// Set by a `TZ=` prefix; it wins over the zone that the caller names.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq)]
enum ScheduleKind {
    Calendar(Calendar),
    /// Each so many whole seconds, at least 1.
    Every(i64),
}

/// The minutes, hours, days and months that match, as bits; bit 63 marks a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calendar {
    minute: u64,
    hour: u64,
    day_of_month: u64,
    month: u64,
    day_of_week: u64,
}

const STAR: u64 = 1 << 63;

/// Why a text is not a schedule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CronError {
    /// Nothing was given.
    #[error("it must be five fields: minute hour day-of-month month day-of-week")]
    Empty,
    /// Not five fields.
    #[error(
        "it must be exactly five fields (minute hour day-of-month month day-of-week), and there are {0}"
    )]
    FieldCount(usize),
    /// A part of a field is not a number, a name, or a range of them.
    #[error(
        "{field}: {part:?} must be a number from {low} to {high}, a range a-b, a list, * or ?, each with an optional /step above 0"
    )]
    Part {
        /// Name of the field.
        field: &'static str,
        /// What was given.
        part: String,
        /// Smallest value of the field.
        low: u32,
        /// Largest value of the field.
        high: u32,
    },
    /// The zone of a `TZ=` prefix is not known.
    #[error("{0:?} must be the name of an IANA time zone such as Europe/Berlin")]
    Zone(String),
    /// A descriptor that is not known, or where none may stand.
    #[error("{0:?} must be five fields{1}")]
    Descriptor(String, &'static str),
}

impl Schedule {
    /// Five fields, without descriptors: what a `cron` trigger takes.
    ///
    /// # Errors
    /// Where the text is not such a schedule.
    pub fn parse_fields(text: &str) -> Result<Self, CronError> {
        parse::schedule(text, false)
    }

    /// Five fields or a descriptor (`@yearly @annually @monthly @weekly @daily @midnight @hourly`,
    /// `@every <duration>`).
    ///
    /// # Errors
    /// Where the text is not such a schedule.
    pub fn parse_standard(text: &str) -> Result<Self, CronError> {
        parse::schedule(text, true)
    }

    /// The first instant after `after` at which the schedule is due in `zone`; `None` where there
    /// is none within five years, or within the range of the calendar.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        match &self.kind {
            ScheduleKind::Calendar(calendar) => next::after(calendar, after, zone),
            ScheduleKind::Every(seconds) => {
                Timestamp::from_second(next::floor_second(after).checked_add(*seconds)?).ok()
            }
        }
    }
}

#[cfg(test)]
#[path = "cron_test.rs"]
mod tests;
