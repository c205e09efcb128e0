use std::collections::BTreeSet;

use super::FormulaError;
use super::functions::Function;
use super::lexer::{Token, TokenKind, tokens};
use super::node::{BinaryOp, Node, UnaryOp, height};

/// Deeper nesting is refused, so that neither parsing nor running can exhaust the stack.
const MAX_DEPTH: u32 = 48;

/// Operations in a row nest to the left as deeply as they are many, which [`MAX_DEPTH`] does not see.
const MAX_HEIGHT: usize = 256;

pub(super) struct Parsed {
    pub(super) root: Node,
    pub(super) variables: BTreeSet<String>,
}

pub(super) fn parse(source: &str) -> Result<Parsed, FormulaError> {
    let mut parser = Parser {
        tokens: tokens(source)?,
        next: 0,
        depth: 0,
        in_predicate: 0,
        locals: Vec::new(),
        bound: 0,
        variables: BTreeSet::new(),
    };
    let root = parser.sequence()?;
    match parser.peek() {
        TokenKind::End if height(&root) > MAX_HEIGHT => Err(FormulaError::Syntax {
            at: 0,
            message: format!("more than {MAX_HEIGHT} operations deep"),
        }),
        TokenKind::End => Ok(Parsed {
            root,
            variables: parser.variables,
        }),
        _ => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: u32,
    in_predicate: u32,
    /// Names bound by `let` that are in scope.
    locals: Vec<(String, usize)>,
    /// How many names were bound so far.
    bound: usize,
    variables: BTreeSet<String>,
}

impl Parser {
    fn token(&self) -> &Token {
        // The last token is End and is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn at(&self) -> usize {
        self.token().at
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), TokenKind::Symbol(found) if *found == symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), FormulaError> {
        if self.take(symbol) {
            return Ok(());
        }
        let message = format!("expected {symbol:?}, found {}", self.describe());
        Err(FormulaError::Syntax {
            at: self.at(),
            message,
        })
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(name) if name == word)
    }

    fn describe(&self) -> String {
        match self.peek() {
            TokenKind::Integer(value) => value.to_string(),
            TokenKind::Float(value) => value.to_string(),
            TokenKind::Name(name) => format!("{name:?}"),
            TokenKind::Element => "\"#\"".to_owned(),
            TokenKind::Symbol(symbol) => format!("{symbol:?}"),
            TokenKind::End => "the end".to_owned(),
        }
    }

    fn unexpected(&self) -> FormulaError {
        if let TokenKind::Name(name) = self.peek()
            && matches!(
                name.as_str(),
                "matches" | "contains" | "startsWith" | "endsWith"
            )
        {
            return self.unsupported(&format!("the operator '{name}'"));
        }
        if let TokenKind::Symbol(symbol @ (".." | "?.")) = self.peek() {
            return self.unsupported(&format!("the operator '{symbol}'"));
        }
        FormulaError::Syntax {
            at: self.at(),
            message: format!("unexpected {}", self.describe()),
        }
    }

    fn unsupported(&self, what: &str) -> FormulaError {
        FormulaError::Unsupported {
            at: self.at(),
            what: what.to_owned(),
        }
    }

    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, FormulaError>,
    ) -> Result<T, FormulaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep");
            return Err(FormulaError::Syntax {
                at: self.at(),
                message,
            });
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// `let` bindings and the expression they are for.
    fn sequence(&mut self) -> Result<Node, FormulaError> {
        if !self.is_word("let") {
            return self.expression();
        }
        self.nested(|parser| {
            parser.advance();
            let TokenKind::Name(name) = parser.peek().clone() else {
                return Err(parser.unexpected());
            };
            parser.advance();
            parser.expect("=")?;
            let value = parser.expression()?;
            parser.expect(";")?;
            let slot = parser.bound;
            parser.bound += 1;
            parser.locals.push((name, slot));
            let body = parser.sequence();
            parser.locals.pop();
            Ok(Node::Let(slot, Box::new(value), Box::new(body?)))
        })
    }

    fn expression(&mut self) -> Result<Node, FormulaError> {
        self.nested(|parser| {
            let condition = parser.binary(0)?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let then = parser.expression()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            Ok(Node::Conditional(
                Box::new(condition),
                Box::new(then),
                Box::new(otherwise),
            ))
        })
    }

    /// Operators that bind at least as tightly as `least`.
    fn binary(&mut self, least: u16) -> Result<Node, FormulaError> {
        let mut left = self.unary()?;
        loop {
            if least == 0 && self.take("|") {
                left = self.pipe(left)?;
                continue;
            }
            let Some((op, precedence, words)) = self.operator() else {
                return Ok(left);
            };
            if precedence < least {
                return Ok(left);
            }
            for _ in 0..words {
                self.advance();
            }
            // Only the power operator groups to the right.
            let right_least = if op == BinaryOp::Power {
                precedence
            } else {
                precedence + 1
            };
            let right = self.nested(|parser| parser.binary(right_least))?;
            left = Node::Binary(op, Box::new(left), Box::new(right));
        }
    }

    /// The operator at hand, its precedence in expr-lang, and of how many tokens it is.
    fn operator(&self) -> Option<(BinaryOp, u16, usize)> {
        let found = match self.peek() {
            TokenKind::Symbol(symbol) => match *symbol {
                "||" => (BinaryOp::Or, 10, 1),
                "&&" => (BinaryOp::And, 15, 1),
                "==" => (BinaryOp::Equal, 20, 1),
                "!=" => (BinaryOp::NotEqual, 20, 1),
                "<" => (BinaryOp::Less, 20, 1),
                "<=" => (BinaryOp::LessEqual, 20, 1),
                ">" => (BinaryOp::Greater, 20, 1),
                ">=" => (BinaryOp::GreaterEqual, 20, 1),
                "+" => (BinaryOp::Add, 30, 1),
                "-" => (BinaryOp::Subtract, 30, 1),
                "*" => (BinaryOp::Multiply, 60, 1),
                "/" => (BinaryOp::Divide, 60, 1),
                "%" => (BinaryOp::Remainder, 60, 1),
                "**" | "^" => (BinaryOp::Power, 100, 1),
                "??" => (BinaryOp::Coalesce, 500, 1),
                _ => return None,
            },
            TokenKind::Name(name) => match name.as_str() {
                "or" => (BinaryOp::Or, 10, 1),
                "and" => (BinaryOp::And, 15, 1),
                "in" => (BinaryOp::In, 20, 1),
                "not" if self.next_is_in() => (BinaryOp::NotIn, 20, 2),
                _ => return None,
            },
            _ => return None,
        };
        Some(found)
    }

    fn next_is_in(&self) -> bool {
        let next = self.tokens.get(self.next + 1).map(|token| &token.kind);
        matches!(next, Some(TokenKind::Name(name)) if name == "in")
    }

    fn unary(&mut self) -> Result<Node, FormulaError> {
        let found = match self.peek() {
            TokenKind::Symbol("!") => Some((UnaryOp::Not, 50)),
            TokenKind::Symbol("-") => Some((UnaryOp::Minus, 90)),
            TokenKind::Symbol("+") => Some((UnaryOp::Plus, 90)),
            TokenKind::Name(name) if name == "not" => Some((UnaryOp::Not, 50)),
            _ => None,
        };
        let Some((op, precedence)) = found else {
            return self.postfix();
        };
        self.advance();
        let operand = self.nested(|parser| parser.binary(precedence))?;
        Ok(Node::Unary(op, Box::new(operand)))
    }

    fn postfix(&mut self) -> Result<Node, FormulaError> {
        let mut node = self.primary()?;
        while self.take("[") {
            if matches!(self.peek(), TokenKind::Symbol(":")) {
                return Err(self.unsupported("a slice"));
            }
            let index = self.expression()?;
            if matches!(self.peek(), TokenKind::Symbol(":")) {
                return Err(self.unsupported("a slice"));
            }
            self.expect("]")?;
            node = Node::Index(Box::new(node), Box::new(index));
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, FormulaError> {
        match self.peek().clone() {
            TokenKind::Integer(value) => {
                self.advance();
                Ok(Node::Integer(value))
            }
            TokenKind::Float(value) => {
                self.advance();
                Ok(Node::Float(value))
            }
            TokenKind::Element if self.in_predicate > 0 => {
                self.advance();
                Ok(Node::Element)
            }
            TokenKind::Name(name) => self.name(name),
            TokenKind::Symbol("(") => {
                self.advance();
                let inner = self.sequence()?;
                self.expect(")")?;
                Ok(inner)
            }
            TokenKind::Symbol("[") => {
                self.advance();
                Ok(Node::Array(self.list("]")?))
            }
            TokenKind::Symbol("{") => Err(self.unsupported("a map")),
            _ => Err(self.unexpected()),
        }
    }

    fn name(&mut self, name: String) -> Result<Node, FormulaError> {
        match name.as_str() {
            "true" | "false" => {
                self.advance();
                return Ok(Node::Bool(name == "true"));
            }
            "nil" => {
                self.advance();
                return Ok(Node::Nil);
            }
            "if" => return self.nested(Self::if_else),
            "let" | "else" | "in" | "and" | "or" => return Err(self.unexpected()),
            _ if name.starts_with('$') => return Err(self.unsupported(&format!("'{name}'"))),
            _ => {}
        }
        let next = self.tokens.get(self.next + 1).map(|token| &token.kind);
        if matches!(next, Some(TokenKind::Symbol("("))) {
            return self.call(&name, None);
        }
        self.advance();
        if let Some((_, slot)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return Ok(Node::Local(*slot));
        }
        self.variables.insert(name.clone());
        Ok(Node::Variable(name))
    }

    fn if_else(&mut self) -> Result<Node, FormulaError> {
        self.advance();
        let condition = self.expression()?;
        let then = self.block()?;
        if !self.is_word("else") {
            let message = format!("expected \"else\", found {}", self.describe());
            return Err(FormulaError::Syntax {
                at: self.at(),
                message,
            });
        }
        self.advance();
        let otherwise = if self.is_word("if") {
            self.nested(Self::if_else)?
        } else {
            self.block()?
        };
        Ok(Node::Conditional(
            Box::new(condition),
            Box::new(then),
            Box::new(otherwise),
        ))
    }

    fn block(&mut self) -> Result<Node, FormulaError> {
        self.expect("{")?;
        let inner = self.sequence()?;
        self.expect("}")?;
        Ok(inner)
    }

    /// Expressions up to `end`, a comma after the last one allowed.
    fn list(&mut self, end: &str) -> Result<Vec<Node>, FormulaError> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn pipe(&mut self, input: Node) -> Result<Node, FormulaError> {
        let TokenKind::Name(name) = self.peek().clone() else {
            return Err(self.unexpected());
        };
        self.nested(|parser| parser.call(&name, Some(input)))
    }

    fn call(&mut self, name: &str, input: Option<Node>) -> Result<Node, FormulaError> {
        let Some(function) = Function::named(name) else {
            return Err(self.unsupported(&format!("the function '{name}'")));
        };
        self.advance();
        self.expect("(")?;
        let mut args: Vec<Node> = input.into_iter().collect();
        let mut predicate = None;
        while !self.take(")") {
            if function.takes_predicate() && args.len() == 1 && predicate.is_none() {
                predicate = Some(Box::new(self.predicate()?));
            } else {
                args.push(self.expression()?);
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Node::Call {
            function,
            args,
            predicate,
        })
    }

    /// `{# > 1}` or `# > 1`.
    fn predicate(&mut self) -> Result<Node, FormulaError> {
        self.in_predicate += 1;
        let parsed = if matches!(self.peek(), TokenKind::Symbol("{")) {
            self.block()
        } else {
            self.expression()
        };
        self.in_predicate -= 1;
        parsed
    }
}
