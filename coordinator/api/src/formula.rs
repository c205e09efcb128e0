//! A `scalingModifiers` formula: an expression of expr-lang over the triggers' names.

mod identifiers;

use std::collections::BTreeMap;

use expr::Value;

/// The operator that gives a formula a say in what a failed trigger (nil) means.
const NIL_AWARE_OPERATOR: &str = "??";
/// Longest formula, in bytes. KEDA has no limit; the API server's is far above.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting of brackets and conditions; the parser recurses.
const MAX_DEPTH: usize = 32;

/// Why a formula cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormulaError {
    /// Longer than the limit.
    #[error("formula is {0} bytes long; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// Nested deeper than the limit.
    #[error("formula nests brackets more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Builds a list of any length.
    #[error("formula uses a range (..), which can grow without limit")]
    Range,
    /// Speaks of something that is no trigger's name.
    #[error("unknown name {0}")]
    UnknownName(String),
    /// Does not parse, or fails with these values.
    #[error("{0}")]
    Expression(String),
    /// Gives something else than a number.
    #[error("formula gives {0}, which is no number")]
    NotANumber(String),
}

/// A formula that has been parsed and whose names are known.
#[derive(Clone, Debug)]
pub struct Formula {
    program: expr::Program,
    nil_aware: bool,
}

impl Formula {
    /// Parses `text` as an expression over `names`.
    ///
    /// # Errors
    /// If the text is too long or too deeply nested, builds ranges, does not parse, or reads a
    /// name that is not among `names` (in whichever branch).
    pub fn parse<'a>(
        text: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, FormulaError> {
        if text.len() > MAX_LENGTH {
            return Err(FormulaError::TooLong(text.len()));
        }
        if depth(text) > MAX_DEPTH {
            return Err(FormulaError::TooDeep);
        }
        if text.contains("..") {
            return Err(FormulaError::Range);
        }
        let names: Vec<&str> = names.into_iter().collect();
        if let Some(name) = identifiers::free_names(text)
            .into_iter()
            .find(|n| !names.contains(n))
        {
            return Err(FormulaError::UnknownName(name.to_owned()));
        }
        let program = expr::compile(text).map_err(|e| FormulaError::Expression(e.to_string()))?;
        Ok(Self {
            program,
            nil_aware: text.contains(NIL_AWARE_OPERATOR),
        })
    }

    /// Whether the formula says itself what a failed trigger means (with `??`).
    pub fn is_nil_aware(&self) -> bool {
        self.nil_aware
    }

    /// The formula's value for these values of the triggers; `None` stands for a trigger that
    /// failed, and is nil in the formula. The result is made a float as KEDA makes it; a formula
    /// with `??` may also give `None`, which starts the default fallback.
    ///
    /// # Errors
    /// If the formula fails with these values, or gives something that is no number.
    pub fn evaluate(
        &self,
        values: &BTreeMap<String, Option<f64>>,
    ) -> Result<Option<f64>, FormulaError> {
        let mut context = expr::Context::default();
        for (name, value) in values {
            let value = value.map_or(Value::Nil, Value::Float);
            context.insert(name.clone(), value);
        }
        let result = expr::run(&self.program, &context)
            .map_err(|e| FormulaError::Expression(e.to_string()))?;
        match &result {
            Value::Float(number) => Ok(Some(*number)),
            Value::Integer(number) => Ok(Some(*number as f64)),
            Value::Nil if self.nil_aware => Ok(None),
            Value::String(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(FormulaError::NotANumber(result.to_string())),
            },
            _ => Err(FormulaError::NotANumber(result.to_string())),
        }
    }
}

/// Upper bound of the nesting. Brackets in strings count too: they only make the check stricter.
fn depth(formula: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in formula.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'?' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b')' | b']' | b'}' | b':' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(formula: &str, a: Option<f64>, b: Option<f64>) -> Result<Option<f64>, FormulaError> {
        let values = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        Formula::parse(formula, ["a", "b"])?.evaluate(&values)
    }

    #[test]
    fn formulas_that_keda_accepts() {
        for (formula, expected) in [
            ("a + b", 5.0),
            ("float(a < 5 ? a + b : 5)", 5.0),
            ("count([a,b],{#>2}) > 1 ? 5 : 0", 0.0),
            ("a ?? 0", 2.0),
            ("max([a, b])", 3.0),
            ("sum([a, b]) / 2", 2.5),
            ("let x = a * 2; x + b", 7.0),
            ("a > 1 && b > 1 ? 10 : 1", 10.0),
        ] {
            assert_eq!(
                value(formula, Some(2.0), Some(3.0)),
                Ok(Some(expected)),
                "{formula}"
            );
        }
    }

    #[test]
    fn a_failed_trigger_is_nil() {
        assert_eq!(value("(a ?? 7) + b", None, Some(3.0)), Ok(Some(10.0)));
        assert_eq!(value("a ?? b", None, None), Ok(None));
        assert!(value("a + b", None, Some(3.0)).is_err());
        assert!(
            value("true ? nil : a", None, None).is_err(),
            "nil without ?? is no number"
        );
    }

    #[test]
    fn each_mistake_is_named() {
        let outcome = |formula: &str| value(formula, Some(-1.0), Some(-1.0));
        assert_eq!(
            outcome("a > 0 ? c : 1"),
            Err(FormulaError::UnknownName("c".into()))
        );
        assert!(matches!(outcome("a +"), Err(FormulaError::Expression(_))));
        assert!(matches!(
            outcome("a == b"),
            Err(FormulaError::NotANumber(_))
        ));
        assert!(matches!(outcome("'x'"), Err(FormulaError::NotANumber(_))));
        assert_eq!(outcome("len(1..1000000000)"), Err(FormulaError::Range));
        assert_eq!(outcome(&"(".repeat(40)), Err(FormulaError::TooDeep));
        assert_eq!(
            outcome(&"a+".repeat(3000)),
            Err(FormulaError::TooLong(6000))
        );
    }
}
