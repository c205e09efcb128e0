//! JSON merge patches (RFC 7396).

use serde_json::{Map, Value};

/// The merge patch that makes `to` of `from`; `None` where they are equal.
pub(super) fn diff(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return Some(to.clone());
    };
    let mut patch = Map::new();
    for field in from.keys().filter(|field| !to.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    for (field, value) in to {
        match from.get(field) {
            None => {
                patch.insert(field.clone(), value.clone());
            }
            Some(former) => {
                if let Some(change) = diff(former, value) {
                    patch.insert(field.clone(), change);
                }
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_in_the_patch() {
        let from = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1, 2], "gone": true});
        let to = json!({"a": 1, "b": {"c": 2, "d": 4}, "e": [1], "new": "x"});
        let patch = json!({"b": {"d": 4}, "e": [1], "gone": null, "new": "x"});
        assert_eq!(diff(&from, &to), Some(patch));
        assert_eq!(diff(&to, &to), None);
        assert_eq!(diff(&Value::Null, &json!({"a": 1})), Some(json!({"a": 1})));
    }
}
