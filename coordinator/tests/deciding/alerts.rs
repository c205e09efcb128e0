//! Every metric that an alert names is one that a coordinator shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use neap_coordinator::identity::Expiry;
use neap_coordinator::metrics::CertificateCollector;
use serde_json::json;

use crate::bench::Bench;

/// Names of metrics in the expressions of a rule file.
fn named(rules: &str) -> BTreeSet<String> {
    let text: Vec<&str> = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let text = text.join("\n");
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words
        .filter(|word| word.starts_with("neap_") || word.starts_with("kube_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_name_metrics_that_exist() {
    let root = Path::new("..");
    let rules = std::fs::read_to_string(root.join("charts/neap/files/alerts.yaml")).unwrap();
    let names = named(&rules);
    assert!(names.len() >= 12, "{names:?}");

    // A target that is scaled shows what exists per target.
    let bench = Bench::start().await;
    bench.metrics.add_collector(Box::new(CertificateCollector {
        expiry: Box::new(|| {
            Some(Expiry {
                coordinator: jiff::Timestamp::UNIX_EPOCH,
                authority: jiff::Timestamp::UNIX_EPOCH,
            })
        }),
    }));
    bench.deployment("web", 1);
    let triggers = json!([{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}]);
    bench.scaled_object("web", json!({"maxReplicaCount": 9, "triggers": triggers}));
    for n in 0..3 {
        bench.pod("producer", n);
    }
    bench.advance(Duration::from_millis(50));
    bench.scaler.write(0).await;
    bench.advance(Duration::from_secs(2));
    bench.evaluate("web").await;
    let shown = bench
        .passing(async {
            loop {
                let text = bench.text();
                if text.contains("kube_horizontalpodautoscaler_status_desired_replicas{") {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| {
            let sample = |line: &str| {
                let rest = line.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            !shown.lines().any(sample)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?} in\n{shown}");
}
