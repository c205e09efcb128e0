use super::FormulaError;

/// A token with the byte it starts at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Integer(i64),
    Float(f64),
    Name(String),
    /// `#`, the element a predicate looks at.
    Element,
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

/// Longest first, so that `**` is not read as `*`.
const SYMBOLS: [&str; 31] = [
    "**", "??", "?.", "&&", "||", "==", "!=", "<=", ">=", "..", "+", "-", "*", "/", "%", "^", "<",
    ">", "!", "?", ":", ",", ";", "=", "|", "(", ")", "[", "]", "{", "}",
];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, FormulaError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blanks(source, at)?;
        let rest = &source[at..];
        let Some(first) = rest.chars().next() else {
            tokens.push(Token {
                kind: TokenKind::End,
                at,
            });
            return Ok(tokens);
        };
        let (kind, len) = token(rest, first, at)?;
        tokens.push(Token { kind, at });
        at += len;
    }
}

/// The first byte that is neither blank nor comment.
fn skip_blanks(source: &str, mut at: usize) -> Result<usize, FormulaError> {
    loop {
        let rest = &source[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("//") {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else if trimmed.starts_with("/*") {
            let end = trimmed.find("*/").ok_or_else(|| FormulaError::Syntax {
                at,
                message: "the comment has no end".to_owned(),
            })?;
            at += end + 2;
        } else {
            return Ok(at);
        }
    }
}

fn token(rest: &str, first: char, at: usize) -> Result<(TokenKind, usize), FormulaError> {
    let starts_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if starts_number(rest) || (first == '.' && starts_number(&rest[1..])) {
        return number(rest, at);
    }
    if first.is_ascii_alphabetic() || first == '_' || first == '$' {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        return Ok((TokenKind::Name(rest[..len].to_owned()), len));
    }
    if first == '#' {
        let len = rest[1..]
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len() - 1);
        return match len {
            0 => Ok((TokenKind::Element, 1)),
            _ => Err(unsupported(at, format!("'{}'", &rest[..=len]))),
        };
    }
    if matches!(first, '"' | '\'' | '`') {
        return Err(unsupported(at, "a string".to_owned()));
    }
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok((TokenKind::Symbol(symbol), symbol.len()));
    }
    if first == '.' {
        return Err(unsupported(at, "member access".to_owned()));
    }
    Err(FormulaError::Syntax {
        at,
        message: format!("unexpected {first:?}"),
    })
}

fn unsupported(at: usize, what: String) -> FormulaError {
    FormulaError::Unsupported { at, what }
}

/// Integers (decimal, `0x`, `0o`, `0b`) and floats, with `_` between digits.
fn number(rest: &str, at: usize) -> Result<(TokenKind, usize), FormulaError> {
    let bad = |text: &str| FormulaError::Syntax {
        at,
        message: format!("{text:?} is no number"),
    };
    let lower = rest.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            let len = digits.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let digits = &digits[..len.unwrap_or(digits.len())];
            let value = i64::from_str_radix(&digits.replace('_', ""), radix)
                .map_err(|_| bad(&rest[..digits.len() + 2]))?;
            return Ok((TokenKind::Integer(value), digits.len() + 2));
        }
    }
    let digits = |from: usize| {
        let tail = &rest[from..];
        from + tail
            .find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(tail.len())
    };
    let mut end = digits(0);
    let mut is_float = false;
    // A point that another point follows is the range operator.
    if rest[end..].starts_with('.') && !rest[end..].starts_with("..") {
        is_float = true;
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        is_float = true;
        end = digits(end + 1 + sign);
    }
    let text = rest[..end].replace('_', "");
    let kind = if is_float {
        let value: f64 = text.parse().map_err(|_| bad(&rest[..end]))?;
        if !value.is_finite() {
            return Err(bad(&rest[..end]));
        }
        TokenKind::Float(value)
    } else {
        TokenKind::Integer(text.parse().map_err(|_| bad(&rest[..end]))?)
    };
    if rest[end..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(bad(&rest[..=end]));
    }
    Ok((kind, end))
}
