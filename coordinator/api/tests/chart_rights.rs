//! The rights of the coordinator are those that docs/rbac.md gives reasons for, no more and no less.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, a panic is the report

mod rendered;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use rendered::{MATRIX, helm, kind, render, root, typed};
use serde_json::Value;

/// A rule as the table writes it: role, groups, resources, names, verbs.
type Rule = (String, String, String, String, String);

#[test]
fn every_right_has_its_reason_and_every_reason_its_right() {
    let Some(helm) = helm() else { return };
    let table = table();
    assert!(table.len() > 20);
    for settings in MATRIX.iter().filter(|s| !s.contains(&"rbac.create=false")) {
        let objects = render(&helm, settings);
        let expected: BTreeSet<Rule> = table
            .iter()
            .flat_map(|(rule, when)| expand(rule, when, settings))
            .collect();
        let rendered: BTreeSet<Rule> = objects
            .iter()
            .filter(|o| matches!(kind(o), "Role" | "ClusterRole"))
            .flat_map(rules)
            .collect();
        let unexplained: Vec<_> = rendered.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&rendered).collect();
        assert!(
            unexplained.is_empty() && missing.is_empty(),
            "{settings:?}\nin the chart, not in docs/rbac.md: {unexplained:#?}\nin docs/rbac.md, not in the chart: {missing:#?}"
        );
    }
}

#[test]
fn roles_stand_where_they_are_meant_to() {
    let Some(helm) = helm() else { return };
    let places = |settings: &[&str]| -> Vec<String> {
        let mut places: Vec<String> = render(&helm, settings)
            .iter()
            .filter(|o| matches!(kind(o), "RoleBinding" | "ClusterRoleBinding"))
            .map(|o| {
                assert_eq!(o["subjects"][0]["namespace"], "neap-system");
                let name = o["metadata"]["name"].as_str().unwrap();
                assert_eq!(o["roleRef"]["name"], name);
                match o["metadata"]["namespace"].as_str() {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name.to_owned(),
                }
            })
            .collect();
        places.sort();
        places
    };
    assert_eq!(
        places(&[]),
        [
            "neap-coordinator",
            "neap-coordinator-keda",
            "neap-coordinator-served",
            "neap-system/neap-coordinator",
        ]
    );
    assert_eq!(
        places(&[
            "watchNamespaces={shop,billing}",
            "rbac.kedaNamespace=keda",
            "rbac.secrets=namespaces",
            "rbac.secretNamespaces={shop}"
        ]),
        [
            "billing/neap-coordinator-served",
            "keda/neap-coordinator-keda",
            "neap-coordinator",
            "neap-system/neap-coordinator",
            "shop/neap-coordinator-secrets",
            "shop/neap-coordinator-served",
        ]
    );
    assert_eq!(
        places(&["watchNamespaces={shop}"]),
        [
            "neap-coordinator",
            "neap-coordinator-keda",
            "neap-system/neap-coordinator",
            "shop/neap-coordinator-served",
        ],
        "KEDA may live outside of what is watched"
    );
    assert!(places(&["rbac.create=false"]).is_empty());
}

/// The rows of docs/rbac.md with the condition under which each holds.
fn table() -> Vec<(Rule, String)> {
    let text = std::fs::read_to_string(root().join("docs/rbac.md")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 9 && cells[1] != "role")
        .map(|cells| {
            assert!(!cells[7].is_empty(), "no reason: {cells:?}");
            let rule = (
                cells[1].to_owned(),
                sorted(cells[2].split(", ")),
                sorted(cells[3].split(", ")),
                sorted(cells[4].split(", ")),
                sorted(cells[5].split(", ")),
            );
            (rule, cells[6].to_owned())
        })
        .collect()
}

fn sorted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// The rules that a row stands for with these settings: none if its condition does not hold, one
/// per kind where it speaks of GROUP and RESOURCE.
fn expand(rule: &Rule, when: &str, settings: &[&str]) -> Vec<Rule> {
    let value = |name: &str| -> Option<&str> {
        settings
            .iter()
            .find_map(|s| s.strip_prefix(name)?.strip_prefix('='))
    };
    let secrets = value("rbac.secrets").unwrap_or("cluster");
    let watched = value("watchNamespaces").is_some();
    let named_only = match when {
        "always" => false,
        "watchNamespaces empty" if watched => return vec![],
        "watchNamespaces empty" => false,
        "rbac.takeOver" if value("rbac.takeOver") == Some("false") => return vec![],
        "rbac.takeOver" => false,
        "coordinator.tls.secretName empty" if value("coordinator.tls.secretName").is_some() => {
            return vec![];
        }
        "coordinator.tls.secretName empty" => false,
        "rbac.secrets=cluster" if secrets != "cluster" => return vec![],
        "rbac.secrets=namespaces" if secrets != "namespaces" => return vec![],
        "rbac.secrets not none" if secrets == "none" => return vec![],
        "rbac.secrets=cluster" | "rbac.secrets=namespaces" | "rbac.secrets not none" => false,
        "a named kind outside apps" => true,
        other => panic!("docs/rbac.md: condition {other:?} is not known"),
    };
    if rule.1 != "GROUP" {
        return vec![rule.clone()];
    }
    let mut kinds = Vec::new();
    while let Some(group) = value(&format!("rbac.scaleKinds[{}].apiGroup", kinds.len())) {
        let resource = value(&format!("rbac.scaleKinds[{}].resource", kinds.len())).unwrap();
        kinds.push((group, resource));
    }
    if kinds.is_empty() {
        kinds.push(("*", "*"));
    }
    kinds
        .into_iter()
        .filter(|(group, resource)| {
            !named_only || !(["*", "apps"].contains(group) || *resource == "*")
        })
        .map(|(group, resource)| {
            let mut rule = rule.clone();
            rule.1 = group.to_owned();
            rule.2 = rule.2.replace("RESOURCE", resource);
            rule
        })
        .collect()
}

/// The rules of a Role or ClusterRole in the table's form.
fn rules(object: &Value) -> Vec<Rule> {
    let roles = BTreeMap::from([
        (("ClusterRole", "neap-coordinator"), "cluster"),
        (("ClusterRole", "neap-coordinator-served"), "served"),
        (("Role", "neap-coordinator-served"), "served"),
        (("ClusterRole", "neap-coordinator-keda"), "keda"),
        (("Role", "neap-coordinator-keda"), "keda"),
        (("Role", "neap-coordinator-secrets"), "secrets"),
        (("Role", "neap-coordinator"), "own"),
    ]);
    let name = object["metadata"]["name"].as_str().unwrap();
    let role = roles
        .get(&(kind(object), name))
        .unwrap_or_else(|| panic!("{} {name} is not in docs/rbac.md", kind(object)));
    let rules: Vec<PolicyRule> = typed(&object["rules"]);
    let words = |list: Option<Vec<String>>| -> String {
        let list = list.unwrap_or_default();
        sorted(list.iter().map(|w| if w.is_empty() { "core" } else { w }))
    };
    rules
        .into_iter()
        .map(|rule| {
            let resources = rule.resources.or(rule.non_resource_urls);
            (
                (*role).to_owned(),
                words(rule.api_groups),
                words(resources),
                words(rule.resource_names),
                words(Some(rule.verbs)),
            )
        })
        .collect()
}
