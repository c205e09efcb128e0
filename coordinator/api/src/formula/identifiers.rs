//! The names that a formula reads. The evaluator reports an unknown name only in the branch that
//! it takes; KEDA's compiler reports it anywhere, so the text is scanned.

/// Words of the language that look like names.
const KEYWORDS: &[&str] = &[
    "true",
    "false",
    "nil",
    "not",
    "and",
    "or",
    "in",
    "contains",
    "matches",
    "startsWith",
    "endsWith",
    "let",
    "if",
    "else",
];

/// One piece of a formula, as far as finding names goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(u8),
    /// A string or number.
    Literal,
    /// `?.` or `.`: what follows is a member, not a name.
    Member,
}

/// The names that `formula` reads and does not itself bind, in order of appearance.
pub(super) fn free_names(formula: &str) -> Vec<&str> {
    let tokens = tokens(formula);
    let mut bound: Vec<&str> = Vec::new();
    let mut names = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| tokens[b]);
        let after = tokens.get(i + 1).copied();
        match *token {
            Token::Symbol(c @ (b'(' | b'[' | b'{')) => open.push(c),
            Token::Symbol(b')' | b']' | b'}') => {
                open.pop();
            }
            Token::Word(word) => {
                let member = before == Some(Token::Member);
                let call = after == Some(Token::Symbol(b'('));
                let binding = before == Some(Token::Word("let"));
                let map_key = open.last() == Some(&b'{')
                    && matches!(before, Some(Token::Symbol(b'{' | b',')))
                    && after == Some(Token::Symbol(b':'));
                let implicit = word.starts_with(['#', '$']);
                let known =
                    KEYWORDS.contains(&word) || bound.contains(&word) || names.contains(&word);
                if binding {
                    bound.push(word);
                } else if !(member || call || map_key || implicit || known) {
                    names.push(word);
                }
            }
            _ => {}
        }
    }
    names
}

fn tokens(formula: &str) -> Vec<Token<'_>> {
    let bytes = formula.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        match byte {
            b'"' | b'\'' | b'`' => {
                at = end_of_string(bytes, at);
                tokens.push(Token::Literal);
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += run(&bytes[at..], |b| b != b'\n');
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = formula[at..].find("*/").map_or(bytes.len(), |e| at + e + 2);
            }
            b'0'..=b'9' => {
                at += 1 + run(&bytes[at + 1..], is_word);
                tokens.push(Token::Literal);
            }
            b if is_word(b) || b == b'#' || b == b'$' => {
                at += 1 + run(&bytes[at + 1..], is_word);
                tokens.push(Token::Word(&formula[start..at]));
            }
            b'.' if bytes.get(at + 1) == Some(&b'.') => {
                at += 2;
                tokens.push(Token::Symbol(b'.'));
            }
            b'.' => {
                at += 1;
                tokens.push(Token::Member);
            }
            b if b.is_ascii_whitespace() => at += 1,
            b => {
                at += 1;
                tokens.push(Token::Symbol(b));
            }
        }
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn run(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| wanted(**b)).count()
}

/// The place after the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == b'\\' && quote != b'`' {
            at += 1;
        } else if byte == quote {
            break;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_are_read() {
        let cases: &[(&str, &[&str])] = &[
            ("a + b", &["a", "b"]),
            ("a > 1 ? b : c", &["a", "b", "c"]),
            ("max([a, b], 3)", &["a", "b"]),
            ("count([a,b],{#>1}) > 1 ? 5 : 0", &["a", "b"]),
            ("let x = a; x + x", &["a"]),
            ("a ?? 0", &["a"]),
            ("{k: a}.k + 1e3 + 0x1f", &["a"]),
            ("filter([1], {.x > y})", &["y"]),
            ("\"not_a_name\" == 'nor \\' this' and true", &[]),
            ("a // b\n + c /* d */", &["a", "c"]),
            ("a | abs()", &["a"]),
            ("'unclosed", &[]),
            ("ü + a", &["a"]),
        ];
        for (formula, expected) in cases {
            assert_eq!(&free_names(formula), expected, "{formula}");
        }
    }
}
