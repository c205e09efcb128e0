//! What KEDA admits and refuses, as observed on KEDA itself (Apache-2.0, kedacore/keda at commit
//! 8b4f083ca8c8). The facts stand beside the checkout, or in the directory that NEAP_KEDA_VECTORS
//! names; each file `keda_scaledobjects*.jsonl[.gz]` there is run.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in a test, a panic is the report

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::LimitRange;
use neap_api::validate::{self, Reason, Refusal, Request, Surroundings, Workload};
use neap_api::{
    ClusterTriggerAuthentication, ScaledJob, ScaledObject, TriggerAuthentication, schema,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    id: String,
    #[serde(default)]
    dry_run: bool,
    object: Value,
    old_object: Option<Value>,
    #[serde(default)]
    existing: Vec<Value>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    allowed: bool,
    #[serde(default)]
    denials: Vec<Denial>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Denial {
    layer: String,
    reason: String,
    message: String,
}

#[test]
fn objects_are_admitted_as_keda_admits_them() {
    let Some(directory) = directory() else {
        println!("skipped: no KEDA vectors at ../shared/vectors; set NEAP_KEDA_VECTORS");
        return;
    };
    let mut cases = 0;
    let mut faults = Vec::new();
    for text in files(&directory) {
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let case: Case = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            cases += 1;
            if let Err(fault) = run(&case) {
                faults.push(format!("{}: {fault}", case.id));
            }
        }
    }
    println!("{} of {cases} cases agree", cases - faults.len());
    assert!(cases > 0, "no case found in {}", directory.display());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn run(case: &Case) -> Result<(), String> {
    let kind = case.object["kind"].as_str().ok_or("no kind")?;
    let mut object = case.object.clone();
    let schema_errors = schema::admit(kind, &mut object).ok_or("unknown kind")?;
    let (refusals, warnings) = judge(case, kind, object)?;

    let allowed = schema_errors.is_empty() && refusals.is_empty();
    if allowed != case.expect.allowed {
        return Err(format!(
            "allowed = {allowed}, KEDA: {}\n  {schema_errors:?}\n  {refusals:?}",
            case.expect.allowed
        ));
    }
    let schema_denied = case.expect.denials.iter().any(|d| d.layer == "schema");
    if schema_denied == schema_errors.is_empty() {
        return Err(format!(
            "schema errors {schema_errors:?}, KEDA: {schema_denied}"
        ));
    }
    let ours: BTreeSet<(&str, &str)> = refusals
        .iter()
        .map(|r| (r.reason.as_str(), comparable(&r.message)))
        .collect();
    let kedas: BTreeSet<(&str, &str)> = case
        .expect
        .denials
        .iter()
        .filter(|d| d.layer == "webhook")
        .map(|d| (d.reason.as_str(), comparable(&d.message)))
        .collect();
    // Where the schema denies, KEDA's webhook never sees the object; ours names what it breaks too.
    let agree = if schema_denied {
        kedas.is_subset(&ours)
    } else {
        kedas == ours
    };
    if !agree {
        return Err(format!("refusals {ours:?}, KEDA: {kedas:?}"));
    }
    if allowed && warnings != case.expect.warnings {
        return Err(format!(
            "warnings {warnings:?}, KEDA: {:?}",
            case.expect.warnings
        ));
    }
    Ok(())
}

/// A message without the part that another implementation of the expression language words in
/// its own way.
fn comparable(message: &str) -> &str {
    const OTHER_WORDING: [&str; 2] = [
        "error validating formula in ScalingModifiers\n",
        "error validating target in ScalingModifiers\n",
    ];
    let known = message.ends_with("formula is given but target is empty");
    OTHER_WORDING
        .into_iter()
        .find(|start| message.starts_with(start) && !known)
        .unwrap_or(message)
}

fn judge(case: &Case, kind: &str, object: Value) -> Result<(Vec<Refusal>, Vec<String>), String> {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, String> {
        serde_json::from_value(value.clone()).map_err(|e| e.to_string())
    }
    fn exempt<K>(case: &Case, new: &K) -> Result<bool, String>
    where
        K: serde::de::DeserializeOwned + kube::Resource + kube::core::object::HasSpec,
        K::Spec: PartialEq,
    {
        let Some(old) = &case.old_object else {
            return Ok(false);
        };
        Ok(validate::only_removes_finalizers(&read::<K>(old)?, new))
    }
    let (exempt, refusals, warnings) = match kind {
        "ScaledObject" => {
            let so: ScaledObject = read(&object)?;
            let around = surroundings(&so, &case.existing)?;
            let request = Request {
                dry_run: case.dry_run,
            };
            let refusals = first_of_each_check(validate::scaled_object(&so, &around, request));
            (
                exempt(case, &so)?,
                refusals,
                validate::scaled_object_warnings(&so),
            )
        }
        "ScaledJob" => {
            let sj: ScaledJob = read(&object)?;
            (exempt(case, &sj)?, validate::scaled_job(&sj), vec![])
        }
        "TriggerAuthentication" => {
            let ta: TriggerAuthentication = read(&object)?;
            let refusals = validate::trigger_authentication(&ta.spec);
            (exempt(case, &ta)?, refusals, vec![])
        }
        "ClusterTriggerAuthentication" => {
            let cta: ClusterTriggerAuthentication = read(&object)?;
            let refusals = validate::trigger_authentication(&cta.spec);
            (exempt(case, &cta)?, refusals, vec![])
        }
        other => return Err(format!("kind {other}")),
    };
    if exempt {
        return Ok((vec![], vec![]));
    }
    Ok((refusals, warnings))
}

/// Each of KEDA's checks stops at its first fault; ours go on. One refusal per check is compared.
fn first_of_each_check(refusals: Vec<Refusal>) -> Vec<Refusal> {
    let mut seen = BTreeSet::new();
    let mut sorted = refusals;
    sorted.sort_by_key(|r| check_of(&r.reason));
    sorted.retain(|r| seen.insert(check_of(&r.reason).0));
    sorted
}

/// The check that gives a reason, and the reason's place in it.
fn check_of(reason: &Reason) -> (&'static str, u8) {
    match reason {
        Reason::OtherScaledObject => ("scaled objects", 0),
        Reason::OtherScaledObjectHpa => ("scaled objects", 1),
        Reason::ScalingModifiers => ("scaled objects", 2),
        Reason::ScalingModifiersFallback => ("scaled objects", 3),
        Reason::Unlabelled => ("containers", 0),
        Reason::MissingRequests => ("containers", 1),
        Reason::ScaleToZeroRequirementsNotMet => ("containers", 2),
        Reason::OtherHpa | Reason::TransferOwnershipMissingHpaName => ("hpas", 0),
        Reason::NameTooLong => ("names", 0),
        Reason::HpaNameTooLong => ("names", 1),
        Reason::IncorrectReplicas => ("replicas", 0),
        Reason::IncorrectFallback => ("fallback", 0),
        Reason::IncorrectTriggers => ("triggers", 0),
        _ => ("not KEDA's", 0),
    }
}

fn surroundings(so: &ScaledObject, existing: &[Value]) -> Result<Surroundings, String> {
    let target = &so.spec.scale_target_ref;
    let kind = target.group_version_kind().to_string();
    let mut around = Surroundings {
        workload: match kind.as_str() {
            "apps/v1.Deployment" | "apps/v1.StatefulSet" => Workload::Missing,
            _ => Workload::Unchecked,
        },
        ..Default::default()
    };
    let mut limit_ranges: Vec<LimitRange> = Vec::new();
    for object in existing {
        let fault = |e: serde_json::Error| format!("{e}: {object}");
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match object["kind"].as_str().unwrap_or_default() {
            "HorizontalPodAutoscaler" => {
                let hpa: HorizontalPodAutoscaler =
                    serde_json::from_value(object.clone()).map_err(fault)?;
                around.hpas.push((&hpa).into());
            }
            "ScaledObject" => {
                let other: ScaledObject = serde_json::from_value(object.clone()).map_err(fault)?;
                around.scaled_objects.push((&other).into());
            }
            "LimitRange" => {
                limit_ranges.push(serde_json::from_value(object.clone()).map_err(fault)?)
            }
            "Deployment" if kind.ends_with(".Deployment") && name == target.name => {
                let d: Deployment = serde_json::from_value(object.clone()).map_err(fault)?;
                if let Some(pod) = d.spec.and_then(|s| s.template.spec) {
                    around.workload = Workload::from(&pod);
                }
            }
            "StatefulSet" if kind.ends_with(".StatefulSet") && name == target.name => {
                let s: StatefulSet = serde_json::from_value(object.clone()).map_err(fault)?;
                if let Some(pod) = s.spec.and_then(|s| s.template.spec) {
                    around.workload = Workload::from(&pod);
                }
            }
            _ => {}
        }
    }
    around.defaults = limit_ranges.iter().collect();
    Ok(around)
}

fn directory() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NEAP_KEDA_VECTORS") {
        return Some(PathBuf::from(path));
    }
    let beside = PathBuf::from("../../../shared/vectors");
    beside.is_dir().then_some(beside)
}

fn files(directory: &Path) -> Vec<String> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|p| {
            let name = p
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("keda_scaledobjects")
                && (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz"))
        })
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path).unwrap();
            let mut text = String::new();
            if path.extension().is_some_and(|e| e == "gz") {
                flate2::read::GzDecoder::new(&bytes[..])
                    .read_to_string(&mut text)
                    .unwrap();
            } else {
                text = String::from_utf8(bytes).unwrap();
            }
            text
        })
        .collect()
}
