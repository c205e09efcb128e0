//! `scalingModifiers.formula`: expressions over trigger values.
//!
//! A subset of expr-lang (`github.com/expr-lang/expr`), the language KEDA uses, with its precedence
//! and its number rules: `/` and `**` give floats, `%` takes integers, `??` binds tightest.
//! Supported: numbers, `true`, `false`, `nil`, arrays, `+ - * / % ** ^`, comparisons, `&& || !` and
//! their words, `in`, `??`, `? :`, `if {} else {}`, `let`, `|`, indexing, and the functions of
//! [`SUPPORTED_FUNCTIONS`] with `#` and `{...}` predicates. Everything else is refused by name.
//!
//! Bounded: length, depth and steps have limits, so that no formula can stall a decision.

mod eval;
mod functions;
mod lexer;
mod node;
mod parser;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use functions::SUPPORTED_FUNCTIONS;
use node::Node;
use value::Value;

/// Longer formulas are refused.
pub const MAX_FORMULA_BYTES: usize = 4096;

/// A parsed formula. Equal and serialised by its text.
#[derive(Clone)]
pub struct Formula {
    source: String,
    root: Node,
    variables: BTreeSet<String>,
}

/// Why a formula is refused or gives no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormulaError {
    /// Nothing but blanks.
    #[error("formula: must not be empty")]
    Empty,
    /// Longer than [`MAX_FORMULA_BYTES`].
    #[error("formula: {len} bytes, at most {MAX_FORMULA_BYTES} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not an expression.
    #[error("formula: at byte {at}: {message}")]
    Syntax {
        /// Where.
        at: usize,
        /// What is wrong.
        message: String,
    },
    /// An expression of expr-lang that is not supported here.
    #[error("formula: at byte {at}: {what} is not supported")]
    Unsupported {
        /// Where.
        at: usize,
        /// What, by name.
        what: String,
    },
    /// A name that is no trigger's.
    #[error("formula: {name:?} is not the name of a trigger; known names are {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// An operation on values it does not take.
    #[error("formula: {0}")]
    Type(String),
    /// A number that is not finite.
    #[error("formula: the result is not a finite number")]
    NotFinite,
    /// Too many steps.
    #[error("formula: more than {max} steps")]
    TooManySteps {
        /// The steps allowed.
        max: u32,
    },
}

impl Formula {
    /// Parses `source`.
    ///
    /// # Errors
    /// [`FormulaError`] if it is empty, too long, not an expression, or uses what is not supported.
    pub fn parse(source: &str) -> Result<Self, FormulaError> {
        if source.trim().is_empty() {
            return Err(FormulaError::Empty);
        }
        if source.len() > MAX_FORMULA_BYTES {
            return Err(FormulaError::TooLong { len: source.len() });
        }
        let parsed = parser::parse(source)?;
        Ok(Self {
            source: source.to_owned(),
            root: parsed.root,
            variables: parsed.variables,
        })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The trigger names it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }

    /// Checks it against the names of the triggers, as KEDA's webhook does: every name exists, and
    /// with each of them -1 it gives a number.
    ///
    /// # Errors
    /// [`FormulaError`] naming what is wrong.
    pub fn check(&self, names: &[&str]) -> Result<(), FormulaError> {
        if let Some(name) = self.variables().find(|name| !names.contains(name)) {
            let known = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            return Err(FormulaError::UnknownName {
                name: name.to_owned(),
                known,
            });
        }
        match self.evaluate(|_| Some(-1.0)) {
            // A number can be out of range for -1 and fine for real values.
            Ok(_) | Err(FormulaError::NotFinite) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Its value, with each trigger's value as `value_of` gives it; `None` stands for nil.
    ///
    /// An integer counts as a number; KEDA refuses one under `??`.
    ///
    /// # Errors
    /// [`FormulaError`] if an operation does not take its values or the result is no finite number.
    pub fn evaluate<F>(&self, value_of: F) -> Result<Option<f64>, FormulaError>
    where
        F: Fn(&str) -> Option<f64>,
    {
        match eval::run(&self.root, &value_of)? {
            Value::Nil => Ok(None),
            Value::Integer(integer) => Ok(Some(integer as f64)),
            Value::Float(float) if float.is_finite() => Ok(Some(float)),
            Value::Float(_) => Err(FormulaError::NotFinite),
            other => Err(FormulaError::Type(format!(
                "the result is {}, not a number",
                other.kind()
            ))),
        }
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Formula").field(&self.source).finish()
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Formula {}

impl Serialize for Formula {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(source: &str) -> Option<f64> {
        let formula = Formula::parse(source).unwrap();
        let value_of = |name: &str| match name {
            "a" => Some(1.0),
            "b" => Some(4.0),
            "c" => Some(10.0),
            _ => None,
        };
        formula
            .evaluate(value_of)
            .unwrap_or_else(|error| panic!("{source}: {error}"))
    }

    #[test]
    fn follows_expr_langs_precedence_and_numbers() {
        let cases = [
            ("(a + b)/2", 2.5),
            ("5/2", 2.5),
            ("2 ** 3 ** 2", 512.0),
            ("-2 ** 2", -4.0),
            ("7 % 4 + 1", 4.0),
            ("a + b * c", 41.0),
            ("b > 2 ? a + b : 1", 5.0),
            ("a > 2 ? 1 : b > 3 ? 2 : 3", 2.0),
            ("missing ?? 0 + b", 4.0),
            ("missing ?? other ?? 7", 7.0),
            ("count([a, b, c], {# > 1}) > 1 ? 5 : 0", 5.0),
            ("count([a, b, c], # > 1)", 2.0),
            ("sum([a, b, c])", 15.0),
            ("sum([a, b], {# * 2})", 10.0),
            ("max(a, b, c) - min([a, b])", 9.0),
            ("mean([a, b, c])", 5.0),
            ("median(a, b, c)", 4.0),
            ("float(int(2.9))", 2.0),
            ("round(2.5) + ceil(0.1) + floor(0.9) + abs(-1)", 5.0),
            ("any([a, b], # > 3) and not all([a, b], # > 3) ? 1 : 0", 1.0),
            ("[a, b, c] | filter(# > 1) | map(# * 10) | sum()", 140.0),
            ("[a, b, c][1]", 4.0),
            ("[a, b, c][-1]", 10.0),
            ("len(filter([a, b, c], {# >= 4}))", 2.0),
            ("let x = a * 2; let y = x + 1; y * b", 12.0),
            ("if a > 0 { b } else if a < 0 { 2 } else { 3 }", 4.0),
            ("a in [1, 2] && b not in [1] ? 8 : 9", 8.0),
            ("first([b, a]) + last([b, c])", 14.0),
            ("1e3 + 0x10 + 1_000", 2016.0),
            ("a == 1 or b != 4 ? 3 : 2", 3.0),
            ("find([a, b, c], # > 1)", 4.0),
            ("one([a, b], # > 3) && none([a, b], # > 30) ? 1 : 2", 1.0),
        ];
        for (source, wanted) in cases {
            assert_eq!(value(source), Some(wanted), "{source}");
        }
    }

    #[test]
    fn nil_stays_nil() {
        assert_eq!(value("missing"), None);
        assert_eq!(value("missing ?? nil"), None);
        assert_eq!(value("missing == nil ? 1 : 2"), Some(1.0));
    }

    #[test]
    fn refuses_by_name_what_is_not_supported() {
        let cases = [
            ("1..3", "the operator '..'"),
            ("'x'", "a string"),
            ("a matches b", "the operator 'matches'"),
            ("{x: 1}", "a map"),
            ("a.b", "member access"),
            ("now()", "the function 'now'"),
            ("trim(a)", "the function 'trim'"),
            ("reduce([a], # + 1)", "the function 'reduce'"),
            ("sum([a], #acc)", "'#acc'"),
            ("$env", "'$env'"),
        ];
        for (source, what) in cases {
            let error = Formula::parse(source).unwrap_err();
            assert!(
                matches!(&error, FormulaError::Unsupported { what: found, .. } if found == what),
                "{source}: {error}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_expression() {
        for source in [
            "",
            "  ",
            "1 +",
            "(1",
            "[1, ",
            "a b",
            "1 ? 2",
            "if a { 1 }",
            "#",
            "let = 1; 2",
            "a ?? ",
        ] {
            assert!(Formula::parse(source).is_err(), "{source}");
        }
        let deep = "(".repeat(1000) + "1" + &")".repeat(1000);
        assert!(Formula::parse(&deep).is_err());
        assert!(matches!(
            Formula::parse(&"1+".repeat(3000)).unwrap_err(),
            FormulaError::TooLong { len: 6000 }
        ));
    }

    #[test]
    fn refuses_values_an_operation_does_not_take() {
        for source in [
            "missing + 1",
            "a && b",
            "1 < true",
            "1.5 % 2",
            "1 % 0",
            "-true",
            "sum(1)",
            "[1][5]",
            "a ? 1 : 2",
            "[a, b]",
            "true",
            "9223372036854775807 + 1",
        ] {
            let formula = Formula::parse(source).unwrap();
            let error = formula
                .evaluate(|name| (name != "missing").then_some(1.0))
                .unwrap_err();
            assert!(matches!(error, FormulaError::Type(_)), "{source}: {error}");
        }
        let formula = Formula::parse("a / 0").unwrap();
        assert_eq!(
            formula.evaluate(|_| Some(1.0)),
            Err(FormulaError::NotFinite)
        );
    }

    #[test]
    fn nested_predicates_run_out_of_steps() {
        let list = format!("[{}]", vec!["1"; 60].join(","));
        let source = format!("count({list}, count({list}, count({list}, # > 0) > 0) > 0)");
        let formula = Formula::parse(&source).unwrap();
        assert!(matches!(
            formula.evaluate(|_| None).unwrap_err(),
            FormulaError::TooManySteps { .. }
        ));
    }

    #[test]
    fn check_names_the_unknown_trigger() {
        let formula = Formula::parse("a + z").unwrap();
        assert_eq!(
            formula.check(&["a", "b"]).unwrap_err().to_string(),
            "formula: \"z\" is not the name of a trigger; known names are a, b"
        );
        assert!(Formula::parse("a + true").unwrap().check(&["a"]).is_err());
        assert!(Formula::parse("1 / (a + 1)").unwrap().check(&["a"]).is_ok());
    }
}
