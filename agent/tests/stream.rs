//! The whole agent against a coordinator of the test's own, over real TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may panic"
)]

mod support;

use std::time::Duration;

use neap_proto::node::agent_message::Message;
use neap_proto::node::{Directives, LeaderHint, PodDirective, SeriesKind, Spool, SpoolProblem};
use support::{Agent, AgentProcess, Coordinator, Pki, Tree};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_says_hello_with_its_token_and_then_sends_what_it_reads() {
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let tree = Tree::new();
    tree.set_usage(1_000);
    let agent = Agent::start(&pki, &tree, &leader.address);

    let mut stream = leader.accept(PATIENCE).await;
    assert_eq!(stream.authorization, "Bearer first-token");
    let hello = &stream.hello;
    assert_eq!(hello.node_name, "node-1");
    assert_eq!(hello.protocol_version, neap_proto::node::PROTOCOL_VERSION);
    assert!(hello.boot_id.len() == 36 && hello.agent_start_boottime_ns > 0);
    let capabilities = hello.capabilities.as_ref().unwrap();
    assert!(!capabilities.sockets && capabilities.profile == "restricted" && capabilities.cpus > 0);

    stream.lead(1, &[]);
    stream.direct(Directives {
        generation: 1,
        pods: vec![PodDirective {
            pod_uid: Tree::POD.into(),
            interval_ms: 500,
            ..Default::default()
        }],
        ..Default::default()
    });
    stream.point(SeriesKind::CpuUsage, 1_000, PATIENCE).await;
    tree.set_usage(2_500);
    stream.point(SeriesKind::CpuUsage, 2_500, PATIENCE).await;
    assert_eq!(agent.get("/readyz").await.0, 200);
    assert_eq!(agent.get("/healthz").await.0, 200);
    let (status, metrics) = agent.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("neap_agent_connected 1") && metrics.contains("neap_agent_pods 1"),
        "{metrics}"
    );
    agent.stop().await;
    stream.ended(PATIENCE).await;
}

#[tokio::test]
async fn no_token_travels_to_a_server_that_the_ca_did_not_sign() {
    let pki = Pki::new();
    let mut impostor = Coordinator::start(&Pki::new()).await;
    let tree = Tree::new();
    let agent = Agent::start(&pki, &tree, &impostor.address);
    agent
        .metric(
            "neap_agent_streams_ended_total{reason=\"connect\"}",
            PATIENCE,
            |value| value >= 2.0,
        )
        .await;
    assert!(impostor.accepted_nothing());
    assert_eq!(agent.get("/readyz").await.0, 503);
    agent.stop().await;
}

#[tokio::test]
async fn it_waits_for_the_ca_and_uses_a_rotated_token_and_a_new_ca_from_the_next_stream_on() {
    let mut pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let tree = Tree::new();
    let ca = pki.take_ca();
    let agent = Agent::start(&pki, &tree, &leader.address);
    agent
        .metric(
            "neap_agent_streams_ended_total{reason=\"credentials\"}",
            PATIENCE,
            |value| value >= 1.0,
        )
        .await;
    pki.put_ca(&ca);
    let mut stream = leader.accept(PATIENCE).await;
    stream.lead(1, &[]);
    stream.samples(PATIENCE).await;

    // The CA is renewed: the new server is believed only with the new bundle.
    let renewed = Pki::new();
    let mut successor = Coordinator::start_at(&renewed, leader.stop().await).await;
    pki.put_token("second-token");
    pki.put_ca(&renewed.ca());
    let stream = successor.accept(PATIENCE).await;
    assert_eq!(stream.authorization, "Bearer second-token");
    agent.stop().await;
}

#[tokio::test]
async fn it_follows_the_leader_and_replays_its_history() {
    let pki = Pki::new();
    let mut first = Coordinator::start(&pki).await;
    let mut second = Coordinator::start(&pki).await;
    let addresses = [first.address.clone(), second.address.clone()];
    let replicas = addresses.each_ref().map(String::as_str);
    let tree = Tree::new();
    tree.set_usage(1_000);
    let agent = Agent::start(&pki, &tree, &first.address);

    let mut active = first.accept(PATIENCE).await;
    active.lead(1, &replicas);
    active.direct(Directives {
        generation: 1,
        pods: vec![PodDirective {
            pod_uid: Tree::POD.into(),
            interval_ms: 500,
            ..Default::default()
        }],
        ..Default::default()
    });
    // An idle stream to the other replica, authenticated, without samples.
    let mut idle = second.accept(PATIENCE).await;
    assert_eq!(idle.authorization, "Bearer first-token");
    idle.hint(LeaderHint {
        is_leader: false,
        leader_address: first.address.clone(),
        term: 1,
        replicas: replicas.map(str::to_owned).to_vec(),
        address: second.address.clone(),
    });
    active.point(SeriesKind::CpuUsage, 1_000, PATIENCE).await;
    tree.set_usage(2_000);
    active.point(SeriesKind::CpuUsage, 2_000, PATIENCE).await;
    assert!(idle.received_nothing());

    // The leader dies; the other takes over on the stream that is there already.
    first.stop().await;
    idle.lead(2, &replicas);
    let Message::Replay(replay) = idle.next(PATIENCE).await else {
        panic!("history comes first")
    };
    let usage = replay
        .defined
        .iter()
        .find(|defined| defined.kind() == SeriesKind::CpuUsage)
        .unwrap();
    let history = replay
        .series
        .iter()
        .find(|history| history.series == usage.id)
        .unwrap();
    assert!(
        history.values.contains(&1_000) && history.values.contains(&2_000),
        "{history:?}"
    );
    // Its last directives hold until the new leader sends others.
    tree.set_usage(3_000);
    idle.point(SeriesKind::CpuUsage, 3_000, PATIENCE).await;
    agent.stop().await;
}

#[tokio::test]
async fn directives_of_who_does_not_lead_and_old_ones_are_ignored() {
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let tree = Tree::new();
    let agent = Agent::start(&pki, &tree, &leader.address);
    let mut stream = leader.accept(PATIENCE).await;
    stream.direct(Directives {
        generation: 9,
        ..Default::default()
    });
    stream.lead(1, &[]);
    stream.direct(Directives {
        generation: 5,
        ..Default::default()
    });
    stream.direct(Directives {
        generation: 4,
        ..Default::default()
    });
    stream.direct(Directives {
        generation: 6,
        ..Default::default()
    });
    let mut seen = Vec::new();
    while seen.last() != Some(&6) {
        seen.push(stream.samples(PATIENCE).await.directives_generation);
    }
    assert!(
        seen.is_sorted() && !seen.contains(&9) && !seen.contains(&4),
        "{seen:?}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_with_growing_pauses() {
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    leader.refuse(true);
    let tree = Tree::new();
    let agent = Agent::start(&pki, &tree, &leader.address);
    agent
        .metric(
            "neap_agent_streams_ended_total{reason=\"permission_denied\"}",
            PATIENCE,
            |value| value >= 3.0,
        )
        .await;
    leader.refuse(false);
    leader.accept(PATIENCE).await;
    agent.stop().await;
}

/// What an agent logs that finds no coordinator, is tried several times over, and is stopped.
async fn log_without_a_coordinator(format: &str) -> String {
    let pki = Pki::new();
    let tree = Tree::new();
    let mut flags = tree.flags().to_vec();
    flags.push(format!("--log-format={format}"));
    let program = env!("CARGO_BIN_EXE_neap-agent");
    // Nothing listens on port 1.
    let agent = AgentProcess::start(program, &pki, &flags, "localhost:1");
    let ended = "neap_agent_streams_ended_total{reason=\"connect\"}";
    agent
        .pages
        .metric(ended, PATIENCE, |ended| ended >= 3.0)
        .await;
    agent.end()
}

#[tokio::test]
async fn a_lasting_state_is_one_line_of_text_or_one_json_object() {
    let text = log_without_a_coordinator("text").await;
    let count = |log: &str, part| log.lines().filter(|line| line.contains(part)).count();
    for state in [
        "agent starts",
        "no coordinator: cannot connect",
        "agent stopped",
    ] {
        assert_eq!(count(&text, state), 1, "{state} in\n{text}");
    }
    let json = log_without_a_coordinator("json").await;
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let refused = lines
        .iter()
        .find(|line| line["level"] == "WARN" && line["fields"]["reason"] == "connect");
    assert!(
        refused.is_some_and(|line| line["fields"]["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("refused"))),
        "{json}"
    );
    assert_eq!(count(&json, "no coordinator"), 1, "{json}");
}

#[tokio::test]
async fn files_in_a_spool_are_counted_below_the_allowed_roots_only() {
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let (tree, node) = (Tree::new(), tempfile::tempdir().unwrap());
    let jobs = node.path().join("spool/jobs");
    std::fs::create_dir_all(&jobs).unwrap();
    let root = node.path().join("spool").display().to_string();
    let mut flags = tree.flags().to_vec();
    flags.push(format!("--spool-root={root}"));
    let agent = Agent::with(&pki, &leader.address, &flags);
    let mut stream = leader.accept(PATIENCE).await;
    assert_eq!(
        stream.hello.capabilities.as_ref().unwrap().spool_roots,
        std::slice::from_ref(&root)
    );
    stream.lead(1, &[]);
    let spool = |path: String| Spool {
        path,
        // Nothing but inotify looks sooner.
        interval_ms: 3_600_000,
        ..Default::default()
    };
    let outside = node.path().display().to_string();
    stream.direct(Directives {
        generation: 1,
        spools: vec![spool(jobs.display().to_string()), spool(outside.clone())],
        ..Default::default()
    });
    let definition = stream.defined(SeriesKind::SpoolFiles, PATIENCE).await;
    assert_eq!(
        (&definition.spool_path, definition.pod_uid.as_str()),
        (&jobs.display().to_string(), "")
    );
    stream.point(SeriesKind::SpoolFiles, 0, PATIENCE).await;
    for number in 0..5 {
        std::fs::write(jobs.join(number.to_string()), "work").unwrap();
    }
    stream.point(SeriesKind::SpoolFiles, 5, PATIENCE).await;
    std::fs::remove_file(jobs.join("0")).unwrap();
    stream.point(SeriesKind::SpoolFiles, 4, PATIENCE).await;
    assert_eq!(
        stream.problems,
        [SpoolProblem {
            path: outside,
            max_age_ms: 0,
            problem: format!("not below a --spool-root of the agent ({root})"),
        }]
    );

    // A spool that goes is absent, not empty; one that comes back is read again.
    std::fs::remove_dir_all(&jobs).unwrap();
    stream.problem(PATIENCE, "No such file").await;
    stream.direct(Directives {
        generation: 2,
        spools: vec![Spool {
            interval_ms: 200,
            ..spool(jobs.display().to_string())
        }],
        ..Default::default()
    });
    stream.problem(PATIENCE, "No such file").await;
    std::fs::create_dir(&jobs).unwrap();
    std::fs::write(jobs.join("late"), "").unwrap();
    stream.point(SeriesKind::SpoolFiles, 1, PATIENCE).await;
    agent.stop().await;
}
