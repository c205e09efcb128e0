use super::FormulaError;
use super::functions;
use super::node::{BinaryOp, Node, UnaryOp};
use super::value::{Value, takes};

/// A formula may take this many steps.
const MAX_STEPS: u32 = 10_000;

/// Runs `root` with each trigger's value as `value_of` gives it.
pub(super) fn run(
    root: &Node,
    value_of: &dyn Fn(&str) -> Option<f64>,
) -> Result<Value, FormulaError> {
    let mut machine = Machine {
        value_of,
        steps: 0,
        elements: Vec::new(),
        locals: Vec::new(),
    };
    machine.eval(root)
}

pub(super) struct Machine<'a> {
    value_of: &'a dyn Fn(&str) -> Option<f64>,
    steps: u32,
    /// What `#` stands for, innermost last.
    elements: Vec<Value>,
    /// Values bound by `let`.
    locals: Vec<(usize, Value)>,
}

impl Machine<'_> {
    /// Counts work done, so that neither time nor memory can grow without bound.
    pub(super) fn charge(&mut self, steps: usize) -> Result<(), FormulaError> {
        self.steps = self
            .steps
            .saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > MAX_STEPS {
            return Err(FormulaError::TooManySteps { max: MAX_STEPS });
        }
        Ok(())
    }

    /// A copy of a bound value costs as many steps as it has parts.
    fn copy(&mut self, value: Option<Value>) -> Result<Value, FormulaError> {
        let value = value.unwrap_or(Value::Nil);
        self.charge(value.parts())?;
        Ok(value)
    }

    fn eval(&mut self, node: &Node) -> Result<Value, FormulaError> {
        self.charge(1)?;
        match node {
            Node::Nil => Ok(Value::Nil),
            Node::Bool(truth) => Ok(Value::Bool(*truth)),
            Node::Integer(integer) => Ok(Value::Integer(*integer)),
            Node::Float(float) => Ok(Value::Float(*float)),
            Node::Variable(name) => Ok((self.value_of)(name).map_or(Value::Nil, Value::Float)),
            Node::Local(slot) => {
                let bound = self.locals.iter().rev().find(|(local, _)| local == slot);
                let bound = bound.map(|(_, value)| value.clone());
                self.copy(bound)
            }
            Node::Element => {
                let element = self.elements.last().cloned();
                self.copy(element)
            }
            Node::Array(items) => {
                let items = items.iter().map(|item| self.eval(item));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Node::Unary(op, operand) => {
                let operand = self.eval(operand)?;
                unary(*op, operand)
            }
            Node::Binary(op, left, right) => self.binary(*op, left, right),
            Node::Conditional(condition, then, otherwise) => {
                let truth = self.eval(condition)?.truth("a condition")?;
                self.eval(if truth { then } else { otherwise })
            }
            Node::Let(slot, value, body) => {
                let value = self.eval(value)?;
                self.locals.push((*slot, value));
                let result = self.eval(body);
                self.locals.pop();
                result
            }
            Node::Index(array, index) => {
                let array = self.eval(array)?.elements("an index")?;
                let index = self.eval(index)?;
                element_at(array, &index)
            }
            Node::Call {
                function,
                args,
                predicate,
            } => {
                let args = args
                    .iter()
                    .map(|arg| self.eval(arg))
                    .collect::<Result<_, _>>()?;
                functions::call(self, *function, args, predicate.as_deref())
            }
        }
    }

    /// Runs a predicate with `#` as `element`.
    pub(super) fn with_element(
        &mut self,
        element: Value,
        predicate: &Node,
    ) -> Result<Value, FormulaError> {
        self.elements.push(element);
        let result = self.eval(predicate);
        self.elements.pop();
        result
    }

    pub(super) fn add(&self, what: &str, left: Value, right: Value) -> Result<Value, FormulaError> {
        arithmetic(what, left, right, i64::checked_add, |left, right| {
            left + right
        })
    }

    fn binary(&mut self, op: BinaryOp, left: &Node, right: &Node) -> Result<Value, FormulaError> {
        let left = self.eval(left)?;
        match (op, &left) {
            (BinaryOp::And, Value::Bool(false)) | (BinaryOp::Or, Value::Bool(true)) => {
                return Ok(left);
            }
            (BinaryOp::Coalesce, Value::Nil) => return self.eval(right),
            (BinaryOp::Coalesce, _) => return Ok(left),
            _ => {}
        }
        let right = self.eval(right)?;
        operate(op, left, right)
    }
}

fn unary(op: UnaryOp, operand: Value) -> Result<Value, FormulaError> {
    match (op, operand) {
        (UnaryOp::Not, operand) => Ok(Value::Bool(!operand.truth("!")?)),
        (UnaryOp::Plus, operand @ (Value::Integer(_) | Value::Float(_))) => Ok(operand),
        (UnaryOp::Minus, Value::Integer(integer)) => integer
            .checked_neg()
            .map(Value::Integer)
            .ok_or_else(|| overflow("-")),
        (UnaryOp::Minus, Value::Float(float)) => Ok(Value::Float(-float)),
        (UnaryOp::Minus, other) => Err(takes("-", "a number", &other)),
        (UnaryOp::Plus, other) => Err(takes("+", "a number", &other)),
    }
}

fn operate(op: BinaryOp, left: Value, right: Value) -> Result<Value, FormulaError> {
    match op {
        BinaryOp::Or => Ok(Value::Bool(left.truth("||")? || right.truth("||")?)),
        BinaryOp::And => Ok(Value::Bool(left.truth("&&")? && right.truth("&&")?)),
        BinaryOp::Equal => Ok(Value::Bool(left.equals(&right))),
        BinaryOp::NotEqual => Ok(Value::Bool(!left.equals(&right))),
        BinaryOp::Less => compare("<", &left, &right, |left, right| left < right),
        BinaryOp::LessEqual => compare("<=", &left, &right, |left, right| left <= right),
        BinaryOp::Greater => compare(">", &left, &right, |left, right| left > right),
        BinaryOp::GreaterEqual => compare(">=", &left, &right, |left, right| left >= right),
        BinaryOp::In | BinaryOp::NotIn => {
            let elements = right.elements("in")?;
            let found = elements.iter().any(|element| element.equals(&left));
            Ok(Value::Bool(found == (op == BinaryOp::In)))
        }
        BinaryOp::Add => arithmetic("+", left, right, i64::checked_add, |left, right| {
            left + right
        }),
        BinaryOp::Subtract => arithmetic("-", left, right, i64::checked_sub, |left, right| {
            left - right
        }),
        BinaryOp::Multiply => arithmetic("*", left, right, i64::checked_mul, |left, right| {
            left * right
        }),
        BinaryOp::Divide => Ok(Value::Float(left.number("/")? / right.number("/")?)),
        BinaryOp::Power => Ok(Value::Float(left.number("**")?.powf(right.number("**")?))),
        BinaryOp::Remainder => match (&left, &right) {
            (Value::Integer(_), Value::Integer(0)) => {
                Err(FormulaError::Type("%: integer divide by zero".to_owned()))
            }
            (Value::Integer(left), Value::Integer(right)) => {
                Ok(Value::Integer(left.wrapping_rem(*right)))
            }
            (Value::Integer(_), other) | (other, _) => Err(takes("%", "integers", other)),
        },
        // Decided before the right side was computed.
        BinaryOp::Coalesce => Ok(if left == Value::Nil { right } else { left }),
    }
}

fn compare(
    what: &str,
    left: &Value,
    right: &Value,
    holds: fn(f64, f64) -> bool,
) -> Result<Value, FormulaError> {
    Ok(Value::Bool(holds(left.number(what)?, right.number(what)?)))
}

fn arithmetic(
    what: &str,
    left: Value,
    right: Value,
    integers: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value, FormulaError> {
    match (&left, &right) {
        (Value::Integer(left), Value::Integer(right)) => integers(*left, *right)
            .map(Value::Integer)
            .ok_or_else(|| overflow(what)),
        _ => Ok(Value::Float(floats(
            left.number(what)?,
            right.number(what)?,
        ))),
    }
}

fn overflow(what: &str) -> FormulaError {
    FormulaError::Type(format!("{what}: integer overflow"))
}

fn element_at(mut array: Vec<Value>, index: &Value) -> Result<Value, FormulaError> {
    let Value::Integer(index) = *index else {
        return Err(takes("an index", "an integer", index));
    };
    let len = i64::try_from(array.len()).unwrap_or(i64::MAX);
    let position = if index < 0 { index + len } else { index };
    match usize::try_from(position) {
        Ok(position) if position < array.len() => Ok(array.swap_remove(position)),
        _ => Err(FormulaError::Type(format!(
            "index {index} is out of range, the array has {len}"
        ))),
    }
}
