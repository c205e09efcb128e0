//! The command as a user meets it: output, faults, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const SPEC: &str = "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: worker
spec:
  scaleTargetRef:
    name: worker
  maxReplicaCount: 10
  triggers:
    - type: cpu
      metricType: Utilization
      metadata:
        value: \"50\"
    - type: cron
      metadata:
        timezone: UTC
        start: 0 8 * * *
        end: 0 18 * * *
        desiredReplicas: \"3\"
";

fn neap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_neap"))
        .args(args)
        .env_remove("NEAP_PROMETHEUS_HEADER")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A refusal: exit code 1, nothing on standard output, `part` on standard error.
#[track_caller]
fn refused(args: &[&str], part: &str) {
    let output = neap(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert_eq!(stdout(&output), "", "{args:?}");
    let said = stderr(&output);
    assert!(
        said.starts_with("error: ") && said.contains(part),
        "{args:?}: {said}"
    );
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[test]
fn help_and_version_succeed() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["simulate", "--help"],
        &["completion", "bash"],
    ] {
        let output = neap(args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).contains("neap"), "{args:?}");
    }
}

#[test]
fn a_day_of_cpu_and_a_calendar() {
    let files = Files::new();
    let spec = files.write("a.yaml", SPEC);
    // Two cores over all pods of half a core at 50 % need 8 pods from noon to one.
    let load = files.write(
        "load.csv",
        "time,cpu\n2026-11-02T00:00:00Z,100m\n2026-11-02T12:00:00Z,2\n2026-11-02T13:00:00Z,100m\n2026-11-03T00:00:00Z,100m\n",
    );
    let output = neap(&[
        "simulate", "-f", &spec, "--load", &load, "--pods", "cpu=500m", "-o", "json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let simulation = &answer["simulations"][0];
    let changes = simulation["changes"].as_array().unwrap();
    let first = &changes[0];
    // The calendar wakes it; cpu cannot.
    assert_eq!(
        (first["from"].as_i64(), first["time"].as_str()),
        (Some(0), Some("2026-11-02T08:00:00Z"))
    );
    let reached = |replicas: i64| {
        let at = changes
            .iter()
            .find(|change| change["to"].as_i64() == Some(replicas));
        at.map(|change| change["time"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        reached(3).as_deref().map(|time| &time[..16]),
        Some("2026-11-02T08:00")
    );
    assert_eq!(
        reached(8).as_deref().map(|time| &time[..13]),
        Some("2026-11-02T12")
    );
    assert_eq!(simulation["figures"]["most"], 8);
    let last = changes.last().unwrap();
    assert_eq!(
        (last["to"].as_i64(), &last["time"].as_str().unwrap()[..13]),
        (Some(0), "2026-11-02T18")
    );
    let under = simulation["figures"]["underProvisionedSeconds"]
        .as_f64()
        .unwrap();
    assert!(under > 0.0, "the rise at noon takes some seconds");
}

#[test]
fn a_plain_hpa_can_stand_against_it() {
    let files = Files::new();
    let spec = files.write(
        "a.yaml",
        &SPEC.replace("maxReplicaCount", "minReplicaCount: 1\n  maxReplicaCount"),
    );
    let hpa = files.write(
        "hpa.yaml",
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}\n  minReplicas: 1\n  maxReplicas: 10\n  metrics:\n  - type: Resource\n    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}\n",
    );
    let load = "generate:step,from=0.1,to=2,at=10m,for=1h,name=cpu";
    let output = neap(&[
        "simulate",
        "-f",
        &spec,
        "--against",
        &hpa,
        "--load",
        load,
        "--pods",
        "cpu=500m",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("worker (a.yaml)") && text.contains("web (hpa.yaml)"),
        "{text}"
    );
    assert!(text.contains("time under-provisioned"), "{text}");
    assert!(
        stderr(&output).contains("decisions in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bad_input_is_named() {
    let files = Files::new();
    let spec = files.write("a.yaml", SPEC);
    let load = files.write("load.csv", "time,cpu\n0,1\n15,lots\n");
    let good = "generate:constant,value=1,for=1m";
    refused(&["simulat"], "simulat");
    refused(&["simulate", "-f", &spec], "--load");
    refused(
        &["simulate", "-f", "/nowhere.yaml", "--load", good],
        "/nowhere.yaml: cannot be read",
    );
    refused(
        &["simulate", "-f", &spec, "--load", &load, "--pods", "cpu=1"],
        "load.csv:3: cpu: \"lots\" is not allowed",
    );
    refused(
        &["simulate", "-f", &spec, "--load", "generate:wave"],
        "\"wave\" is no shape",
    );
    refused(
        &["simulate", "-f", &spec, "--load", good],
        "as in --pods cpu=500m",
    );
    let two = "generate:constant,value=1,for=1m,name=other";
    refused(
        &[
            "simulate", "-f", &spec, "--load", good, "--load", two, "--pods", "cpu=1",
        ],
        "no column of the load belongs to trigger cpu",
    );
    refused(
        &[
            "simulate",
            "-f",
            &spec,
            "--load",
            &load.replace("load", "none"),
            "--pods",
            "cpu=1",
        ],
        "none.csv: cannot be read",
    );
    let chart = "/nowhere/chart.svg";
    let output = neap(&[
        "simulate", "-f", &spec, "--load", good, "--pods", "cpu=1", "--chart", chart,
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("--chart: /nowhere/chart.svg cannot be written"),
        "{}",
        stderr(&output)
    );
    let kafka = files.write(
        "kafka.yaml",
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: k}\nspec:\n  scaleTargetRef: {name: k}\n  triggers:\n  - type: kafka\n    metadata: {topic: t}\n",
    );
    refused(
        &["simulate", "-f", &kafka, "--load", good],
        "kafka.yaml:1: spec.triggers[0]: ",
    );
    let output = neap(&[
        "simulate", "-f", &kafka, "--load", good, "--target", "kafka=5",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let wrong = files.write(
        "wrong.yaml",
        &SPEC.replace("maxReplicaCount: 10", "maxReplicaCount: ten"),
    );
    refused(
        &["simulate", "-f", &wrong, "--load", good],
        "wrong.yaml:8: ",
    );
    let empty = files.write("empty.yaml", "# nothing\n");
    refused(
        &["simulate", "-f", &empty, "--load", good],
        "has no ScaledObject",
    );
    let both = files.write(
        "both.yaml",
        &format!("{SPEC}---\n{}", SPEC.replace("name: worker", "name: other")),
    );
    refused(
        &["simulate", "-f", &both, "--load", good],
        "choose one with --name: worker, other",
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let files = Files::new();
    let spec = files.write("a.yaml", SPEC);
    let mut child = Command::new(env!("CARGO_BIN_EXE_neap"))
        .args(["simulate", "-f", &spec, "--pods", "cpu=500m", "-o", "csv"])
        .args([
            "--load",
            "generate:sine,low=0.1,high=4,period=1h,for=200h,step=1m",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
