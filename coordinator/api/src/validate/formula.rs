//! A `scalingModifiers` formula: an expression of expr-lang over the triggers' names.

use std::collections::BTreeSet;

use super::identifiers::free_names;

/// The operator that gives a formula a say in what a failed trigger (nil) means.
pub const NIL_AWARE_OPERATOR: &str = "??";

/// Longest formula that is looked at, in bytes. KEDA has no limit; the API server's is far above.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting of brackets; the parser recurses.
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
    /// Does not parse, or fails with a number for each trigger.
    #[error("{0}")]
    Expression(String),
    /// Gives something else than a number.
    #[error("formula gives {0} with -1 for each trigger; it must give a number")]
    NotANumber(String),
}

/// The formula as KEDA runs it: its result made a float, so that `a > 1 ? 5 : 0` is a number like
/// any other. A formula with `??` may also give nil, which starts the default fallback.
pub fn as_float_formula(formula: &str) -> String {
    const RESULT: &str = "let _kedaCompositeResult = ";
    if formula.contains(NIL_AWARE_OPERATOR) {
        if formula.starts_with(RESULT) {
            return formula.to_owned();
        }
        return format!(
            "{RESULT}({formula}); _kedaCompositeResult == nil ? nil : float(_kedaCompositeResult)"
        );
    }
    if formula.starts_with("float(") {
        formula.to_owned()
    } else {
        format!("float({formula})")
    }
}

/// Compiles `formula` and runs it once with -1 for each of `names`, as KEDA's admission does.
pub(super) fn check(formula: &str, names: &BTreeSet<&str>) -> Result<(), FormulaError> {
    if formula.len() > MAX_LENGTH {
        return Err(FormulaError::TooLong(formula.len()));
    }
    if depth(formula) > MAX_DEPTH {
        return Err(FormulaError::TooDeep);
    }
    if formula.contains("..") {
        return Err(FormulaError::Range);
    }
    if let Some(name) = free_names(formula).iter().find(|n| !names.contains(*n)) {
        return Err(FormulaError::UnknownName((*name).to_owned()));
    }
    let mut context = expr::Context::default();
    for name in names {
        context.insert(*name, -1.0);
    }
    let program = expr::compile(&as_float_formula(formula))
        .map_err(|e| FormulaError::Expression(e.to_string()))?;
    let result =
        expr::run(&program, &context).map_err(|e| FormulaError::Expression(e.to_string()))?;
    match result {
        expr::Value::Float(_) | expr::Value::Integer(_) | expr::Value::Nil => Ok(()),
        other => Err(FormulaError::NotANumber(other.to_string())),
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

    fn outcome(formula: &str) -> Result<(), FormulaError> {
        check(formula, &BTreeSet::from(["a", "b"]))
    }

    #[test]
    fn formulas_that_keda_accepts() {
        for formula in [
            "a + b",
            "float(a < 5 ? a + b : 5)",
            "count([a,b],{#>1}) > 1 ? 5 : 0",
            "a ?? 0",
            "max([a, b])",
            "sum([a, b]) / 2",
            "let x = a * 2; x + b",
        ] {
            assert_eq!(outcome(formula), Ok(()), "{formula}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(
            outcome("a > 0 ? c : 1"),
            Err(FormulaError::UnknownName("c".into()))
        );
        assert!(matches!(outcome("a +"), Err(FormulaError::Expression(_))));
        assert!(outcome("a == b").is_err(), "a truth value is no number");
        assert_eq!(outcome("len(1..1000000000)"), Err(FormulaError::Range));
        assert_eq!(outcome(&"(".repeat(40)), Err(FormulaError::TooDeep));
        assert_eq!(
            outcome(&"a+".repeat(3000)),
            Err(FormulaError::TooLong(6000))
        );
    }
}
