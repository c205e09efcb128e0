//! Names of containers and resources as Kubernetes checks them. Each check gives one message per
//! rule that is broken, as many as Kubernetes reports.

/// Resources that a container can request, besides huge pages and extended ones.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// All resources that Kubernetes knows without a prefix, besides huge pages.
const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

const HUGE_PAGES: &str = "hugepages-";

/// The name of a resource that a container can request.
pub(crate) fn container_resource(name: &str) -> Vec<&'static str> {
    let mut broken = qualified(name);
    let is_of_containers = OF_CONTAINERS.contains(&name) || name.starts_with(HUGE_PAGES);
    if name.contains('/') {
        let is_native = name.contains("kubernetes.io/");
        if !is_native && !is_extended(name) {
            broken.push("must be the name of an extended resource");
        }
        return broken;
    }
    let is_standard = STANDARD.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-");
    if broken.is_empty() && !is_standard {
        broken.push("must be a standard resource type or fully qualified");
    }
    if !is_of_containers {
        broken.push("must be a standard resource for containers");
    }
    broken
}

/// Whether the name would also do in a quota, where extended resources get a prefix.
fn is_extended(name: &str) -> bool {
    !name.starts_with("requests.") && qualified(&format!("requests.{name}")).is_empty()
}

/// `PREFIX/NAME` or `NAME`.
fn qualified(text: &str) -> Vec<&'static str> {
    let mut broken = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            broken.extend(subdomain(prefix));
            name
        }
        _ => return vec!["must be NAME or PREFIX/NAME"],
    };
    if name.is_empty() {
        broken.push("the name must not be empty");
    } else if name.len() > 63 {
        broken.push("the name must be at most 63 characters");
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let at_ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if !(bytes.iter().all(|b| inside(*b)) && at_ends(bytes.first()) && at_ends(bytes.last())) {
        broken.push(
            "the name must be letters, digits, '-', '_' and '.', a letter or digit at either end",
        );
    }
    broken
}

fn subdomain(text: &str) -> Vec<&'static str> {
    if text.is_empty() {
        return vec!["the prefix must not be empty"];
    }
    let mut broken = Vec::new();
    if text.len() > 253 {
        broken.push("the prefix must be at most 253 characters");
    }
    if !text.split('.').all(is_label) {
        broken.push("the prefix must be a DNS subdomain");
    }
    broken
}

/// The name of a container: an RFC 1123 label.
pub(crate) fn label(text: &str) -> Vec<&'static str> {
    let mut broken = Vec::new();
    if text.len() > 63 {
        broken.push("must be at most 63 characters");
    }
    if !is_label(text) {
        broken.push("must be a-z, 0-9 and '-', not '-' at either end");
    }
    broken
}

fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_break_as_many_rules_as_kubernetes_counts() {
        let cases = [
            ("cpu", 0),
            ("hugepages-2Mi", 0),
            ("hugepages-", 1),
            ("example.com/gpu", 0),
            ("kubernetes.io/x", 0),
            // Known, but not to containers.
            ("pods", 1),
            // Neither known nor of containers.
            ("gpu", 2),
            ("bad name", 2),
            ("nvidia.com/", 3),
            ("x/y/z", 2),
            ("requests.example.com/x", 1),
        ];
        for (name, broken) in cases {
            assert_eq!(container_resource(name).len(), broken, "{name}");
        }
    }

    #[test]
    fn labels_break_one_rule_or_both() {
        let long = "a".repeat(64);
        let cases = [("app", 0), ("App", 1), ("a-", 1), (&long, 1)];
        for (name, broken) in cases {
            assert_eq!(label(name).len(), broken, "{name}");
        }
        assert_eq!(label(&"A".repeat(64)).len(), 2);
    }
}
