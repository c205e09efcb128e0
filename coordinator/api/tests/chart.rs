//! The chart as real helm renders it: every object reads as its Kubernetes type, and the rights of
//! the coordinator are those that docs/rbac.md gives reasons for.
//!
//! helm is taken from NEAP_HELM, or from the bed's cache; without one the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, a panic is the report

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The Kubernetes release that the chart is rendered for.
const KUBE_VERSION: &str = "1.36.0";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn helm() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NEAP_HELM") {
        return Some(PathBuf::from(path));
    }
    let cache = match std::env::var_os("NEAP_CACHE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/neap"),
    };
    let beds = std::fs::read_dir(cache.join("bed")).ok()?;
    let mut found: Vec<PathBuf> = beds
        .filter_map(|bed| Some(bed.ok()?.path().join("bin/helm")))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().or_else(|| {
        println!("skipped: no helm; build it with tests/bed/build, or set NEAP_HELM");
        None
    })
}

/// The objects that the chart gives with these settings.
fn render(helm: &Path, settings: &[&str]) -> Vec<Value> {
    let mut command = Command::new(helm);
    command
        .args(["template", "neap"])
        .arg(root().join("charts/neap"))
        .args(["--namespace", "neap-system", "--kube-version", KUBE_VERSION]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("helm runs");
    assert!(
        output.status.success(),
        "helm template {settings:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("\n---\n")
        .map(|document| document.trim_start_matches("---\n"))
        .filter(|document| {
            document
                .lines()
                .any(|l| !l.is_empty() && !l.starts_with('#'))
        })
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{e}\n{document}"))
        })
        .collect()
}

/// Settings that together reach every branch of the templates.
const MATRIX: &[&[&str]] = &[
    &[],
    &[
        "coordinator.replicas=3",
        "coordinator.persistence.enabled=true",
    ],
    &[
        "coordinator.replicas=5",
        "coordinator.podAntiAffinity=required",
    ],
    &["agent.profile=restricted"],
    &["watchNamespaces={shop,billing}", "rbac.kedaNamespace=keda"],
    &[
        "watchNamespaces={shop}",
        "rbac.secrets=none",
        "rbac.takeOver=false",
    ],
    &[
        "rbac.secrets=namespaces",
        "rbac.secretNamespaces={shop,billing}",
    ],
    &[
        "rbac.scaleKinds[0].apiGroup=apps",
        "rbac.scaleKinds[0].resource=deployments",
        "rbac.scaleKinds[1].apiGroup=argoproj.io",
        "rbac.scaleKinds[1].resource=rollouts",
    ],
    &[
        "priorityClasses.create=true",
        "networkPolicy.enabled=false",
        "global.imageRegistry=registry.example.com:5000/mirror",
        "image.pullSecrets={one,two}",
        "commonLabels.team=a",
        "commonAnnotations.note=b",
        "coordinator.serviceAccount.name=keda-operator",
    ],
    &[
        "rbac.create=false",
        "coordinator.serviceAccount.create=false",
    ],
];

fn typed<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object:#}"))
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn find<'a>(objects: &'a [Value], wanted: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|o| kind(o) == wanted && o["metadata"]["name"] == name)
}

#[test]
fn every_object_reads_as_its_type_and_says_whose_it_is() {
    let Some(helm) = helm() else { return };
    for settings in MATRIX {
        let objects = render(&helm, settings);
        assert!(objects.len() >= 6, "{settings:?}");
        let mut seen = BTreeSet::new();
        for object in &objects {
            // Only the fields that a type knows survive reading; a misspelt one shows as a loss.
            let read = match kind(object) {
                "ClusterRole" => again::<ClusterRole>(object),
                "ClusterRoleBinding" => again::<ClusterRoleBinding>(object),
                "DaemonSet" => again::<DaemonSet>(object),
                "NetworkPolicy" => again::<NetworkPolicy>(object),
                "PodDisruptionBudget" => again::<PodDisruptionBudget>(object),
                "PriorityClass" => again::<PriorityClass>(object),
                "Role" => again::<Role>(object),
                "RoleBinding" => again::<RoleBinding>(object),
                "Service" => again::<Service>(object),
                "ServiceAccount" => again::<ServiceAccount>(object),
                "StatefulSet" => again::<StatefulSet>(object),
                other => panic!("{settings:?} renders a {other}"),
            };
            assert_eq!(
                lost(object, &read, ""),
                Vec::<String>::new(),
                "{settings:?} {object:#}"
            );
            let metadata = &object["metadata"];
            assert_eq!(metadata["labels"]["app.kubernetes.io/part-of"], "neap");
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "neap");
            let key = format!(
                "{} {} {}",
                kind(object),
                metadata["namespace"],
                metadata["name"]
            );
            assert!(seen.insert(key.clone()), "{settings:?} renders {key} twice");
        }
    }
}

fn again<T: DeserializeOwned + serde::Serialize>(object: &Value) -> Value {
    serde_json::to_value(typed::<T>(object)).unwrap()
}

/// Fields of `given` that are not in `read`. Empty lists and maps may go.
fn lost(given: &Value, read: &Value, path: &str) -> Vec<String> {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => given
            .iter()
            .flat_map(|(name, value)| match read.get(name) {
                Some(found) => lost(value, found, &format!("{path}.{name}")),
                None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => vec![],
                None => vec![format!("{path}.{name}")],
            })
            .collect(),
        (Value::Array(given), Value::Array(read)) => given
            .iter()
            .zip(read)
            .enumerate()
            .flat_map(|(i, (g, r))| lost(g, r, &format!("{path}[{i}]")))
            .collect(),
        _ => vec![],
    }
}

fn pod(object: &Value) -> PodSpec {
    typed(&object["spec"]["template"]["spec"])
}

#[test]
fn no_pod_is_privileged_and_the_restricted_agent_has_nothing() {
    let Some(helm) = helm() else { return };
    for settings in MATRIX {
        let objects = render(&helm, settings);
        let restricted = settings.contains(&"agent.profile=restricted");
        for (workload, name) in [
            ("StatefulSet", "neap-coordinator"),
            ("DaemonSet", "neap-agent"),
        ] {
            let spec = pod(find(&objects, workload, name).unwrap());
            assert_eq!(spec.host_network, None, "{name}");
            assert_eq!(spec.host_ipc, None, "{name}");
            let agent_full = name == "neap-agent" && !restricted;
            assert_eq!(
                spec.host_pid.unwrap_or(false),
                agent_full,
                "{name} {settings:?}"
            );
            let pod_security = spec.security_context.clone().unwrap();
            assert_eq!(
                pod_security.run_as_non_root,
                (!agent_full).then_some(true),
                "{name}"
            );
            for container in &spec.containers {
                let security = container.security_context.clone().unwrap();
                assert_ne!(security.privileged, Some(true));
                assert_eq!(security.allow_privilege_escalation, Some(false));
                assert_eq!(security.read_only_root_filesystem, Some(true));
                let capabilities = security.capabilities.unwrap();
                assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
                assert_eq!(capabilities.add.unwrap_or_default().is_empty(), !agent_full);
                assert!(container.resources.as_ref().unwrap().requests.is_some());
                assert!(container.liveness_probe.is_some() && container.readiness_probe.is_some());
                for mount in container.volume_mounts.iter().flatten() {
                    let data = mount.name == "data";
                    assert_eq!(mount.read_only.unwrap_or(false), !data, "{}", mount.name);
                }
            }
        }
    }
}

#[test]
fn an_agents_only_token_is_neaps() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let spec = pod(find(&objects, "DaemonSet", "neap-agent").unwrap());
    assert_eq!(spec.automount_service_account_token, Some(false));
    let account: ServiceAccount = typed(find(&objects, "ServiceAccount", "neap-agent").unwrap());
    assert_eq!(account.automount_service_account_token, Some(false));
    let sources: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.projected.as_ref()?.sources.as_ref())
        .flatten()
        .collect();
    assert_eq!(sources.len(), 1);
    let token = sources[0].service_account_token.as_ref().unwrap();
    assert_eq!(
        (token.audience.as_deref(), token.path.as_str()),
        (Some("neap"), "token")
    );
    let ca = spec
        .volumes
        .iter()
        .flatten()
        .find(|v| v.name == "ca")
        .unwrap();
    let ca = ca.config_map.as_ref().unwrap();
    assert_eq!((ca.name.as_str(), ca.optional), ("neap-ca", Some(true)));
}

#[test]
fn a_budget_stands_only_where_there_is_someone_to_spare() {
    let Some(helm) = helm() else { return };
    for (replicas, budget) in [("1", false), ("3", true), ("5", true)] {
        let objects = render(&helm, &[&format!("coordinator.replicas={replicas}")]);
        let found = find(&objects, "PodDisruptionBudget", "neap-coordinator").is_some();
        assert_eq!(found, budget, "{replicas}");
        let set: StatefulSet = typed(find(&objects, "StatefulSet", "neap-coordinator").unwrap());
        let spec = set.spec.unwrap();
        assert_eq!(
            spec.replicas.map(|r| r.to_string()).as_deref(),
            Some(replicas)
        );
        assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
        assert_eq!(spec.service_name.as_deref(), Some("neap-coordinator-peers"));
    }
    let service: Service =
        typed(find(&render(&helm, &[]), "Service", "neap-coordinator-peers").unwrap());
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
}

#[test]
fn images_follow_registry_tag_and_digest() {
    let Some(helm) = helm() else { return };
    let image = |settings: &[&str]| {
        let objects = render(&helm, settings);
        pod(find(&objects, "DaemonSet", "neap-agent").unwrap()).containers[0]
            .image
            .clone()
            .unwrap()
    };
    assert_eq!(
        image(&["global.imageRegistry=mirror.example.com", "image.tag=1.2.3"]),
        "mirror.example.com/neap-agent:1.2.3"
    );
    assert_eq!(
        image(&[
            "image.registry=",
            "agent.image.repository=localhost/neap-agent",
            "agent.image.tag=dev"
        ]),
        "localhost/neap-agent:dev"
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        image(&["image.registry=r", &format!("agent.image.digest={digest}")]),
        format!("r/neap-agent@{digest}")
    );
}

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
        "rbac.secrets=cluster" if secrets != "cluster" => return vec![],
        "rbac.secrets=namespaces" if secrets != "namespaces" => return vec![],
        "rbac.secrets not none" if secrets == "none" => return vec![],
        "rbac.secrets=cluster" | "rbac.secrets=namespaces" | "rbac.secrets not none" => false,
        "a named kind outside apps" => true,
        other => panic!("docs/rbac.md: condition {other:?} is not known"),
    };
    if rule.0 == "keda" && watched && value("rbac.kedaNamespace").is_none() {
        return vec![];
    }
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
