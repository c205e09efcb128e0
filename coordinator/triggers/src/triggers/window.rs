//! The field `window` of triggers that the agents serve.

use std::time::Duration;

use crate::error::FieldError;
use crate::metadata::{Field, Settings, Value};

/// The field.
pub(super) const WINDOW: Field = Field::duration("window");

/// An agent samples a scaled pod's queues ten times a second and keeps minutes of its samples.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(600);

/// The window, which is `default` where absent; `None` and an error where it is out of bounds.
pub(super) fn read(
    settings: &mut Settings,
    default: Duration,
    errors: &mut Vec<FieldError>,
) -> Option<Duration> {
    if errors.iter().any(|error| error.field == WINDOW.name()) {
        return None;
    }
    let window = match settings.duration(WINDOW.name()) {
        Duration::ZERO => default,
        window => window,
    };
    if !(SHORTEST..=LONGEST).contains(&window) {
        errors.push(FieldError::invalid(
            WINDOW.name(),
            format!("{window:?}"),
            "it must be a duration from 200ms to 10m",
        ));
        return None;
    }
    settings.replace(WINDOW.name(), Value::Duration(window));
    Some(window)
}
