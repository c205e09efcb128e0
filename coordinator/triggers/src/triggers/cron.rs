//! `cron`: so many replicas between two times of a calendar.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use neap_units::MilliValue;

use super::polled::{external_kind, external_metric};
use crate::built::{Activation, BuiltTrigger, Source};
use crate::config::TriggerConfig;
use crate::cron::{Schedule, time_zone};
use crate::error::FieldError;
use crate::metadata::{self, Field};
use crate::registry::Checked;

const FIELDS: &[Field] = &[
    Field::text("start").required(),
    Field::text("end").required(),
    Field::text("timezone").required(),
    Field::integer("desiredReplicas").required(),
];

/// A `cron` trigger: what it asks for at any instant, and when that changes next. Pure.
#[derive(Clone, Debug, PartialEq)]
pub struct CronTrigger {
    start: Schedule,
    end: Schedule,
    zone: TimeZone,
    desired: MilliValue,
}

/// What a [`CronTrigger`] says at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedReading {
    /// The value of its metric: the replicas wanted inside the interval, 0 outside; thousandths.
    pub value: MilliValue,
    /// Whether the instant is inside the interval.
    pub active: bool,
    /// The next instant at which the reading may change; `None` where it never does.
    pub next_edge: Option<Timestamp>,
}

impl CronTrigger {
    /// The reading at `wall`. As in KEDA, an instant is inside the interval where the next end
    /// comes no later than the next start; a schedule that is never due again counts as due in the
    /// distant past, so that one that never starts is always inside and one that never ends never.
    #[must_use]
    pub fn read(&self, wall: Timestamp) -> TimedReading {
        let start = self.start.next(wall, &self.zone);
        let end = self.end.next(wall, &self.zone);
        let active = match (start, end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(start), Some(end)) => end <= start,
        };
        let value = if active {
            self.desired
        } else {
            MilliValue::ZERO
        };
        TimedReading {
            value,
            active,
            next_edge: start.into_iter().chain(end).min(),
        }
    }
}

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (settings, mut errors) = metadata::read(&[FIELDS], config);
    let kind = external_kind(config, &mut errors);
    let [start, end, zone] = ["start", "end", "timezone"].map(|name| settings.text(name));
    let start_schedule = schedule("start", start, &mut errors);
    let end_schedule = schedule("end", end, &mut errors);
    if start == end && !start.is_empty() {
        errors.push(FieldError::invalid("end", end, "it must differ from start"));
    }
    let time_zone = time_zone(zone);
    if time_zone.is_none() {
        errors.push(FieldError::invalid(
            "timezone",
            zone,
            "it must be the name of an IANA time zone such as Europe/Berlin",
        ));
    }
    let desired = settings.integer("desiredReplicas");
    if desired == 0 && !errors.iter().any(|error| error.field == "desiredReplicas") {
        errors.push(FieldError::invalid(
            "desiredReplicas",
            "0",
            "it must be a whole number other than 0",
        ));
    }
    let (Some(start_schedule), Some(end_schedule), Some(time_zone), true) =
        (start_schedule, end_schedule, time_zone, errors.is_empty())
    else {
        return Err(errors);
    };
    let name = format!("cron-{zone}-{}-{}", name_part(start), name_part(end));
    let trigger = CronTrigger {
        start: start_schedule,
        end: end_schedule,
        zone: time_zone,
        desired: MilliValue::from_units(desired.max(0)),
    };
    let metrics = external_metric(config, kind, &name, MilliValue::from_units(1));
    Ok(BuiltTrigger::new(
        "cron",
        config,
        metrics,
        Activation::Reported,
        Source::Timed(Arc::new(trigger)),
        settings,
    ))
}

/// A missing schedule has been named already.
fn schedule(field: &str, text: &str, errors: &mut Vec<FieldError>) -> Option<Schedule> {
    if text.is_empty() {
        return None;
    }
    Schedule::parse_fields(text)
        .map_err(|error| errors.push(FieldError::invalid(field, text, error.to_string())))
        .ok()
}

/// A schedule as it stands in the metric's name.
fn name_part(schedule: &str) -> String {
    schedule
        .replace(' ', "")
        .replace('*', "x")
        .replace('/', "Sl")
        .replace('?', "Qm")
        .replace(',', "Cm")
}

#[cfg(test)]
#[path = "cron_test.rs"]
mod tests;
