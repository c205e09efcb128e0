//! The definitions in the chart are the ones that the types give, and are what KEDA's users know.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, a panic is the report

use std::path::PathBuf;

use neap_api::crd;
use serde_json::{Value, json};

/// Beyond this, client-side `kubectl apply` cannot keep a definition in its annotation.
const MAX_BYTES: usize = 200 * 1024;

fn chart_directory() -> PathBuf {
    PathBuf::from("../../charts/neap/charts/neap-crds/crds")
}

fn definition(kind: &str) -> Value {
    crd::all()
        .into_iter()
        .find(|d| d["spec"]["names"]["kind"] == kind)
        .unwrap_or_else(|| panic!("no definition of {kind}"))
}

#[test]
fn the_chart_carries_what_the_types_give() {
    let files = crd::files().unwrap();
    assert_eq!(files.len(), 4);
    for file in &files {
        let path = chart_directory().join(&file.name);
        let committed = std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; run crdgen", path.display()));
        assert!(
            committed == file.yaml,
            "{} is out of date: run cargo run -p neap-api --bin crdgen",
            path.display()
        );
        assert!(
            file.yaml.len() < MAX_BYTES,
            "{}: {} bytes",
            file.name,
            file.yaml.len()
        );
    }
    let found = std::fs::read_dir(chart_directory()).unwrap().count();
    assert_eq!(found, files.len(), "a file that no type gives");
}

#[test]
fn yaml_reads_back_as_the_definition() {
    for (file, definition) in crd::files().unwrap().iter().zip(crd::all()) {
        let read: Value = serde_saphyr::from_str(&file.yaml).unwrap();
        assert_eq!(read, definition, "{}", file.name);
        let typed: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(read).unwrap();
        assert_eq!(typed.spec.versions.len(), 1);
    }
}

#[test]
fn kubectl_shows_kedas_columns() {
    let columns = |kind: &str| -> Vec<String> {
        definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                let shown = if c["priority"].as_i64().unwrap_or(0) == 0 {
                    ""
                } else {
                    " (wide)"
                };
                format!("{}{shown}", c["name"].as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(
        columns("ScaledObject"),
        [
            "ScaleTargetKind",
            "ScaleTargetName",
            "Min",
            "Max",
            "Ready",
            "Active",
            "Fallback",
            "Paused",
            "Triggers",
            "Authentications",
            "Age",
        ]
    );
    assert_eq!(
        columns("ScaledJob"),
        [
            "Min",
            "Max",
            "Ready",
            "Active",
            "Paused",
            "Triggers",
            "Authentications",
            "Age"
        ]
    );
    assert_eq!(
        columns("ClusterTriggerAuthentication"),
        [
            "PodIdentity",
            "Secret",
            "Env",
            "FilePath",
            "VaultAddress",
            "ScaledObjects (wide)",
            "ScaledJobs (wide)",
        ]
    );
}

#[test]
fn names_scopes_and_subresources_are_kedas() {
    for (kind, short, scope) in [
        ("ScaledObject", json!(["so"]), "Namespaced"),
        ("ScaledJob", json!(["sj"]), "Namespaced"),
        (
            "TriggerAuthentication",
            json!(["ta", "triggerauth"]),
            "Namespaced",
        ),
        (
            "ClusterTriggerAuthentication",
            json!(["cta", "clustertriggerauth"]),
            "Cluster",
        ),
    ] {
        let spec = &definition(kind)["spec"];
        assert_eq!(spec["group"], "keda.sh");
        assert_eq!(spec["names"]["shortNames"], short, "{kind}");
        assert_eq!(spec["scope"], scope, "{kind}");
        let version = &spec["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["subresources"], json!({"status": {}}), "{kind}");
        assert_eq!(
            version["schema"]["openAPIV3Schema"]["required"],
            json!(["spec"]),
            "{kind}"
        );
    }
}

#[test]
fn schemas_are_structural_and_refuse_null() {
    fn walk(node: &Value, path: &str) {
        if let Some(map) = node.as_object() {
            assert!(!map.contains_key("$ref"), "{path} refers elsewhere");
            assert_ne!(
                map.get("nullable"),
                Some(&Value::Bool(true)),
                "{path} is nullable"
            );
            let structural = map.contains_key("type")
                || map.contains_key("x-kubernetes-int-or-string")
                || map.contains_key("x-kubernetes-preserve-unknown-fields");
            assert!(structural, "{path} has no type: {node}");
            if let Some(properties) = map.get("properties").and_then(Value::as_object) {
                for (name, child) in properties {
                    walk(child, &format!("{path}.{name}"));
                }
            }
            for key in ["items", "additionalProperties"] {
                if let Some(child) = map.get(key) {
                    walk(child, &format!("{path}[{key}]"));
                }
            }
        }
    }
    for definition in crd::all() {
        let kind = definition["spec"]["names"]["kind"]
            .as_str()
            .unwrap()
            .to_owned();
        walk(
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &kind,
        );
    }
}
