//! Label selectors in the text form of Kubernetes (`app=demo,tier in (a, b),!canary`).

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

/// Which labels a pod must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

/// Why a text is not a selector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "it must be a label selector such as app=demo, app!=demo, app in (a, b), app notin (a, b), app, !app, rank>3: {0}"
)]
pub struct SelectorError(String);

impl LabelSelector {
    /// Reads a selector by the grammar of `k8s.io/apimachinery/pkg/labels`.
    ///
    /// # Errors
    /// Where the text is not a selector, or a key or value cannot be one of a label.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let requirements = Parser {
            tokens: tokens(text),
            position: 0,
        }
        .selector()?;
        Ok(Self {
            text: text.to_owned(),
            requirements,
        })
    }

    /// Whether labels match; `label` gives the value of a key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = label(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Above(bound) => number().is_some_and(|number| number > *bound),
                Test::Below(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }
}

/// The text it was read from.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Sign(text) => write!(f, "{text:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    const SIGNS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let length = match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                tokens.push(Token::Sign(sign));
                sign.len()
            }
            None => {
                let length = rest
                    .find(|c| is_blank(c) || "=!(),><".contains(c))
                    .unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..length]));
                length
            }
        };
        rest = rest[length..].trim_start_matches(is_blank);
    }
    tokens
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens
            .get(self.position)
            .copied()
            .unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Sign(",") => {}
                other => return Err(expected("a comma or the end", other)),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Sign("!");
        if absent {
            self.take();
        }
        let Token::Word(key) = self.take() else {
            self.position -= 1;
            return Err(expected("a label key", self.peek()));
        };
        check_key(key)?;
        let test = if absent {
            Test::Absent
        } else if matches!(self.peek(), Token::End | Token::Sign(",")) {
            Test::Exists
        } else {
            match self.take() {
                Token::Word("in") => Test::In(self.values()?),
                Token::Word("notin") => Test::NotIn(self.values()?),
                Token::Sign("=" | "==") => Test::In(BTreeSet::from([self.value()?])),
                Token::Sign("!=") => Test::NotIn(BTreeSet::from([self.value()?])),
                Token::Sign(">") => Test::Above(number(&self.value()?)?),
                Token::Sign("<") => Test::Below(number(&self.value()?)?),
                other => return Err(expected("=, ==, !=, in, notin, > or <", other)),
            }
        };
        Ok(Requirement {
            key: key.to_owned(),
            test,
        })
    }

    /// One value; nothing before a comma or the end is the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(String::new()),
            Token::Word(value) => {
                self.take();
                check_value(value)
            }
            other => Err(expected("a label value", other)),
        }
    }

    /// `(a, b)`; a missing value between commas is the empty value.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.take();
        if open != Token::Sign("(") {
            return Err(expected("(", open));
        }
        if self.peek() == Token::Sign(")") {
            return Err(SelectorError(
                "in and notin need at least one value".to_owned(),
            ));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                Token::Word(value) => {
                    values.insert(check_value(value)?);
                    match self.take() {
                        Token::Sign(",") if self.peek() == Token::Sign(")") => {
                            values.insert(String::new());
                        }
                        Token::Sign(",") => {}
                        Token::Sign(")") => return Ok(values),
                        other => return Err(expected("a comma or )", other)),
                    }
                }
                Token::Sign(",") => {
                    values.insert(String::new());
                }
                Token::Sign(")") => return Ok(values),
                other => return Err(expected("a label value, a comma or )", other)),
            }
        }
    }
}

fn expected(what: &str, found: Token<'_>) -> SelectorError {
    SelectorError(format!("expected {what}, found {found}"))
}

fn number(text: &str) -> Result<i64, SelectorError> {
    text.parse()
        .map_err(|_| SelectorError(format!("> and < need a whole number, found {text:?}")))
}

/// A qualified name: an optional DNS subdomain and a slash, then at most 63 characters.
fn check_key(key: &str) -> Result<(), SelectorError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_none_or(is_subdomain) && is_label_text(name) {
        return Ok(());
    }
    Err(SelectorError(format!("{key:?} cannot be a label key")))
}

fn check_value(value: &str) -> Result<String, SelectorError> {
    if value.is_empty() || is_label_text(value) {
        return Ok(value.to_owned());
    }
    Err(SelectorError(format!("{value:?} cannot be a label value")))
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        let find = |key: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        LabelSelector::parse(selector)
            .expect(selector)
            .matches(find)
    }

    #[test]
    fn matches_as_kubernetes_does() {
        let labels = [
            ("app", "demo"),
            ("rank", "5"),
            ("example.com/team", "a"),
            ("empty", ""),
        ];
        for (selector, expected) in [
            ("app=demo", true),
            ("app==demo,rank=5", true),
            ("app = demo , rank = 6", false),
            ("app!=demo", false),
            ("other!=demo", true),
            ("app in (x,demo)", true),
            ("app notin (x, demo)", false),
            ("other notin (x)", true),
            ("app,!other", true),
            ("!app", false),
            ("other", false),
            ("rank>4,rank<6", true),
            ("rank > 5", false),
            ("app>1", false),
            ("example.com/team=a", true),
            ("empty=", true),
            ("empty in (,x)", true),
            ("app in (x,)", false),
            ("in in (in)", false),
        ] {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_selector() {
        for text in [
            "app=demo,",
            ",",
            "app demo",
            "app in demo",
            "app in ()",
            "app in (a b)",
            "!app=x",
            "=x",
            "app=(x)",
            "app>x",
            "-app=x",
            "app=x y",
            "app=-x",
            "UPPER.example/x=1",
            "/x=1",
            "a/b/c=1",
            "app in (a",
        ] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        let long = format!("a={}", "x".repeat(64));
        assert!(LabelSelector::parse(&long).is_err());
    }
}
