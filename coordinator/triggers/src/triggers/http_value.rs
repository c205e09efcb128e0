//! One number out of an answer in JSON, YAML or Prometheus' text format.

use neap_units::Quantity;
use serde_json::Value;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Found by a GJSON path.
    Json,
    /// Found by keys and positions with dots between them.
    Yaml,
    /// Found by the name of a sample, with labels where they are needed.
    Prometheus,
    /// Accepted by KEDA, where it never gives a value.
    Xml,
}

/// The number at `location`, or why there is none. Texts are read as Kubernetes quantities.
pub(super) fn value_at(format: Format, body: &[u8], location: &str) -> Result<f64, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    match format {
        Format::Json => json(text, location),
        Format::Yaml => yaml(text, location),
        Format::Prometheus => prometheus(text, location),
        Format::Xml => Err("no value can be read from XML".to_owned()),
    }
}

fn json(text: &str, location: &str) -> Result<f64, String> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Err("it is not JSON".to_owned());
    }
    let value = gjson::get(text, location);
    match value.kind() {
        gjson::Kind::Number => Ok(value.f64()),
        gjson::Kind::String => quantity(value.str(), location),
        gjson::Kind::Array => Err(wrong(location, "list")),
        gjson::Kind::Object => Err(wrong(location, "map")),
        gjson::Kind::True | gjson::Kind::False => Err(wrong(location, "truth value")),
        _ => Err(wrong(location, "null, or nothing")),
    }
}

fn yaml(text: &str, location: &str) -> Result<f64, String> {
    let root: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML".to_owned())?;
    let mut at = &root;
    for key in location.split('.') {
        let next = match at {
            Value::Object(map) => map.get(key),
            Value::Array(list) => key
                .parse::<usize>()
                .ok()
                .and_then(|position| list.get(position)),
            // A value ends the way, as in KEDA.
            _ => break,
        };
        at = next
            .ok_or_else(|| format!("it has no {key:?} on the way to valueLocation {location:?}"))?;
    }
    match at {
        Value::Number(number) => number
            .as_f64()
            .ok_or_else(|| wrong(location, "number that is too large")),
        Value::String(text) => quantity(text, location),
        Value::Bool(_) => Err(wrong(location, "truth value")),
        Value::Null => Err(wrong(location, "null")),
        Value::Array(_) => Err(wrong(location, "list")),
        Value::Object(_) => Err(wrong(location, "map")),
    }
}

fn quantity(text: &str, location: &str) -> Result<f64, String> {
    let quantity: Quantity = text
        .parse()
        .map_err(|_| wrong(location, "text that is not a quantity"))?;
    Ok(quantity.approximate_f64())
}

fn wrong(location: &str, found: &str) -> String {
    format!(
        "valueLocation {location:?} must lead to a number or a quantity, and leads to a {found}"
    )
}

/// The first sample with the name and all the labels of `location`.
fn prometheus(text: &str, location: &str) -> Result<f64, String> {
    let fault = || {
        format!(
            "valueLocation {location:?} must be the name of a sample, or name{{label=\"value\"}}"
        )
    };
    let (name, wanted) = sample(location.trim())
        .filter(|(_, _, rest)| rest.is_empty())
        .map(|(name, labels, _)| (name, labels))
        .ok_or_else(fault)?;
    if name.is_empty() {
        return Err(fault());
    }
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (own, labels, rest) = sample(line)
            .ok_or_else(|| "a line of it is not in Prometheus' text format".to_owned())?;
        if own == name && wanted.iter().all(|label| labels.contains(label)) {
            let value = rest.split_whitespace().next().unwrap_or_default();
            return value
                .parse()
                .map_err(|_| format!("the value of {location:?} is not a number"));
        }
    }
    Err(format!("it has no sample {location:?}"))
}

type Sample<'a> = (&'a str, Vec<(String, String)>, &'a str);

/// `name{label="value",..}` and what follows.
fn sample(text: &str) -> Option<Sample<'_>> {
    let end = text
        .find(|c: char| c == '{' || c.is_whitespace())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(mut rest) = rest.trim_start().strip_prefix('{') else {
        return Some((name, Vec::new(), rest.trim_start()));
    };
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((name, labels, rest.trim_start()));
        }
        let (label, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((label.trim().to_owned(), value));
        rest = after;
    }
}

/// A text in double quotes, with `\\`, `\"` and `\n`, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            character => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_json_by_gjson_paths() {
        let body = br#"{"components":[{"id":"a","tasks":32},{"id":"b","str":"64","mem":"1Ki"}],"count":2.43,"f":false}"#;
        for (location, value) in [
            ("count", 2.43),
            ("components.0.tasks", 32.0),
            ("components.1.str", 64.0),
            ("components.1.mem", 1024.0),
            ("components.#", 2.0),
            (r#"components.#(id=="a").tasks"#, 32.0),
        ] {
            assert_eq!(
                value_at(Format::Json, body, location),
                Ok(value),
                "{location}"
            );
        }
        for location in ["f", "nothing", "components", "components.0.id"] {
            assert!(
                value_at(Format::Json, body, location)
                    .is_err_and(|error| error.contains("must lead to")),
                "{location}"
            );
        }
        assert_eq!(
            value_at(Format::Json, b"{\"count\": 5", "count"),
            Err("it is not JSON".to_owned())
        );
        assert_eq!(
            value_at(Format::Json, b"\xff", "count"),
            Err("it is not UTF-8".to_owned())
        );
    }

    #[test]
    fn reads_yaml_by_keys_and_positions() {
        let body =
            b"components:\n- id: a\n  tasks: 32\n- id: b\n  mem: 500m\ncount: 2.43\nyes: true\n";
        for (location, value) in [
            ("count", 2.43),
            ("components.0.tasks", 32.0),
            ("components.1.mem", 0.5),
            ("count.more", 2.43),
        ] {
            assert_eq!(
                value_at(Format::Yaml, body, location),
                Ok(value),
                "{location}"
            );
        }
        for location in [
            "nothing",
            "components.7.tasks",
            "components",
            "components.0",
            "yes",
            "components.0.id",
        ] {
            assert!(
                value_at(Format::Yaml, body, location).is_err(),
                "{location}"
            );
        }
    }

    #[test]
    fn reads_samples_by_name_and_labels() {
        let body = b"# HELP backlog Waiting.\n# TYPE backlog gauge\nbacklog{queue=\"a\",kind=\"x, \\\"y\\\" }\"} 7 1700000000000\r\n\
                     backlog{queue=\"b\"} 1.5e1\nup 1\nbare NaN\n";
        for (location, value) in [
            ("up", 1.0),
            ("backlog", 7.0),
            ("backlog{queue=\"b\"}", 15.0),
            ("backlog{kind=\"x, \\\"y\\\" }\", queue=\"a\"}", 7.0),
        ] {
            assert_eq!(
                value_at(Format::Prometheus, body, location),
                Ok(value),
                "{location}"
            );
        }
        assert!(value_at(Format::Prometheus, body, "bare").is_ok_and(f64::is_nan));
        for location in [
            "down",
            "backlog{queue=\"c\"}",
            "backlog{queue=~\"a.*\"}",
            "backlog{queue=\"b\"",
            "{queue=\"b\"}",
            "up 1",
        ] {
            assert!(
                value_at(Format::Prometheus, body, location).is_err(),
                "{location}"
            );
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 4_000, ..Default::default() })]

        #[test]
        fn whatever_comes_gives_a_number_or_a_reason(
            body in "\\PC{0,40}|[\\[\\]{}\",:0-9a-c. \\n-]{0,60}",
            location in "\\PC{0,12}|[a-c0-9.#*?|@(){}\\[\\]\"=<>!%~:,\\\\-]{0,24}",
        ) {
            let fixed = r#"{"a":[{"b":1,"c":"x"},{"b":[1,2,{"a":3}],"c":null}],"b":"2k"}"#;
            for format in [Format::Json, Format::Yaml, Format::Prometheus] {
                for text in [body.as_str(), fixed] {
                    if let Err(reason) = value_at(format, text.as_bytes(), &location) {
                        proptest::prop_assert!(!reason.is_empty());
                    }
                }
            }
        }
    }
}
