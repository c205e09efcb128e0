//! The parts of a formula.

use super::functions::Function;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// A trigger.
    Variable(String),
    /// A name bound by `let`, by its position.
    Local(usize),
    Element,
    Array(Vec<Node>),
    Unary(UnaryOp, Box<Node>),
    Binary(BinaryOp, Box<Node>, Box<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
    /// `let` in front of an expression.
    Let(usize, Box<Node>, Box<Node>),
    Index(Box<Node>, Box<Node>),
    Call {
        function: Function,
        args: Vec<Node>,
        predicate: Option<Box<Node>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnaryOp {
    Not,
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Coalesce,
}

/// How many operations lie on the longest way from `node` to a leaf.
pub(super) fn height(node: &Node) -> usize {
    let tallest = match node {
        Node::Nil
        | Node::Bool(_)
        | Node::Integer(_)
        | Node::Float(_)
        | Node::Variable(_)
        | Node::Local(_)
        | Node::Element => return 0,
        Node::Array(items) => items.iter().map(height).max().unwrap_or(0),
        Node::Unary(_, operand) => height(operand),
        Node::Binary(_, left, right) | Node::Index(left, right) | Node::Let(_, left, right) => {
            height(left).max(height(right))
        }
        Node::Conditional(condition, then, otherwise) => {
            height(condition).max(height(then)).max(height(otherwise))
        }
        Node::Call {
            args, predicate, ..
        } => args
            .iter()
            .chain(predicate.as_deref())
            .map(height)
            .max()
            .unwrap_or(0),
    };
    tallest + 1
}
