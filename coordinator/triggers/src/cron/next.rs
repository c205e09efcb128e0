//! The next instant of a calendar schedule.
//!
//! The search walks month, day, hour and minute the way `robfig/cron` walks them, in absolute
//! hours and minutes within a day and in calendar days and months above, so that the result is the
//! same in the hours around a clock change too.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::{Calendar, STAR};

/// How far the search goes.
const YEARS: i16 = 5;
const DAY: i64 = 24 * HOUR;
const HOUR: i64 = 3600;
const MINUTE: i64 = 60;

/// Whole seconds since 1970, rounded towards the past.
pub(super) fn floor_second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

pub(super) fn after(calendar: &Calendar, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if calendar.minute == 0 || calendar.hour == 0 || calendar.month == 0 {
        return None;
    }
    let mut walk = Walk {
        zone,
        at: floor_second(after) + 1,
        reset: false,
    };
    let limit = walk.local()?.year().checked_add(YEARS)?;
    while walk.local()?.year() <= limit {
        if walk.seek_month(calendar)?
            && walk.seek_day(calendar)?
            && walk.seek_hour(calendar)?
            && walk.seek_minute(calendar)?
            && walk.seek_second()?
        {
            return Timestamp::from_second(walk.at).ok();
        }
    }
    None
}

struct Walk<'a> {
    zone: &'a TimeZone,
    /// Seconds since 1970.
    at: i64,
    /// Whether the smaller units stand at their beginning.
    reset: bool,
}

/// Each step moves forward to the first matching value of its unit. It gives false where the next
/// larger unit rolled over, after which the search starts again from the month.
impl Walk<'_> {
    fn local(&self) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_second(self.at).ok()?))
    }

    fn seek_month(&mut self, calendar: &Calendar) -> Option<bool> {
        loop {
            let mut now = self.local()?;
            if has(calendar.month, now.month()) {
                return Some(true);
            }
            if self.begin() {
                self.at = self.instant(now.date().first_of_month(), 0, MIDNIGHT)?;
                now = self.local()?;
            }
            let (year, month) = if now.month() == 12 {
                (now.year().checked_add(1)?, 1)
            } else {
                (now.year(), now.month() + 1)
            };
            self.at = self.instant(
                Date::new(year, month, 1).ok()?,
                i64::from(now.day()) - 1,
                now.time(),
            )?;
            if self.local()?.month() == 1 {
                return Some(false);
            }
        }
    }

    fn seek_day(&mut self, calendar: &Calendar) -> Option<bool> {
        loop {
            let mut now = self.local()?;
            if day_matches(calendar, now.date()) {
                return Some(true);
            }
            if self.begin() {
                self.at = self.instant(now.date(), 0, MIDNIGHT)?;
                now = self.local()?;
            }
            let before = self.at;
            self.at = self.instant(now.date(), 1, now.time())?;
            // A day that does not begin at midnight: back to its first hour, or on to it.
            let hour = i64::from(self.local()?.hour());
            if hour > 12 {
                self.at += (24 - hour) * HOUR;
            } else {
                self.at -= hour * HOUR;
            }
            // Where a zone left out a whole day (Samoa, 30 December 2011) robfig/cron turns in
            // circles for ever.
            if self.at <= before {
                self.at = before + DAY;
            }
            if self.local()?.day() == 1 {
                return Some(false);
            }
        }
    }

    fn seek_hour(&mut self, calendar: &Calendar) -> Option<bool> {
        loop {
            let now = self.local()?;
            if has(calendar.hour, now.hour()) {
                return Some(true);
            }
            if self.begin() {
                self.at = self.instant(now.date(), 0, Time::new(now.hour(), 0, 0, 0).ok()?)?;
            }
            self.at += HOUR;
            if self.local()?.hour() == 0 {
                return Some(false);
            }
        }
    }

    fn seek_minute(&mut self, calendar: &Calendar) -> Option<bool> {
        loop {
            if has(calendar.minute, self.local()?.minute()) {
                return Some(true);
            }
            if self.begin() {
                self.at -= self.at.rem_euclid(MINUTE);
            }
            self.at += MINUTE;
            if self.local()?.minute() == 0 {
                return Some(false);
            }
        }
    }

    fn seek_second(&mut self) -> Option<bool> {
        loop {
            if self.local()?.second() == 0 {
                return Some(true);
            }
            self.begin();
            self.at += 1;
            if self.local()?.second() == 0 {
                return Some(false);
            }
        }
    }

    /// True the first time only.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.reset, true)
    }

    /// The instant of a local date, `days` later, and time, as Go's `time.Date` chooses it where a
    /// clock change makes it ambiguous or skips it.
    fn instant(&self, day: Date, days: i64, time: Time) -> Option<i64> {
        let day = day
            .checked_add(jiff::Span::new().try_days(days).ok()?)
            .ok()?;
        let as_utc = TimeZone::UTC
            .to_timestamp(DateTime::from_parts(day, time))
            .ok()?
            .as_second();
        let offset = |at: i64| {
            Some(i64::from(
                self.zone
                    .to_offset(Timestamp::from_second(at).ok()?)
                    .seconds(),
            ))
        };
        Some(as_utc - offset(as_utc - offset(as_utc)?)?)
    }
}

const MIDNIGHT: Time = Time::midnight();

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & 1_u64.wrapping_shl(value) != 0)
}

/// Where both days are restricted, either suffices; a star makes both needed.
fn day_matches(calendar: &Calendar, day: Date) -> bool {
    let in_month = has(calendar.day_of_month, day.day());
    let in_week = has(calendar.day_of_week, day.weekday().to_sunday_zero_offset());
    if (calendar.day_of_month | calendar.day_of_week) & STAR != 0 {
        in_month && in_week
    } else {
        in_month || in_week
    }
}
