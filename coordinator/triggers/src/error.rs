//! Why a trigger cannot be built or polled.

use std::fmt;

use thiserror::Error;

/// Why [`crate::build`] refused a trigger.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The type is not one that Neap has.
    #[error(transparent)]
    Unknown(#[from] UnknownTrigger),
    /// Fields are missing or hold what is not allowed. All of them are listed.
    #[error("trigger {trigger_type:?} at index {index}: {}", join(errors))]
    Fields {
        /// `spec.triggers[].type`.
        trigger_type: String,
        /// Position of the trigger in the object.
        index: u32,
        /// Every fault found, in the order of the trigger's fields.
        errors: Vec<FieldError>,
    },
}

/// A trigger type that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTrigger {
    /// The type that was asked for.
    pub trigger_type: String,
    /// True where KEDA has the type and Neap does not have it yet.
    pub keda_has_it: bool,
}

impl std::error::Error for UnknownTrigger {}

impl fmt::Display for UnknownTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keda_has_it {
            write!(
                f,
                "trigger type {:?} is one of KEDA's that Neap does not have yet",
                self.trigger_type
            )?;
        } else {
            write!(f, "trigger type {:?} is not known", self.trigger_type)?;
        }
        write!(
            f,
            "; type must be one of {}",
            crate::registry::implemented_types().join(", ")
        )
    }
}

/// One fault in a trigger's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Name of the field as the user writes it (`threshold`, or `metricType`).
    pub field: String,
    /// What was given; `None` where nothing was, `<redacted>` where it may be secret.
    pub value: Option<String>,
    /// What is allowed, to be read after "must be"/"it": a whole clause.
    pub allowed: String,
}

impl FieldError {
    /// A field that holds what is not allowed.
    #[must_use]
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: Some(value.into()),
            allowed: allowed.into(),
        }
    }

    /// A field that is needed and was not given.
    #[must_use]
    pub fn missing(field: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            value: None,
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(
                f,
                "{}: {value:?} is not allowed: {}",
                self.field, self.allowed
            ),
            None => write!(f, "{} is missing: {}", self.field, self.allowed),
        }
    }
}

fn join(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why a poll gave no value. Texts carry no secrets and no URLs with credentials.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PollError {
    /// No answer within the time allowed.
    #[error("{source_name} gave no answer within {} ms", waited.as_millis())]
    Timeout {
        /// What was asked (`prometheus`, `mysql`).
        source_name: &'static str,
        /// The time allowed.
        waited: std::time::Duration,
    },
    /// The configuration was accepted, as KEDA accepts it, but cannot work.
    #[error("{0}")]
    Config(FieldError),
    /// The source could not be reached, or the connection broke.
    #[error("cannot reach {source_name}: {reason}")]
    Unreachable {
        /// What was asked.
        source_name: &'static str,
        /// What the transport said.
        reason: String,
    },
    /// The source refused the question or the credentials.
    #[error("{source_name} refused the request: {reason}")]
    Refused {
        /// What was asked.
        source_name: &'static str,
        /// Status or error text of the source.
        reason: String,
    },
    /// The source answered with something that is not one number.
    #[error("{source_name} gave an answer that cannot be used: {reason}")]
    Answer {
        /// What was asked.
        source_name: &'static str,
        /// What was wrong with the answer.
        reason: String,
    },
}
