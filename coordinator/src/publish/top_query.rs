//! What is asked of `/api/v1/top/{pods,nodes}`.

use std::collections::{BTreeSet, HashMap};

use crate::world::{PodFacts, Selector};

/// So many rows where no limit is asked for.
const LIMIT: usize = 1_000;
/// The most rows that may be asked for: an answer of some megabytes.
const MOST: usize = 10_000;

/// By what the rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Cpu,
    Memory,
    Queue,
    /// The largest of the pressures.
    Pressure,
}

/// The query, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopQuery {
    /// All namespaces if absent.
    namespace: Option<String>,
    /// All names if empty.
    names: BTreeSet<String>,
    selector: Selector,
    pub(super) order: Order,
    pub(super) limit: usize,
}

impl TopQuery {
    /// Reads `namespace`, `names` (separated by commas), `selector`, `sort` and `limit`.
    ///
    /// # Errors
    /// A text that names the parameter, its value and what is allowed.
    pub(super) fn read(parameters: &HashMap<String, String>) -> Result<Self, String> {
        let get = |name: &str| parameters.get(name).map(String::as_str);
        const KNOWN: [&str; 5] = ["namespace", "names", "selector", "sort", "limit"];
        if let Some(unknown) = parameters
            .keys()
            .find(|name| !KNOWN.contains(&name.as_str()))
        {
            return Err(format!(
                "{unknown:?} is no parameter; allowed: {}",
                KNOWN.join(", ")
            ));
        }
        let order = match get("sort") {
            None | Some("cpu") => Order::Cpu,
            Some("memory") => Order::Memory,
            Some("queue") => Order::Queue,
            Some("pressure") => Order::Pressure,
            Some(other) => {
                return Err(format!(
                    "sort: {other:?} is not allowed; allowed: cpu, memory, queue, pressure"
                ));
            }
        };
        let limit = match get("limit") {
            None => LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MOST).contains(limit))
                .ok_or_else(|| format!("limit: {text:?} is not allowed; allowed: 1 to {MOST}"))?,
        };
        let selector = get("selector").unwrap_or_default();
        let names = get("names").unwrap_or_default();
        Ok(Self {
            namespace: get("namespace").map(str::to_owned),
            names: names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            selector: selector.parse().map_err(|error| format!("{error}"))?,
            order,
            limit,
        })
    }

    pub(super) fn wants_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(name)
    }

    pub(super) fn wants(&self, pod: &PodFacts) -> bool {
        let namespace = self.namespace.as_deref();
        namespace.is_none_or(|namespace| *namespace == *pod.namespace)
            && self.wants_name(&pod.name)
            && self.selector.matches(&pod.labels)
    }

    /// What of it has no meaning for nodes.
    pub(super) fn not_of_nodes(&self) -> Option<&'static str> {
        (!self.selector.selects_everything())
            .then_some("selector: the labels of nodes are not known to Neap; allowed: no selector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<TopQuery, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        TopQuery::read(&parameters.iter().map(owned).collect())
    }

    #[test]
    fn what_is_not_said_has_defaults() {
        let query = read(&[]).unwrap();
        assert_eq!((query.order, query.limit), (Order::Cpu, LIMIT));
        assert!(query.wants_name("any") && query.not_of_nodes().is_none());
        let query = read(&[("names", "a,b"), ("sort", "queue"), ("limit", "7")]).unwrap();
        assert_eq!((query.order, query.limit), (Order::Queue, 7));
        assert!(query.wants_name("b") && !query.wants_name("c"));
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let cases = [
            (
                ("sort", "disk"),
                "sort: \"disk\" is not allowed; allowed: cpu, memory, queue, pressure",
            ),
            (("limit", "0"), "allowed: 1 to 10000"),
            (("limit", "many"), "limit: \"many\""),
            (("limit", "10001"), "allowed: 1 to 10000"),
            (("selector", "a=("), "\"a=(\""),
            (("sortby", "cpu"), "\"sortby\" is no parameter"),
        ];
        for (parameter, part) in cases {
            let error = read(&[parameter]).unwrap_err();
            assert!(error.contains(part), "{parameter:?}: {error}");
        }
        let nodes = read(&[("selector", "a=b")]).unwrap();
        assert!(nodes.not_of_nodes().unwrap().contains("labels of nodes"));
    }
}
