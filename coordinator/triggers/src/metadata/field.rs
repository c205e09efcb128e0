//! The declaration of one field, and how its value is found and read.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::go_text::{self, parse_bool, parse_duration, parse_query};
use super::settings::Value;
use crate::config::TriggerConfig;
use crate::error::FieldError;

/// Most elements that a list field may hold once its ranges are written out.
const MAX_LIST: usize = 10_000;

/// Where a field's value may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `metadata` of the trigger.
    Metadata,
    /// Parameters of the `TriggerAuthentication`.
    Auth,
    /// The variable of the target's environment that metadata names under `<field>FromEnv`.
    Env,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Text, taken as it is.
    Text,
    /// A whole number within bounds, written as in JSON.
    Integer(i64, i64),
    /// A number, written as in JSON.
    Float,
    /// A truth value as Go's `strconv.ParseBool` reads it.
    Bool,
    /// A Go duration (`1m30s`), or a whole number of milliseconds; not negative.
    Duration,
    /// Texts between separators.
    List,
    /// Whole numbers between separators; `a-b` stands for all from a to b where a range sign is set.
    Integers,
    /// `key=value` between separators.
    Map,
    /// A URL query, each key with its values.
    Query,
}

/// The declaration of one field. Built in constant tables:
///
/// ```
/// use neap_triggers::metadata::{Field, Origin};
/// const FIELDS: &[Field] = &[
///     Field::float("threshold").required(),
///     Field::boolean("ignoreNullValues").or_default("true"),
///     Field::text("password").from(&[Origin::Auth, Origin::Env]).secret(),
/// ];
/// # assert_eq!(FIELDS.len(), 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    aliases: &'static [&'static str],
    origins: &'static [Origin],
    kind: Kind,
    required: bool,
    default: Option<&'static str>,
    allowed: &'static [&'static str],
    exclusive: &'static [&'static str],
    separator: char,
    range: Option<char>,
    removed: Option<&'static str>,
    secret: bool,
}

impl Field {
    /// A field that holds `kind`, optional, looked for in metadata.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            aliases: &[],
            origins: &[Origin::Metadata],
            kind,
            required: false,
            default: None,
            allowed: &[],
            exclusive: &[],
            separator: ',',
            range: None,
            removed: None,
            secret: false,
        }
    }

    /// A text.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    /// A whole number of 64 bits.
    #[must_use]
    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, Kind::Integer(i64::MIN, i64::MAX))
    }

    /// A number.
    #[must_use]
    pub const fn float(name: &'static str) -> Self {
        Self::new(name, Kind::Float)
    }

    /// A truth value.
    #[must_use]
    pub const fn boolean(name: &'static str) -> Self {
        Self::new(name, Kind::Bool)
    }

    /// A duration.
    #[must_use]
    pub const fn duration(name: &'static str) -> Self {
        Self::new(name, Kind::Duration)
    }

    /// A list of texts.
    #[must_use]
    pub const fn list(name: &'static str) -> Self {
        Self::new(name, Kind::List)
    }

    /// Other names under which the field is looked for, after its own, in each source.
    #[must_use]
    pub const fn or_named(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Where the field is looked for, in order.
    #[must_use]
    pub const fn from(mut self, origins: &'static [Origin]) -> Self {
        self.origins = origins;
        self
    }

    /// Makes absence a fault.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// What the field holds where it is absent.
    #[must_use]
    pub const fn or_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The values allowed. They are checked on each part between separators, for single-valued
    /// fields too, as KEDA does.
    #[must_use]
    pub const fn one_of(mut self, allowed: &'static [&'static str]) -> Self {
        self.allowed = allowed;
        self
    }

    /// Values of which only one may be given.
    #[must_use]
    pub const fn at_most_one_of(mut self, exclusive: &'static [&'static str]) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// What stands between elements; a comma unless set.
    #[must_use]
    pub const fn separated_by(mut self, separator: char) -> Self {
        self.separator = separator;
        self
    }

    /// The sign of a range in a list of whole numbers.
    #[must_use]
    pub const fn with_range(mut self, range: char) -> Self {
        self.range = Some(range);
        self
    }

    /// Marks a field that KEDA removed; `instead` says what to set.
    #[must_use]
    pub const fn removed(mut self, instead: &'static str) -> Self {
        self.removed = Some(instead);
        self
    }

    /// Marks a field whose value may never be shown. Values that do not come from metadata never
    /// are.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The field's own name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the field's value may never be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// What the field holds where it is absent and has no default.
    pub(super) fn empty(&self) -> Value {
        match self.kind {
            Kind::Text => Value::Text(String::new()),
            Kind::Integer(..) => Value::Integer(0),
            Kind::Float => Value::Float(0.0),
            Kind::Bool => Value::Bool(false),
            Kind::Duration => Value::Duration(std::time::Duration::ZERO),
            Kind::List => Value::List(Vec::new()),
            Kind::Integers => Value::Integers(Vec::new()),
            Kind::Map => Value::Map(BTreeMap::new()),
            Kind::Query => Value::Query(BTreeMap::new()),
        }
    }

    /// The value and whether it is secret; `None` where it is absent and may be.
    pub(super) fn read(&self, config: &TriggerConfig) -> Result<Option<(Value, bool)>, FieldError> {
        let found = self.find(config);
        if let (Some(instead), Some((value, origin))) = (self.removed, found) {
            return Err(FieldError::invalid(
                self.name,
                self.shown(value, origin),
                instead,
            ));
        }
        let (text, origin) = match (found, self.default) {
            (Some(found), _) => found,
            (None, Some(default)) => (default, Origin::Metadata),
            (None, None) if self.required => {
                return Err(FieldError::missing(
                    self.all_names(),
                    format!("{}, {}", self.clause(), self.whence()),
                ));
            }
            (None, None) => return Ok(None),
        };
        match self.parse(text) {
            Ok(value) => Ok(Some((value, self.secret || origin != Origin::Metadata))),
            Err(allowed) => Err(FieldError::invalid(
                self.all_names(),
                self.shown(text, origin),
                allowed,
            )),
        }
    }

    fn find<'a>(&self, config: &'a TriggerConfig) -> Option<(&'a str, Origin)> {
        for &origin in self.origins {
            for name in std::iter::once(&self.name).chain(self.aliases) {
                let value = match origin {
                    Origin::Metadata => config.metadata.get(*name).map(String::as_str),
                    Origin::Auth => config.auth_params.get(name),
                    Origin::Env => config
                        .metadata
                        .get(&format!("{name}FromEnv"))
                        .and_then(|variable| config.resolved_env.get(variable)),
                };
                if let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) {
                    return Some((value, origin));
                }
            }
        }
        None
    }

    fn parse(&self, text: &str) -> Result<Value, String> {
        self.check_allowed(text)?;
        let fault = || self.clause();
        Ok(match self.kind {
            Kind::Text => Value::Text(text.to_owned()),
            Kind::Integer(low, high) => {
                Value::Integer(go_text::parse_integer(text, low, high).ok_or_else(fault)?)
            }
            Kind::Float => Value::Float(go_text::parse_float(text).ok_or_else(fault)?),
            Kind::Bool => Value::Bool(parse_bool(text).ok_or_else(fault)?),
            Kind::Duration => Value::Duration(parse_duration(text).ok_or_else(fault)?),
            Kind::List => Value::List(self.parts(text).map(str::to_owned).collect()),
            Kind::Integers => Value::Integers(self.integers(text)?),
            Kind::Map => Value::Map(self.map(text)?),
            Kind::Query => Value::Query(parse_query(text).ok_or_else(fault)?),
        })
    }

    fn parts<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        text.split(self.separator).map(str::trim)
    }

    fn check_allowed(&self, text: &str) -> Result<(), String> {
        if !self.allowed.is_empty() && self.parts(text).any(|part| !self.allowed.contains(&part)) {
            return Err(self.clause());
        }
        let exclusive = self
            .parts(text)
            .filter(|part| self.exclusive.contains(part))
            .count();
        if exclusive > 1 {
            return Err(format!(
                "it may hold only one of {}",
                self.exclusive.join(", ")
            ));
        }
        Ok(())
    }

    fn integers(&self, text: &str) -> Result<Vec<i64>, String> {
        let mut numbers = Vec::new();
        for part in self.parts(text) {
            let (first, last) = match self.range.and_then(|sign| {
                part.contains(sign)
                    .then(|| part.split(sign).collect::<Vec<_>>())
            }) {
                Some(ends) => match ends[..] {
                    [first, last] => (first, last),
                    _ => return Err(self.clause()),
                },
                None => (part, part),
            };
            let parse = |text| {
                go_text::parse_integer(text, i64::from(i32::MIN), i64::from(i32::MAX))
                    .ok_or_else(|| self.clause())
            };
            let (first, last) = (parse(first)?, parse(last)?);
            let room = MAX_LIST - numbers.len();
            if last >= first && usize::try_from(last - first).is_ok_and(|more| more >= room) {
                return Err(format!("it may hold at most {MAX_LIST} numbers"));
            }
            numbers.extend(first..=last);
        }
        Ok(numbers)
    }

    fn map(&self, text: &str) -> Result<BTreeMap<String, String>, String> {
        let mut map = BTreeMap::new();
        for part in self.parts(text) {
            match part.split('=').collect::<Vec<_>>()[..] {
                [key, value] => map.insert(key.trim().to_owned(), value.trim().to_owned()),
                _ => return Err(self.clause()),
            };
        }
        Ok(map)
    }

    /// What the field may hold, as a clause.
    fn clause(&self) -> String {
        if !self.allowed.is_empty() {
            return format!("it must be one of {}", self.allowed.join(", "));
        }
        let sep = self.separator;
        match self.kind {
            Kind::Text => "it must be a text that is not blank".to_owned(),
            Kind::Integer(i64::MIN, i64::MAX) => "it must be a whole number such as 5".to_owned(),
            Kind::Integer(low, high) => format!("it must be a whole number from {low} to {high}"),
            Kind::Float => "it must be a number such as 5 or 0.5".to_owned(),
            Kind::Bool => "it must be true or false".to_owned(),
            Kind::Duration => "it must be a duration such as 500ms, 30s or 1m30s, or a whole number of milliseconds, and not negative".to_owned(),
            Kind::List => format!("it must be a list of texts separated by {sep:?}"),
            Kind::Integers => match self.range {
                Some(range) => format!("it must be a list of whole numbers and ranges (1{range}4) separated by {sep:?}"),
                None => format!("it must be a list of whole numbers separated by {sep:?}"),
            },
            Kind::Map => format!("it must be a list of key=value separated by {sep:?}"),
            Kind::Query => "it must be a URL query such as a=1&b=2".to_owned(),
        }
    }

    /// Where the field may be given, as a clause.
    fn whence(&self) -> String {
        let places: BTreeSet<_> = self
            .origins
            .iter()
            .map(|origin| match origin {
                Origin::Metadata => "in metadata".to_owned(),
                Origin::Auth => "in the TriggerAuthentication".to_owned(),
                Origin::Env => format!("in the environment by {}FromEnv", self.name),
            })
            .collect();
        format!(
            "given {}",
            places.into_iter().collect::<Vec<_>>().join(" or ")
        )
    }

    fn all_names(&self) -> String {
        let mut names = self.name.to_owned();
        for alias in self.aliases {
            names.push_str(" (or ");
            names.push_str(alias);
            names.push(')');
        }
        names
    }

    fn shown(&self, value: &str, origin: Origin) -> String {
        if self.secret || origin != Origin::Metadata {
            "<redacted>".to_owned()
        } else {
            value.to_owned()
        }
    }
}

#[cfg(test)]
#[path = "field_test.rs"]
mod tests;
