//! The values of a trigger's fields.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::json;

use crate::error::FieldError;

/// The value of one field. An absent field holds the empty value of its kind, as in Go.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// Whole number.
    Integer(i64),
    /// Number.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// Duration.
    Duration(Duration),
    /// List of texts.
    List(Vec<String>),
    /// List of whole numbers.
    Integers(Vec<i64>),
    /// Keys with one value each.
    Map(BTreeMap<String, String>),
    /// Keys with several values each.
    Query(BTreeMap<String, Vec<String>>),
}

/// The fields of a trigger after reading and checking.
///
/// The getters give the empty value for a name that is not a field of that kind: a trigger asks
/// only for what its own table declares, and tests of each trigger read all of it.
#[derive(Clone, Default, PartialEq)]
pub struct Settings(BTreeMap<&'static str, Entry>);

#[derive(Clone, PartialEq)]
struct Entry {
    value: Value,
    secret: bool,
}

impl Settings {
    /// Sets `name`; a `secret` value does not show in `Debug`.
    pub(crate) fn set(&mut self, name: &'static str, value: Value, secret: bool) {
        self.0.insert(name, Entry { value, secret });
    }

    /// Replaces the value of `name`, which stays as secret as it was.
    pub(crate) fn replace(&mut self, name: &'static str, value: Value) {
        let secret = self.0.get(name).is_some_and(|entry| entry.secret);
        self.set(name, value, secret);
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|entry| &entry.value)
    }

    /// Whether `name` may not be shown.
    #[must_use]
    pub fn is_secret(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|entry| entry.secret)
    }

    /// A fault with its value taken out, where the field may not be shown.
    pub(crate) fn redacted(&self, mut fault: FieldError) -> FieldError {
        if self.is_secret(&fault.field) {
            fault.value = fault.value.map(|_| "<redacted>".to_owned());
        }
        fault
    }

    /// Text, empty where absent.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Whole number, 0 where absent.
    #[must_use]
    pub fn integer(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// Number, 0 where absent.
    #[must_use]
    pub fn float(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Value::Float(number)) => *number,
            _ => 0.0,
        }
    }

    /// Truth value, false where absent.
    #[must_use]
    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    /// Duration, zero where absent.
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        match self.get(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// List, empty where absent.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match self.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Keys with their values, none where absent.
    pub fn map(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let map = match self.get(name) {
            Some(Value::Map(map)) => Some(map),
            _ => None,
        };
        map.into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The fields as JSON, **secrets included**: for comparing with recorded facts, never for showing.
    /// Empty texts, lists and maps are left out; a duration is `{"durationMs": n}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let filled = |entry: &&Entry| match &entry.value {
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Integers(list) => !list.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Query(query) => !query.is_empty(),
            _ => true,
        };
        self.0
            .iter()
            .filter(|(_, entry)| filled(entry))
            .map(|(name, entry)| {
                let value = match &entry.value {
                    Value::Text(text) => json!(text),
                    Value::Integer(number) => json!(number),
                    Value::Float(number) => json!(number),
                    Value::Bool(flag) => json!(flag),
                    Value::Duration(duration) => {
                        json!({ "durationMs": duration.as_millis() as u64 })
                    }
                    Value::List(list) => json!(list),
                    Value::Integers(list) => json!(list),
                    Value::Map(map) => json!(map),
                    Value::Query(query) => json!(query),
                };
                ((*name).to_owned(), value)
            })
            .collect()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, entry) in &self.0 {
            if entry.secret {
                map.entry(name, &format_args!("<redacted>"));
            } else {
                map.entry(name, &entry.value);
            }
        }
        map.finish()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Bool(flag) => flag.fmt(f),
            Self::Duration(duration) => duration.fmt(f),
            Self::List(list) => list.fmt(f),
            Self::Integers(list) => list.fmt(f),
            Self::Map(map) => map.fmt(f),
            Self::Query(query) => query.fmt(f),
        }
    }
}
