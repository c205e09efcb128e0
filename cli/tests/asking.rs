//! `get`, `top`, `diff`, `status` and `explain` asked of a `neap up` that runs: the real coordinator, agent
//! and replicas, without a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy
#![expect(clippy::disallowed_methods, reason = "the tests' own deadlines")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Anything may take so long; nothing is asserted about speed.
const PATIENCE: Duration = Duration::from_secs(60);

const MANIFESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: server
        command: [neap, demo, web, --port, $(PORT)]
        ports: [{containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, labels: {tier: front}}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 2
  maxReplicaCount: 4
  triggers:
  - {type: node-accept-queue, metadata: {port: "8080", value: "3"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  replicas: 0
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      containers:
      - {name: worker, command: [sleep, "600"]}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: worker}
spec:
  scaleTargetRef: {name: worker}
  maxReplicaCount: 5
  triggers:
  - {type: node-spool, metadata: {path: SPOOL, value: "10"}}
"#;

struct Up {
    child: Child,
    lines: Receiver<String>,
    folder: TempDir,
}

impl Up {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let text = MANIFESTS.replace("SPOOL", spool.to_str().unwrap());
        std::fs::write(manifests.join("all.yaml"), text).unwrap();
        let mut child = Self::command(&folder, &["up"])
            .arg(&manifests)
            .arg("--json")
            .arg("--state")
            .arg(folder.path().join("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let up = Self {
            child,
            lines,
            folder,
        };
        up.until_said("firstDecision");
        up
    }

    /// The command with notes about running ones kept in this test's own folder.
    fn command(folder: &TempDir, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neap"));
        command
            .args(args)
            .env("XDG_RUNTIME_DIR", folder.path())
            .env_remove("NEAP_SERVER")
            .env_remove("NEAP_NAMESPACE");
        command
    }

    fn until_said(&self, kind: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {kind} within {PATIENCE:?}"));
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["type"] == kind {
                return;
            }
        }
    }

    fn neap(&self, args: &[&str]) -> Output {
        Self::command(&self.folder, args)
            .arg("--local")
            .output()
            .unwrap()
    }

    /// The output once `done` says so.
    fn until(&self, args: &[&str], done: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let output = self.neap(args);
            let text = stdout(&output);
            if output.status.success() && done(&text) {
                return text;
            }
            assert!(
                Instant::now() < until,
                "{args:?}: not within {PATIENCE:?}; now {text}{}",
                stderr(&output)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn refused(&self, args: &[&str], part: &str) {
        let output = self.neap(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The cells of the line that begins with `name`.
fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
    line.split("   ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn the_commands_show_what_runs() {
    let up = Up::start();
    get_shows_both_targets(&up);
    top_shows_what_is_read(&up);
    the_others_answer_too(&up);
    refusals_say_what_is_allowed(&up);
    watching_goes_on(&up);
}

fn get_shows_both_targets(up: &Up) {
    let text = up.until(&["get"], |text| {
        let complete = text.lines().count() == 3 && !text.contains("<unknown>");
        complete && cells(text, "web").get(5) == Some(&"2")
    });
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        [
            "NAME",
            "REFERENCE",
            "TARGETS",
            "MINPODS",
            "MAXPODS",
            "REPLICAS",
            "AGE"
        ]
    );
    let web = cells(&text, "web");
    assert_eq!(web[1], "Deployment/web");
    // A probe that just waits may be seen too.
    assert!(web[2].ends_with("/3 (avg)"), "{web:?}");
    assert_eq!(web[3..6], ["2", "4", "2"]);
    assert!(
        web[6].ends_with('s') || web[6].ends_with('m'),
        "an age: {web:?}"
    );
    let worker = cells(&text, "worker");
    assert!(worker[2].ends_with(": 0/10 (avg)"), "{worker:?}");
    assert_eq!(worker[3..6], ["0", "5", "0"]);
    let labelled = up.neap(&["get", "-l", "tier=front", "-o", "name"]);
    assert_eq!(stdout(&labelled), "scaledobject.keda.sh/web\n");
    let json: Value =
        serde_json::from_str(&stdout(&up.neap(&["get", "web", "-o", "json"]))).unwrap();
    assert_eq!(json["targets"][0]["triggers"][0]["target"], "3");
}

fn top_shows_what_is_read(up: &Up) {
    // The queue is read ten times a second; a window of 15 s takes longer than this test waits.
    let text = up.until(&["top", "--sort-by", "queue"], |text| {
        let queues = text.lines().skip(1).map(|line| line.ends_with("   0"));
        queues.filter(|zero| *zero).count() == 2
    });
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["NAME", "CPU(cores)", "MEMORY(bytes)", "PRESSURE", "QUEUE"]
    );
    up.until(&["top", "pods", "-l", "app=web", "-o", "wide"], |text| {
        text.matches("8080:0/").count() == 2
    });
    let none = up.neap(&["top", "-n", "elsewhere"]);
    assert!(none.status.success());
    assert_eq!(
        stderr(&none),
        "No resources found in elsewhere namespace.\n"
    );
    let json: Value =
        serde_json::from_str(&stdout(&up.neap(&["top", "-A", "-o", "json"]))).unwrap();
    assert_eq!(
        (&json["total"], &json["windowSeconds"]),
        (&2.into(), &15.into())
    );
    // A node's queue is the sum of its pods'.
    up.until(&["top", "nodes"], |text| {
        text.lines().nth(1).is_some_and(|row| row.ends_with("   0"))
    });
}

fn the_others_answer_too(up: &Up) {
    let status = stdout(&up.neap(&["status"]));
    for part in [
        "Answered by:     leader\n",
        "As of:           now\n",
        "ScaledObjects:   2\n",
    ] {
        assert!(status.contains(part), "{part:?} in {status}");
    }
    let diff = up.neap(&["diff"]);
    assert_eq!(diff.status.code(), Some(0), "{}", stderr(&diff));
    assert!(
        stdout(&diff).contains("Neap scales all 2 ScaledObjects here itself"),
        "{}",
        stdout(&diff)
    );
    let explained = stdout(&up.neap(&["explain", "so/web"]));
    assert!(explained.contains("Scaled by:   Neap"), "{explained}");
}

fn refusals_say_what_is_allowed(up: &Up) {
    up.refused(
        &["get", "nothing"],
        "scaledobjects.keda.sh \"nothing\" not found",
    );
    up.refused(&["get", "-l", "tier in front"], "--selector: ");
    up.refused(
        &["explain", "nothing"],
        "scaledobjects.keda.sh \"nothing\" not found",
    );
    up.refused(&["top", "pods", "nothing"], "pods \"nothing\" not found");
    up.refused(&["top", "nodes", "nothing"], "nodes \"nothing\" not found");
    up.refused(
        &["top", "--sort-by", "disk"],
        "[possible values: cpu, memory, queue, pressure]",
    );
    up.refused(&["top", "jobs"], "[possible values: pods, nodes]");
    up.refused(&["top", "--limit", "10001"], "10001 is not in 1..=10000");
    up.refused(
        &["top", "nodes", "-l", "a=b"],
        "the labels of nodes are not known",
    );
    let output = Up::command(&up.folder, &["top", "--local=/nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("start it with: neap up /nowhere"),
        "{}",
        stderr(&output)
    );
}

/// `-w` prints again until its reader goes away, which is no error.
fn watching_goes_on(up: &Up) {
    let mut child = Up::command(&up.folder, &["top", "nodes", "-w", "--local"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let headers = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("NAME"))
        .take(2);
    assert_eq!(headers.count(), 2, "the table comes again");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // Of a list the lines that change follow, under the same columns.
    let mut child = Up::command(&up.folder, &["get", "-w", "--local"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Vec<String> = lines.by_ref().take(3).map_while(Result::ok).collect();
    assert!(
        first[0].starts_with("NAME") && first.len() == 3,
        "{first:?}"
    );
    let spool = up.folder.path().join("spool");
    (0..5).for_each(|n| std::fs::write(spool.join(format!("file-{n}")), "x").unwrap());
    let mut lines = lines.map_while(Result::ok);
    let changed = lines.find(|line| line.starts_with("worker")).unwrap();
    assert_eq!(
        changed.find("Deployment/"),
        first[2].find("Deployment/"),
        "{first:?} {changed}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
