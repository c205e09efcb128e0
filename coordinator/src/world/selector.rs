//! Label selectors: as an object (`matchLabels`, `matchExpressions`) and as the text that
//! `status.selector` of a scale and `podSelector` of a trigger carry.
//!
//! The meaning is that of Kubernetes (`apimachinery/pkg/labels`): an absent key satisfies `!=`
//! and `notin`; an empty selector selects everything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::labels::Labels;

/// What one part of a selector asks of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The label is there with one of these values (sorted; `key=value` has one).
    In(Arc<str>, Arc<[Arc<str>]>),
    /// The label is absent or has none of these values (sorted).
    NotIn(Arc<str>, Arc<[Arc<str>]>),
    /// The label is there.
    Exists(Arc<str>),
    /// The label is not there.
    DoesNotExist(Arc<str>),
    /// The label is a whole number above this one.
    GreaterThan(Arc<str>, i64),
    /// The label is a whole number below this one.
    LessThan(Arc<str>, i64),
}

/// All requirements must hold. Without any it selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector(Arc<[Requirement]>);

/// Why a text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector {selector:?}: {reason}")]
pub struct SelectorError {
    /// The text as given.
    pub selector: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl Requirement {
    /// True when `labels` satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|found| contains(values, found)),
            Self::NotIn(key, values) => {
                !labels.get(key).is_some_and(|found| contains(values, found))
            }
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
            Self::GreaterThan(key, bound) => number(labels, key).is_some_and(|n| n > *bound),
            Self::LessThan(key, bound) => number(labels, key).is_some_and(|n| n < *bound),
        }
    }
}

fn contains(sorted: &[Arc<str>], value: &str) -> bool {
    sorted
        .binary_search_by(|known| known.as_ref().cmp(value))
        .is_ok()
}

fn number(labels: &Labels, key: &str) -> Option<i64> {
    labels.get(key).and_then(|value| value.parse().ok())
}

impl Selector {
    /// True when `labels` satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// True when it has no requirements.
    pub fn selects_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// A `key=value` pair that every selected object carries, if there is one: the handle by
    /// which an index finds the selectors of an object.
    pub fn required_pair(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        self.0.iter().find_map(|requirement| match requirement {
            Requirement::In(key, values) => match values.as_ref() {
                [value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        })
    }

    /// Reads the object form. Fails on an operator or a value list that Kubernetes refuses.
    pub fn from_object(object: &LabelSelector) -> Result<Self, SelectorError> {
        let refuse = |reason: String| SelectorError {
            selector: serde_json::to_string(object).unwrap_or_default(),
            reason,
        };
        let mut requirements: Vec<Requirement> = object
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| {
                Requirement::In(key.as_str().into(), [value.as_str().into()].into())
            })
            .collect();
        for expression in object.match_expressions.iter().flatten() {
            let key: Arc<str> = expression.key.as_str().into();
            let values = sorted(expression.values.iter().flatten().map(String::as_str));
            requirements.push(match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::DoesNotExist(key),
                ("In" | "NotIn", true) => return Err(refuse(format!("values of {key:?} must not be empty for In and NotIn"))),
                ("Exists" | "DoesNotExist", false) => {
                    return Err(refuse(format!("values of {key:?} must be empty for Exists and DoesNotExist")));
                }
                (other, _) => {
                    return Err(refuse(format!(
                        "operator {other:?} of {key:?} is not one of In, NotIn, Exists, DoesNotExist"
                    )));
                }
            });
        }
        Ok(Self(requirements.into()))
    }
}

fn sorted<'a>(values: impl Iterator<Item = &'a str>) -> Arc<[Arc<str>]> {
    let mut values: Vec<Arc<str>> = values.map(Into::into).collect();
    values.sort();
    values.dedup();
    values.into()
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads `a=b,c==d,e!=f,g in (h,i),j notin (k),l,!m,n>1,o<9`; the empty text selects
    /// everything.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let refuse = |reason: String| SelectorError {
            selector: text.to_owned(),
            reason,
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let requirements: Vec<Requirement> = split_outside_parentheses(text)
            .map(|part| requirement(part).map_err(&refuse))
            .collect::<Result<_, _>>()?;
        Ok(Self(requirements.into()))
    }
}

/// The parts between commas that stand outside parentheses.
fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let part = part.trim();
    if part.is_empty() {
        return Err("there is nothing between two commas".to_owned());
    }
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::DoesNotExist(label_key(key)?));
    }
    if let Some(open) = part.find('(') {
        let (head, list) = part.split_at(open);
        let list = list
            .strip_prefix('(')
            .and_then(|list| list.strip_suffix(')'))
            .ok_or_else(|| format!("{part:?} lacks the closing parenthesis"))?;
        let (key, operator) = head
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| {
                format!("{part:?} is not of the form `key in (a,b)` or `key notin (a,b)`")
            })?;
        let key = label_key(key)?;
        for value in list.split(',') {
            label_value(value)?;
        }
        let values = sorted(list.split(',').map(str::trim));
        return match operator {
            "in" => Ok(Requirement::In(key, values)),
            "notin" => Ok(Requirement::NotIn(key, values)),
            other => Err(format!("operator {other:?} is not one of in, notin")),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(
            label_key(key)?,
            [label_value(value)?].into(),
        ));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(
            label_key(key)?,
            [label_value(value)?].into(),
        ));
    }
    for (sign, make) in [
        (
            '>',
            Requirement::GreaterThan as fn(Arc<str>, i64) -> Requirement,
        ),
        (
            '<',
            Requirement::LessThan as fn(Arc<str>, i64) -> Requirement,
        ),
    ] {
        if let Some((key, bound)) = part.split_once(sign) {
            let bound = bound.trim();
            let bound = bound
                .parse()
                .map_err(|_| format!("{bound:?} after {sign} is not a whole number"))?;
            return Ok(make(label_key(key)?, bound));
        }
    }
    Ok(Requirement::Exists(label_key(part)?))
}

/// A label key: an optional DNS prefix and a slash, and a name of at most 63 characters.
fn label_key(text: &str) -> Result<Arc<str>, String> {
    let key = text.trim();
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_ok = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    });
    if !prefix_ok || name.is_empty() || !is_label_text(name) {
        return Err(format!(
            "{key:?} is not a label key (letters, digits, '-', '_', '.', at most 63, with an optional DNS prefix and '/')"
        ));
    }
    Ok(key.into())
}

fn label_value(text: &str) -> Result<Arc<str>, String> {
    let value = text.trim();
    if is_label_text(value) {
        Ok(value.into())
    } else {
        Err(format!(
            "{value:?} is not a label value (letters, digits, '-', '_', '.', at most 63, beginning and ending with a letter or digit)"
        ))
    }
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return true;
    };
    bytes.len() <= 63
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(key, values) => match values.as_ref() {
                [value] => write!(f, "{key}={value}"),
                values => write!(f, "{key} in ({})", values.join(",")),
            },
            Self::NotIn(key, values) => match values.as_ref() {
                [value] => write!(f, "{key}!={value}"),
                values => write!(f, "{key} notin ({})", values.join(",")),
            },
            Self::Exists(key) => write!(f, "{key}"),
            Self::DoesNotExist(key) => write!(f, "!{key}"),
            Self::GreaterThan(key, bound) => write!(f, "{key}>{bound}"),
            Self::LessThan(key, bound) => write!(f, "{key}<{bound}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn each_operator_means_what_kubernetes_means() {
        let shop = labels(&[("app", "shop"), ("size", "7")]);
        for (selector, expected) in [
            ("", true),
            ("app=shop", true),
            ("app==shop", true),
            ("app = shop , size", true),
            ("app=bank", false),
            ("app!=bank", true),
            ("tier!=web", true),
            ("app in (bank, shop)", true),
            ("app in (bank)", false),
            ("app notin (bank,shop)", false),
            ("tier notin (web)", true),
            ("tier", false),
            ("!tier", true),
            ("!app", false),
            ("size>6", true),
            ("size<7", false),
            ("app>1", false),
            ("app in (shop),size in (7),!tier", true),
        ] {
            let parsed: Selector = selector.parse().unwrap();
            assert_eq!(parsed.matches(&shop), expected, "{selector}");
            let again: Selector = parsed.to_string().parse().unwrap();
            assert_eq!(
                again, parsed,
                "{selector} did not survive printing as {parsed}"
            );
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (selector, why) in [
            ("app=shop,,x", "nothing between two commas"),
            ("app in (a", "closing parenthesis"),
            ("app within (a)", "not one of in, notin"),
            ("(a)", "not of the form"),
            ("-app", "not a label key"),
            ("app=sh op", "not a label value"),
            ("size>many", "not a whole number"),
            ("UPPER/x", "not a label key"),
        ] {
            let refused = selector.parse::<Selector>().unwrap_err();
            assert!(refused.reason.contains(why), "{selector}: {refused}");
            assert!(
                refused.to_string().contains(selector.get(..3).unwrap()),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_object_form_reads_both_parts() {
        let object: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["db"]},
                {"key": "canary", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        let selector = Selector::from_object(&object).unwrap();
        assert_eq!(selector.to_string(), "app=shop,tier!=db,!canary");
        assert_eq!(
            selector
                .required_pair()
                .map(|(k, v)| (k.as_ref(), v.as_ref())),
            Some(("app", "shop"))
        );
        assert!(!selector.matches(&labels(&[("app", "shop"), ("canary", "")])));

        let bad: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchExpressions": [{"key": "tier", "operator": "In"}],
        }))
        .unwrap();
        assert!(
            Selector::from_object(&bad)
                .unwrap_err()
                .reason
                .contains("must not be empty")
        );
    }
}
