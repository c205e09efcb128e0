//! Triggers against observed facts of KEDA: which configurations it refuses, what it names the
//! metrics, what their targets are, and what it reads from the metadata.
//!
//! The facts are lines of JSON, files `keda_triggers*.jsonl` or `.jsonl.gz`, in the directory that
//! `NEAP_KEDA_VECTORS` names, or else in `../shared/vectors` beside the checkout. Their inputs come from the unit
//! tests of kedacore/keda (Apache-2.0). Lines of trigger types that Neap does not have are counted
//! apart.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neap_triggers::{
    BuiltTrigger, MetricSpec, PodIdentity, ResourceTarget, ScalableObject, Target, TriggerConfig,
    TriggerContext, build, implemented_types,
};
use neap_units::{MilliValue, Quantity};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fact {
    id: String,
    trigger: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    auth_params: BTreeMap<String, String>,
    #[serde(default)]
    resolved_env: BTreeMap<String, String>,
    pod_identity: Option<String>,
    #[serde(default)]
    pod_identity_detail: BTreeMap<String, String>,
    metric_type: Option<String>,
    trigger_index: u32,
    #[serde(default)]
    context: Context,
    expect: Expect,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    #[serde(default)]
    scalable_object_name: String,
    #[serde(default)]
    scalable_object_namespace: String,
    #[serde(default)]
    scalable_object_type: String,
    trigger_name: Option<String>,
    #[serde(rename = "globalHTTPTimeoutMs")]
    global_http_timeout_ms: Option<u64>,
    #[serde(default)]
    as_metric_source: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expect {
    error: bool,
    message: Option<String>,
    metric_name: Option<String>,
    metrics: Option<Vec<Metric>>,
    parsed: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    resource: Option<String>,
    container: Option<String>,
    target_type: String,
    average_value: Option<String>,
    value: Option<String>,
    average_utilization: Option<i32>,
}

impl Fact {
    fn config(&self, context: &TriggerContext) -> TriggerConfig {
        let mut config = TriggerConfig::new(&self.trigger, context.clone());
        config.name = self.context.trigger_name.clone();
        config.metadata = self.metadata.clone();
        config.auth_params = self.auth_params.clone().into();
        config.resolved_env = self.resolved_env.clone().into();
        let identity = |key: &str| {
            self.pod_identity_detail
                .get(key)
                .cloned()
                .unwrap_or_default()
        };
        config.pod_identity = PodIdentity {
            provider: self.pod_identity.clone().unwrap_or_default(),
            identity_id: identity("identityId"),
            identity_tenant_id: identity("identityTenantId"),
            identity_authority_host: identity("identityAuthorityHost"),
            role_arn: identity("roleArn"),
            identity_owner: identity("identityOwner"),
            external_id: identity("externalID"),
        };
        config.metric_type = self.metric_type.clone();
        config.index = self.trigger_index;
        config.object = ScalableObject {
            namespace: self.context.scalable_object_namespace.clone(),
            name: self.context.scalable_object_name.clone(),
            kind: self.context.scalable_object_type.clone(),
        };
        config.as_metric_source = self.context.as_metric_source;
        if let Some(millis) = self.context.global_http_timeout_ms {
            config.http_timeout = Duration::from_millis(millis);
        }
        config
    }

    /// Every difference between what KEDA does and what Neap does.
    fn differences(&self, context: &TriggerContext) -> Vec<String> {
        let built = match build(&self.config(context)) {
            Ok(_) if self.expect.error => {
                return vec![format!(
                    "accepted; KEDA: {}",
                    self.expect.message.as_deref().unwrap_or("refused")
                )];
            }
            Err(error) if !self.expect.error => return vec![format!("refused: {error}")],
            Err(error) => {
                assert!(error.to_string().len() > 20, "{error}");
                return Vec::new();
            }
            Ok(built) => built,
        };
        let mut differences = Vec::new();
        if let Some(expected) = &self.expect.metric_name {
            let name = built.metrics.first().map(|metric| &metric.name);
            if name != Some(expected) {
                differences.push(format!("metric name {name:?}, expected {expected:?}"));
            }
        }
        if let Some(expected) = &self.expect.metrics {
            if expected.len() != built.metrics.len() {
                differences.push(format!(
                    "{} metrics, expected {}",
                    built.metrics.len(),
                    expected.len()
                ));
            }
            for (expected, metric) in expected.iter().zip(&built.metrics) {
                if !expected.is(metric) {
                    differences.push(format!("metric {metric:?}"));
                }
            }
        }
        if let Some(expected) = &self.expect.parsed {
            differences.extend(parsed_differences(expected, &built));
        }
        differences
    }
}

impl Metric {
    fn is(&self, metric: &MetricSpec) -> bool {
        match &metric.target {
            Target::External { kind, value } => {
                let text = if self.target_type == "AverageValue" {
                    &self.average_value
                } else {
                    &self.value
                };
                self.kind == "External"
                    && self.name.as_deref() == Some(&metric.name)
                    && self.target_type == kind.as_str()
                    && text.as_deref().map(milli) == Some(*value)
            }
            Target::Resource {
                resource,
                container,
                target,
            } => {
                let kind = if container.is_some() {
                    "ContainerResource"
                } else {
                    "Resource"
                };
                let same = match target {
                    ResourceTarget::Utilization(percent) => {
                        self.target_type == "Utilization"
                            && self.average_utilization == Some(*percent)
                    }
                    ResourceTarget::AverageValue(value) => {
                        self.target_type == "AverageValue"
                            && self.average_value.as_deref().map(milli) == Some(*value)
                    }
                };
                same && self.kind == kind
                    && self.resource.as_deref() == Some(resource.as_str())
                    && self.container == *container
            }
            Target::Pods { .. } => false,
        }
    }
}

fn milli(quantity: &str) -> MilliValue {
    quantity.parse::<Quantity>().expect(quantity).milli()
}

fn parsed_differences(expected: &Map<String, Value>, built: &BuiltTrigger) -> Vec<String> {
    // The one field that Neap adds to triggers of KEDA's.
    const OWN: &[&str] = &["window"];
    let ours = built.settings.to_json();
    let missing = expected
        .iter()
        .filter(|(name, value)| !ours.get(*name).is_some_and(|own| same(own, value)));
    let surplus = ours
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name) && !OWN.contains(&name.as_str()));
    missing
        .map(|(name, value)| {
            format!(
                "{name} is {:?}, expected {value}",
                ours.get(name).map(ToString::to_string)
            )
        })
        .chain(surplus.map(|(name, value)| format!("{name} is {value}, expected nothing")))
        .collect()
}

fn same(ours: &Value, expected: &Value) -> bool {
    match (ours.as_f64(), expected.as_f64()) {
        (Some(ours), Some(expected)) => ours == expected,
        _ => ours == expected,
    }
}

fn directory() -> PathBuf {
    match std::env::var_os("NEAP_KEDA_VECTORS") {
        Some(directory) => directory.into(),
        None => PathBuf::from("../../../shared/vectors"),
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .expect("gzip");
    } else {
        text = String::from_utf8(bytes).expect("UTF-8");
    }
    text
}

#[test]
fn triggers_are_those_of_keda() {
    let directory = directory();
    let named = std::env::var_os("NEAP_KEDA_VECTORS").is_some();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.map(|entry| entry.expect("entry").path()).collect(),
        Err(error) if named => panic!("NEAP_KEDA_VECTORS={}: {error}", directory.display()),
        Err(_) => Vec::new(),
    };
    files.retain(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.starts_with("keda_triggers")
            && (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz"))
    });
    files.sort();
    if files.is_empty() {
        assert!(
            !named,
            "no keda_triggers*.jsonl[.gz] in {}",
            directory.display()
        );
        println!(
            "skipped: no keda_triggers*.jsonl[.gz] in {}",
            directory.display()
        );
        return;
    }
    let context = TriggerContext::default();
    let implemented = implemented_types();
    let (mut checked, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    let mut absent = BTreeMap::<String, usize>::new();
    for line in files
        .iter()
        .flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let fact: Fact =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if !implemented.contains(&fact.trigger.as_str()) {
            assert!(build(&fact.config(&context)).is_err(), "{}", fact.id);
            *absent.entry(fact.trigger).or_default() += 1;
            continue;
        }
        *checked.entry(fact.trigger.clone()).or_default() += 1;
        for difference in fact.differences(&context) {
            wrong.push(format!("{}: {difference}", fact.id));
        }
    }
    println!(
        "checked {} cases of {} types: {checked:?}",
        checked.values().sum::<usize>(),
        checked.len()
    );
    println!(
        "types not implemented: {} cases of {} types: {:?}",
        absent.values().sum::<usize>(),
        absent.len(),
        absent.keys()
    );
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        !checked.is_empty(),
        "none of the cases is of a type that Neap has"
    );
}
