//! What the commands make of a coordinator's answers: owners that are only observed, replicas that follow,
//! refusals. The coordinator is a fake with answers as the real one gives them; `asking.rs` has a real one.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Answers by path, without their queries, and what was asked.
struct FakeCoordinator {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeCoordinator {
    fn start(answers: &[(&str, u16, Value)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: BTreeMap<String, (u16, Value)> = answers
            .iter()
            .map(|(path, code, body)| ((*path).to_owned(), (*code, body.clone())))
            .collect();
        let seen = asked.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &answers, &seen);
            }
        });
        Self { address, asked }
    }

    fn neap(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_neap"))
            .args(args)
            .env("NEAP_SERVER", &self.address)
            .output()
            .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answers: &BTreeMap<String, (u16, Value)>, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    let _ = reader.read_line(&mut first);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    asked.lock().unwrap().push(target.to_owned());
    let path = target.split('?').next().unwrap_or_default();
    let unknown = (404, json!({"error": "unknown"}));
    let (code, body) = answers.get(path).unwrap_or(&unknown);
    let body = body.to_string();
    let mut stream = stream;
    let _ = write!(
        stream,
        "HTTP/1.1 {code} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn as_of(age_millis: u64) -> Value {
    json!({"leader": "3.1", "name": "neap-coordinator-1", "ageMillis": age_millis})
}

/// A line of the list: owner, replicas now, and those that Neap decided on.
fn line(name: &str, owner: (&str, Option<&str>), replicas: (i32, i32)) -> Value {
    json!({
        "namespace": "shop", "name": name, "current": replicas.0, "desired": replicas.1,
        "scaled": owner.0 == "neap", "owner": owner.0, "ownerKind": owner.0, "ownerName": owner.1,
        "fault": null, "triggers": [
            {"name": "cpu", "type": "cpu", "value": "45", "target": "70", "targetType": "Utilization"},
            {"name": "s1-kafka", "type": "kafka", "target": "10", "targetType": "AverageValue", "error": "refused"}],
        "targetKind": "Deployment", "targetName": name, "minReplicas": 1, "maxReplicas": 10,
        "created": "2026-01-01T00:00:00Z", "labels": {"app": name},
        "specReplicas": replicas.0, "statusReplicas": replicas.0,
    })
}

fn explained(name: &str, (current, desired): (i32, i32)) -> Value {
    json!({
        "namespace": "shop", "name": name, "owner": "keda", "fault": null, "changes": [], "asOf": as_of(0),
        "latest": {"at": "2026-11-22T02:31:00Z", "scaled": false, "evaluation": {
            "desired": desired, "write": desired,
            "events": [{"kind": "Normal", "reason": "SuccessfulRescale",
                        "message": format!("New size: {desired}; reason: cpu resource above target")}],
            "why": {"at": 1_000, "current": current, "desired": desired, "triggers": [], "next": null,
                    "steps": [{"Clamped": {"from": 14, "to": desired, "side": "Max"}}]}}},
    })
}

fn list(lines: &[Value], as_of: &Value) -> Value {
    json!({"targets": lines, "asOf": as_of})
}

/// What a migrating cluster shows: one that differs under KEDA, one that agrees under an HPA, and Neap's own.
fn migrating() -> FakeCoordinator {
    let lines = [
        line("differs", ("keda", None), (3, 10)),
        line("agrees", ("hpa", Some("mine")), (4, 4)),
        line("own", ("neap", None), (1, 2)),
        line("younger", ("scaledObject", Some("own")), (1, 5)),
    ];
    FakeCoordinator::start(&[
        ("/api/v1/targets", 200, list(&lines, &as_of(0))),
        (
            "/api/v1/targets/shop/differs",
            200,
            explained("differs", (3, 10)),
        ),
    ])
}

#[test]
fn diff_shows_where_neap_would_scale_otherwise_and_why() {
    let coordinator = migrating();
    let output = coordinator.neap(&["diff", "-n", "shop"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "\
NAMESPACE   NAME      OWNER   NOW   NEAP   WHY
shop        differs   KEDA    3     10     cpu resource above target; 14 wanted, 10 is the most
"
    );
    assert_eq!(
        coordinator.asked(),
        ["/api/v1/targets", "/api/v1/targets/shop/differs"],
        "only what differs is asked for its reasons"
    );
    let output = coordinator.neap(&["diff", "-A", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answer["observed"], 2);
    let difference = &answer["differences"][0];
    assert_eq!(
        (&difference["now"], &difference["neap"]),
        (&json!(3), &json!(10))
    );
    let yaml = stdout(&coordinator.neap(&["diff", "-A", "-o", "yaml"]));
    assert!(
        yaml.contains("differences:") && yaml.contains("neap: 10"),
        "{yaml}"
    );
}

#[test]
fn diff_says_when_all_agree_or_nothing_is_observed() {
    let coordinator = migrating();
    let agreed = coordinator.neap(&["diff", "-n", "shop", "-l", "app=agrees"]);
    assert_eq!(agreed.status.code(), Some(0), "{}", stderr(&agreed));
    assert!(
        stdout(&agreed).starts_with("No differences: "),
        "{}",
        stdout(&agreed)
    );
    let own = coordinator.neap(&["diff", "-n", "shop", "own"]);
    assert_eq!(own.status.code(), Some(0));
    assert!(
        stdout(&own).contains("Neap scales all 1 ScaledObjects here itself"),
        "{}",
        stdout(&own)
    );
    let empty = coordinator.neap(&["diff", "-n", "empty"]);
    assert_eq!(empty.status.code(), Some(0));
    assert!(
        stdout(&empty).starts_with("Nothing to compare"),
        "{}",
        stdout(&empty)
    );
}

#[test]
fn an_object_that_neap_cannot_decide_on_is_a_difference() {
    let mut invalid = line("invalid", ("keda", None), (3, 3));
    invalid["fault"] = json!("spec.triggers[0]: kafka2 is not allowed");
    invalid["desired"] = json!(null);
    let mut explained = explained("invalid", (3, 3));
    explained["fault"] = invalid["fault"].clone();
    explained["latest"] = json!(null);
    let coordinator = FakeCoordinator::start(&[
        ("/api/v1/targets", 200, list(&[invalid], &as_of(0))),
        ("/api/v1/targets/shop/invalid", 200, explained),
    ]);
    let output = coordinator.neap(&["diff", "-n", "shop", "--no-headers"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "shop   invalid   KEDA   3   <unknown>   spec.triggers[0]: kafka2 is not allowed\n"
    );
}

#[test]
fn diffs_own_faults_have_another_code_than_differences() {
    let coordinator = migrating();
    let missing = coordinator.neap(&["diff", "-n", "shop", "nothing"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(
        stderr(&missing),
        "Error from server (NotFound): scaledobjects.keda.sh \"nothing\" not found\n"
    );
    let wrong = coordinator.neap(&["diff", "--colour"]);
    assert_eq!(wrong.status.code(), Some(2));
    let unreachable = coordinator.neap(&["diff", "--server", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(2));
    assert!(
        stderr(&unreachable).starts_with("Unable to connect to the server: "),
        "{}",
        stderr(&unreachable)
    );
}

#[test]
fn get_fills_every_column() {
    let coordinator = migrating();
    let output = coordinator.neap(&["get", "-n", "shop", "differs", "-o", "wide"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let row = text.lines().nth(1).unwrap();
    let cells: Vec<&str> = row
        .split("   ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells[..6],
        [
            "differs",
            "Deployment/differs",
            "cpu: 45%/70%, s1-kafka: <unknown>/10 (avg)",
            "1",
            "10",
            "3"
        ]
    );
    assert!(cells[6].ends_with('d'), "an age: {row}");
    assert_eq!(cells[7..], ["10", "keda", "<none>"]);
    let all = stdout(&coordinator.neap(&["get", "-A"]));
    assert!(all.starts_with("NAMESPACE   NAME"), "{all}");
    assert_eq!(all.lines().count(), 5, "{all}");
    let names =
        stdout(&coordinator.neap(&["get", "-A", "-l", "app in (own,agrees)", "-o", "name"]));
    assert_eq!(
        names,
        "scaledobject.keda.sh/agrees\nscaledobject.keda.sh/own\n"
    );
}

#[test]
fn an_answer_that_grew_old_is_said_to_be_old() {
    let lines = [line("web", ("neap", None), (3, 3))];
    let status = |as_of: Value, leader: Value| {
        json!({"version": "1", "name": "neap-coordinator-0", "leads": false, "role": "follower",
               "leader": leader, "asOf": as_of, "term": 3, "committed": 9, "scaledObjects": 1, "pods": 3})
    };
    let leader = json!({"id": "3.1", "name": "neap-coordinator-1"});
    let fresh = FakeCoordinator::start(&[
        ("/api/v1/targets", 200, list(&lines, &as_of(900))),
        ("/api/v1/status", 200, status(as_of(900), leader)),
    ]);
    let output = fresh.neap(&["get", "-n", "shop"]);
    assert_eq!(stderr(&output), "");
    let output = fresh.neap(&["status"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "Answered by:     neap-coordinator-0 (follower)\n",
        "As of:           900ms ago, as the leader neap-coordinator-1 told\n",
        "Leader:          neap-coordinator-1 (3.1)\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let machine: Value =
        serde_json::from_str(&stdout(&fresh.neap(&["status", "-o", "json"]))).unwrap();
    assert_eq!(machine["asOf"]["ageMillis"], 900);

    let old = FakeCoordinator::start(&[
        ("/api/v1/targets", 200, list(&lines, &as_of(95_000))),
        ("/api/v1/status", 200, status(as_of(95_000), json!(null))),
    ]);
    let output = old.neap(&["get", "-n", "shop"]);
    assert!(output.status.success() && stdout(&output).contains("web"));
    assert!(
        stderr(&output).contains("this is what the leader neap-coordinator-1 told 1m35s ago"),
        "{}",
        stderr(&output)
    );
    let output = old.neap(&["status"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "scripts can wait for a leader"
    );
    assert!(stdout(&output).contains("1m35s ago"), "{}", stdout(&output));
    assert_eq!(
        stderr(&output),
        "error: no leader is known; replicas stay as they are\n"
    );

    let never = FakeCoordinator::start(&[
        ("/api/v1/targets", 200, list(&[], &json!(null))),
        ("/api/v1/status", 200, status(json!(null), json!(null))),
    ]);
    let output = never.neap(&["get", "-n", "shop"]);
    assert!(
        stderr(&output).contains("heard of no leader yet"),
        "{}",
        stderr(&output)
    );
    let text = stdout(&never.neap(&["status"]));
    assert!(
        text.contains("no leader has told this replica anything yet"),
        "{text}"
    );
}

#[test]
fn top_asks_for_what_was_asked_of_it_and_passes_a_refusal_on() {
    let pod = json!({"namespace": "shop", "name": "web-0", "node": "n1", "cpuCores": 0.25, "memoryBytes": 44_556_288,
                     "pressure": {"cpu": 1.0, "memory": null, "io": null}, "queue": 3,
                     "queues": [{"at": "8080", "waiting": 3, "limit": 128}]});
    let top = json!({"windowSeconds": 15, "total": 8, "omitted": 7, "items": [pod]});
    let leader = FakeCoordinator::start(&[("/api/v1/top/pods", 200, top)]);
    let output = leader.neap(&[
        "top",
        "pods",
        "-n",
        "shop",
        "-l",
        "app=web,tier!=cache",
        "--sort-by",
        "queue",
        "--limit",
        "1",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "NAME    CPU(cores)   MEMORY(bytes)   PRESSURE   QUEUE\nweb-0   250m         42Mi            1.0% cpu   3\n"
    );
    assert!(
        stderr(&output).starts_with("7 more are not shown"),
        "{}",
        stderr(&output)
    );
    let asked = &leader.asked()[0];
    for part in [
        "sort=queue",
        "limit=1",
        "namespace=shop",
        "selector=app%3Dweb%2Ctier%21%3Dcache",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    let all = stdout(&leader.neap(&["top", "-A"]));
    assert!(all.starts_with("NAMESPACE   NAME"), "{all}");
    assert!(!leader.asked()[1].contains("namespace="));

    let refusal = json!({"error": "this replica follows, and agents stream to the leader alone: ask the leader neap-coordinator-1"});
    let follower = FakeCoordinator::start(&[("/api/v1/top/nodes", 503, refusal)]);
    let output = follower.neap(&["top", "nodes"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "Error from server (ServiceUnavailable): this replica follows, and agents stream to the leader alone: ask the leader neap-coordinator-1\n"
    );
    let older = FakeCoordinator::start(&[]);
    let output = older.neap(&["top"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("is it of another version?"),
        "{}",
        stderr(&output)
    );
}
