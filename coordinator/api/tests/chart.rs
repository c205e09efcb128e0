//! Every object of the chart reads as its Kubernetes type, and has what pods may and may not have.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, a panic is the report

mod rendered;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{PodSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use rendered::{MATRIX, find, helm, kind, render, typed};
use serde::de::DeserializeOwned;
use serde_json::Value;

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
                // Not a type of Kubernetes itself; promtool reads the rules.
                "PrometheusRule" => object.clone(),
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
fn alerts_are_made_where_they_are_asked_for_and_each_has_a_section_in_the_runbook() {
    let Some(helm) = helm() else { return };
    assert!(find(&render(&helm, &[]), "PrometheusRule", "neap").is_none());
    let objects = render(
        &helm,
        &["prometheusRule.enabled=true", "prometheusRule.labels.a=b"],
    );
    let rule = find(&objects, "PrometheusRule", "neap").unwrap();
    assert_eq!(rule["metadata"]["labels"]["a"], "b");
    let runbook = std::fs::read_to_string(rendered::root().join("docs/runbook.md")).unwrap();
    let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 8);
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        assert!(runbook.contains(&format!("\n## {alert}\n")), "{alert}");
        let link = format!("docs/runbook.md#{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], link.as_str());
    }
}

#[test]
fn replicas_keep_apart_and_their_state_lies_where_it_is_asked_to() {
    let Some(helm) = helm() else { return };
    let set = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let set: StatefulSet = typed(find(&objects, "StatefulSet", "neap-coordinator").unwrap());
        set.spec.unwrap()
    };
    let usual = set(&[]);
    assert_eq!(usual.replicas, Some(3));
    let spec = usual.template.spec.unwrap();
    let apart = spec.affinity.unwrap().pod_anti_affinity.unwrap();
    let preferred = apart
        .preferred_during_scheduling_ignored_during_execution
        .unwrap();
    assert_eq!(
        preferred[0].pod_affinity_term.topology_key,
        "kubernetes.io/hostname"
    );
    let zones = spec.topology_spread_constraints.unwrap();
    assert_eq!(zones[0].topology_key, "topology.kubernetes.io/zone");
    assert_eq!(zones[0].when_unsatisfiable, "ScheduleAnyway");
    assert!(spec.volumes.unwrap()[0].empty_dir.is_some());
    assert_eq!(usual.volume_claim_templates, None);

    let claimed = set(&[
        "coordinator.persistence.enabled=true",
        "coordinator.podAntiAffinity=required",
    ]);
    assert_eq!(claimed.volume_claim_templates.unwrap().len(), 1);
    let spec = claimed.template.spec.unwrap();
    assert_eq!(spec.volumes, None);
    let apart = spec.affinity.unwrap().pod_anti_affinity.unwrap();
    let required = apart.required_during_scheduling_ignored_during_execution;
    assert_eq!(required.unwrap()[0].topology_key, "kubernetes.io/hostname");
}

#[test]
fn certificates_of_someone_else_are_mounted_and_the_authority_is_out_of_reach() {
    let Some(helm) = helm() else { return };
    for claimed in ["false", "true"] {
        let claimed = format!("coordinator.persistence.enabled={claimed}");
        for (secret, expected) in [("", None), ("given", Some("given"))] {
            let name = format!("coordinator.tls.secretName={secret}");
            let objects = render(&helm, &[&name, &claimed]);
            let spec = pod(find(&objects, "StatefulSet", "neap-coordinator").unwrap());
            let volumes = spec.volumes.unwrap_or_default();
            let volume = volumes.iter().find(|volume| volume.name == "tls");
            let source = volume.and_then(|volume| volume.secret.as_ref());
            assert_eq!(
                source.and_then(|s| s.secret_name.as_deref()),
                expected,
                "{claimed}"
            );
            let container = &spec.containers[0];
            let mount = container.volume_mounts.iter().flatten();
            let mount = mount
                .filter(|mount| mount.name == "tls")
                .collect::<Vec<_>>();
            assert_eq!(mount.len(), usize::from(expected.is_some()));
            // A file that is mounted by itself would stay as it was when the Secret changes.
            assert!(mount.iter().all(|mount| mount.sub_path.is_none()));
            let env = container.env.iter().flatten();
            let dir = env
                .filter(|env| env.name == "NEAP_TLS_DIR")
                .collect::<Vec<_>>();
            assert_eq!(
                dir.first().and_then(|env| env.value.as_deref()),
                mount.first().map(|mount| mount.mount_path.as_str())
            );
            let role: Role = typed(find(&objects, "Role", "neap-coordinator").unwrap());
            let may_write = role.rules.iter().flatten().any(|rule| {
                let secrets = rule.resources.iter().flatten().any(|r| r == "secrets");
                secrets && rule.verbs.iter().any(|verb| verb != "get")
            });
            assert_eq!(may_write, expected.is_none());
        }
    }
}

/// Each change of the pod template restarts all pods, and without claims takes their disks.
#[test]
fn neither_replicas_nor_a_recovery_change_the_pods() {
    let Some(helm) = helm() else { return };
    let set = |settings: &[&str]| {
        let objects = render(&helm, settings);
        find(&objects, "StatefulSet", "neap-coordinator")
            .unwrap()
            .clone()
    };
    let usual = set(&[]);
    assert_eq!(usual["metadata"]["annotations"], Value::Null);
    let words = "4f1c9a0b7d2e6358.1@neap-coordinator-1";
    let recovered = set(&[&format!("coordinator.recover={words}")]);
    assert_eq!(
        recovered["metadata"]["annotations"],
        serde_json::json!({"neap.dev/recover": words})
    );
    let grown = set(&["coordinator.replicas=5"]);
    for changed in [&recovered, &grown] {
        assert_eq!(changed["spec"]["template"], usual["spec"]["template"]);
    }
    // Beside those that all objects have.
    let common = set(&[
        "commonAnnotations.owner=platform",
        &format!("coordinator.recover={words}"),
    ]);
    assert_eq!(
        common["metadata"]["annotations"],
        serde_json::json!({"neap.dev/recover": words, "owner": "platform"})
    );
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
