//! Trigger metadata: the rules by which KEDA reads it.
//!
//! Each trigger declares its fields in a table of [`Field`]s; [`read`] fills a [`Settings`] from
//! the sources that each field names, in their order, and lists every fault. The first source that
//! holds something other than blanks wins; a blank value counts as absent. Unknown keys are
//! ignored.

mod field;
mod go_text;
mod settings;

use crate::config::TriggerConfig;
use crate::error::FieldError;

pub use field::{Field, Kind, Origin};
pub(crate) use go_text::parse_float;
pub use go_text::{parse_bool, parse_duration, parse_query};
pub(crate) use go_text::{parse_go_duration, query_escape, unescape};
pub use settings::{Settings, Value};

/// Reads the fields of `tables` from `config`. Where a field has a fault it is listed and keeps its empty value,
/// so that the trigger's own checks can go on and add theirs.
#[must_use]
pub fn read(tables: &[&[Field]], config: &TriggerConfig) -> (Settings, Vec<FieldError>) {
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    for field in tables.iter().copied().flatten() {
        match field.read(config) {
            Ok(Some((value, secret))) => settings.set(field.name(), value, secret),
            Ok(None) => settings.set(field.name(), field.empty(), field.is_secret()),
            Err(error) => {
                settings.set(field.name(), field.empty(), field.is_secret());
                errors.push(error);
            }
        }
    }
    (settings, errors)
}
