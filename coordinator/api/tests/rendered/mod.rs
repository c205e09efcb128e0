//! The chart as real helm renders it. helm is taken from NEAP_HELM, or from the bed's cache; without
//! one the tests say so and pass.
#![allow(dead_code)] // each test program uses a part of it

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The Kubernetes release that the chart is rendered for.
pub(crate) const KUBE_VERSION: &str = "1.36.0";

pub(crate) fn root() -> PathBuf {
    Path::new("../..").canonicalize().unwrap()
}

pub(crate) fn helm() -> Option<PathBuf> {
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
pub(crate) fn render(helm: &Path, settings: &[&str]) -> Vec<Value> {
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
pub(crate) const MATRIX: &[&[&str]] = &[
    &[],
    &[
        "coordinator.replicas=1",
        "coordinator.persistence.enabled=true",
        "prometheusRule.enabled=true",
    ],
    &[
        "coordinator.replicas=5",
        "coordinator.podAntiAffinity=required",
    ],
    &["agent.profile=restricted"],
    &["coordinator.tls.secretName=given"],
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

pub(crate) fn typed<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object:#}"))
}

pub(crate) fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

pub(crate) fn find<'a>(objects: &'a [Value], wanted: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|o| kind(o) == wanted && o["metadata"]["name"] == name)
}
