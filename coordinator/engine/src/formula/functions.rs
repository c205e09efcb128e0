use super::FormulaError;
use super::eval::Machine;
use super::node::Node;
use super::value::{Value, takes};

/// The functions a formula may call.
pub const SUPPORTED_FUNCTIONS: [&str; 24] = [
    "abs", "all", "any", "ceil", "concat", "count", "filter", "find", "first", "float", "floor",
    "int", "last", "len", "map", "max", "mean", "median", "min", "none", "one", "reverse", "round",
    "sum",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    All,
    Any,
    Ceil,
    Concat,
    Count,
    Filter,
    Find,
    First,
    Float,
    Floor,
    Int,
    Last,
    Len,
    Map,
    Max,
    Mean,
    Median,
    Min,
    None,
    One,
    Reverse,
    Round,
    Sum,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Abs,
            "all" => Self::All,
            "any" => Self::Any,
            "ceil" => Self::Ceil,
            "concat" => Self::Concat,
            "count" => Self::Count,
            "filter" => Self::Filter,
            "find" => Self::Find,
            "first" => Self::First,
            "float" => Self::Float,
            "floor" => Self::Floor,
            "int" => Self::Int,
            "last" => Self::Last,
            "len" => Self::Len,
            "map" => Self::Map,
            "max" => Self::Max,
            "mean" => Self::Mean,
            "median" => Self::Median,
            "min" => Self::Min,
            "none" => Self::None,
            "one" => Self::One,
            "reverse" => Self::Reverse,
            "round" => Self::Round,
            "sum" => Self::Sum,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        SUPPORTED_FUNCTIONS[self as usize]
    }

    pub(super) const fn takes_predicate(self) -> bool {
        matches!(
            self,
            Self::All
                | Self::Any
                | Self::Count
                | Self::Filter
                | Self::Find
                | Self::Map
                | Self::None
                | Self::One
                | Self::Sum
        )
    }
}

/// Calls `function` on arguments already computed; `predicate` is run once per element.
pub(super) fn call(
    machine: &mut Machine<'_>,
    function: Function,
    mut args: Vec<Value>,
    predicate: Option<&Node>,
) -> Result<Value, FormulaError> {
    let name = function.name();
    match function {
        Function::Max | Function::Min | Function::Mean | Function::Median => {
            return aggregate(function, numbers(name, args)?);
        }
        Function::Concat => {
            let mut all = Vec::new();
            for arg in args {
                machine.charge(arg.parts())?;
                all.extend(arg.elements(name)?);
            }
            return Ok(Value::Array(all));
        }
        _ => {}
    }
    let (Some(arg), true) = (args.pop(), args.is_empty()) else {
        return Err(FormulaError::Type(format!("{name} takes one value")));
    };
    match function {
        Function::Abs => match arg {
            Value::Integer(integer) => integer
                .checked_abs()
                .map(Value::Integer)
                .ok_or_else(|| FormulaError::Type("abs: integer overflow".to_owned())),
            other => Ok(Value::Float(other.number(name)?.abs())),
        },
        Function::Ceil => Ok(Value::Float(arg.number(name)?.ceil())),
        Function::Floor => Ok(Value::Float(arg.number(name)?.floor())),
        Function::Round => Ok(Value::Float(arg.number(name)?.round())),
        Function::Float => Ok(Value::Float(arg.number(name)?)),
        Function::Int => match arg {
            Value::Integer(integer) => Ok(Value::Integer(integer)),
            other => {
                let number = other.number(name)?.trunc();
                // Strictly below 2^63, the first double outside the range.
                if number.abs() < 9_223_372_036_854_775_808.0 {
                    Ok(Value::Integer(number as i64))
                } else {
                    Err(FormulaError::Type(format!("int: {number} is out of range")))
                }
            }
        },
        Function::Len => {
            let len = arg.elements(name)?.len();
            Ok(Value::Integer(i64::try_from(len).unwrap_or(i64::MAX)))
        }
        Function::First => Ok(arg.elements(name)?.into_iter().next().unwrap_or(Value::Nil)),
        Function::Last => Ok(arg.elements(name)?.pop().unwrap_or(Value::Nil)),
        Function::Reverse => {
            let mut elements = arg.elements(name)?;
            elements.reverse();
            Ok(Value::Array(elements))
        }
        _ => over_elements(machine, function, arg.elements(name)?, predicate),
    }
}

fn over_elements(
    machine: &mut Machine<'_>,
    function: Function,
    elements: Vec<Value>,
    predicate: Option<&Node>,
) -> Result<Value, FormulaError> {
    let name = function.name();
    if let (Function::Sum, predicate) = (function, predicate) {
        let mut sum = Value::Integer(0);
        for element in elements {
            let addend = match predicate {
                Some(predicate) => machine.with_element(element, predicate)?,
                None => element,
            };
            sum = machine.add(name, sum, addend)?;
        }
        return Ok(sum);
    }
    if let (Function::Map, Some(predicate)) = (function, predicate) {
        let mapped = elements
            .into_iter()
            .map(|element| machine.with_element(element, predicate));
        return mapped.collect::<Result<_, _>>().map(Value::Array);
    }
    let mut fitting = Vec::new();
    let all = elements.len();
    for element in elements {
        let fits = match predicate {
            Some(predicate) => machine
                .with_element(element.clone(), predicate)?
                .truth(name)?,
            // expr-lang counts true elements where no predicate is given.
            None if function == Function::Count => element.truth(name)?,
            None => return Err(FormulaError::Type(format!("{name} takes a predicate"))),
        };
        if fits {
            fitting.push(element);
        }
    }
    let count = fitting.len();
    Ok(match function {
        Function::All => Value::Bool(count == all),
        Function::Any => Value::Bool(count > 0),
        Function::None => Value::Bool(count == 0),
        Function::One => Value::Bool(count == 1),
        Function::Count => Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)),
        Function::Find => fitting.into_iter().next().unwrap_or(Value::Nil),
        _ => Value::Array(fitting),
    })
}

/// The numbers among the arguments, arrays opened.
fn numbers(name: &str, args: Vec<Value>) -> Result<Vec<Value>, FormulaError> {
    let mut numbers = Vec::new();
    for arg in args {
        match arg {
            Value::Array(elements) => numbers.extend(elements),
            other => numbers.push(other),
        }
    }
    match numbers.iter().find(|value| value.number(name).is_err()) {
        Some(other) => Err(takes(name, "numbers", other)),
        None if numbers.is_empty() => Err(FormulaError::Type(format!(
            "{name} takes at least one number"
        ))),
        None => Ok(numbers),
    }
}

fn aggregate(function: Function, numbers: Vec<Value>) -> Result<Value, FormulaError> {
    let name = function.name();
    let mut sorted = numbers
        .iter()
        .map(|value| value.number(name))
        .collect::<Result<Vec<_>, _>>()?;
    sorted.sort_by(f64::total_cmp);
    let (len, middle) = (sorted.len(), sorted.len() / 2);
    let pick = |wanted: f64| {
        numbers
            .into_iter()
            .find(|value| value.number(name) == Ok(wanted))
            .unwrap_or(Value::Nil)
    };
    Ok(match function {
        Function::Min => pick(sorted[0]),
        Function::Max => pick(sorted[len - 1]),
        Function::Mean => Value::Float(sorted.iter().sum::<f64>() / len as f64),
        _ if len % 2 == 1 => Value::Float(sorted[middle]),
        _ => Value::Float(f64::midpoint(sorted[middle - 1], sorted[middle])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_name_is_found_under_its_name() {
        for name in SUPPORTED_FUNCTIONS {
            assert_eq!(Function::named(name).unwrap().name(), name);
        }
    }
}
