use super::FormulaError;

/// A value of the language.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Array(Vec<Value>),
}

impl Value {
    /// What it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Array(_) => "an array",
        }
    }

    /// The number it is.
    pub(super) fn number(&self, what: &str) -> Result<f64, FormulaError> {
        match self {
            Self::Integer(integer) => Ok(*integer as f64),
            Self::Float(float) => Ok(*float),
            other => Err(takes(what, "a number", other)),
        }
    }

    /// The truth value it is.
    pub(super) fn truth(&self, what: &str) -> Result<bool, FormulaError> {
        match self {
            Self::Bool(truth) => Ok(*truth),
            other => Err(takes(what, "a bool", other)),
        }
    }

    /// The elements it has.
    pub(super) fn elements(self, what: &str) -> Result<Vec<Self>, FormulaError> {
        match self {
            Self::Array(elements) => Ok(elements),
            other => Err(takes(what, "an array", &other)),
        }
    }

    /// Of how many values it consists.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Array(elements) => elements.iter().map(Self::parts).sum::<usize>() + 1,
            _ => 1,
        }
    }

    /// Equality of the language: numbers by value, integer or float.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(integer), Self::Float(float))
            | (Self::Float(float), Self::Integer(integer)) => *integer as f64 == *float,
            (Self::Array(left), Self::Array(right)) => {
                left.len() == right.len()
                    && left
                        .iter()
                        .zip(right)
                        .all(|(left, right)| left.equals(right))
            }
            (left, right) => left == right,
        }
    }
}

/// The error for a value that `what` does not take.
pub(super) fn takes(what: &str, wanted: &str, found: &Value) -> FormulaError {
    FormulaError::Type(format!("{what} takes {wanted}, not {}", found.kind()))
}
