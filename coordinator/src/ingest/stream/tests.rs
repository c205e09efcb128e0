//! Streams over a real port: TLS, tokens, gRPC.

use std::sync::Arc;
use std::time::Duration;

use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::{
    Capabilities, GaugePoint, Hello, Replay, ReplaySeries, Samples, SeriesDefinition, SeriesKind,
    SpoolProblem,
};
use neap_units::{NodeName, PodUid};
use serde_json::json;
use tonic::Code;

use crate::clock::Clock;
use crate::ingest::IngestLimits;
use crate::signals::{Spool, Wanted, WantedSignal, WantedSignals};
use crate::world::testing::pod;

use super::testing::{REVIEW, SECOND, bench, cpu, hello, leader, rate, samples, settle};

#[tokio::test]
async fn a_stream_without_a_good_token_is_refused() {
    let bench = bench().await;
    let refused = bench.connect(None).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let expired = bench
        .maker
        .agent("n1", bench.clock.wall() - Duration::from_secs(7_200))
        .sign();
    let refused = bench.connect(Some(&expired)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("expired at"), "{refused}");
    assert_eq!(bench.count(|figures| &figures.unauthenticated), 2);
}

#[tokio::test]
async fn a_report_for_another_node_is_refused() {
    let bench = bench().await;
    let token = bench.maker.agent("n1", bench.clock.wall()).sign();
    let mut agent = bench.connect(Some(&token)).await.unwrap();
    agent.say(Up::Hello(hello("n2"))).await;
    let status = agent.end().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("the token is of node \"n1\""),
        "{status}"
    );
    assert_eq!(bench.count(|figures| &figures.wrong_node), 1);
}

#[tokio::test]
async fn versions_that_do_not_meet_are_named() {
    let bench = bench().await;
    let token = bench.maker.agent("n1", bench.clock.wall()).sign();
    let mut agent = bench.connect(Some(&token)).await.unwrap();
    agent
        .say(Up::Hello(Hello {
            protocol_version: 9,
            ..hello("n1")
        }))
        .await;
    let status = agent.end().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains('9') && status.message().contains('1'),
        "{status}"
    );

    let mut agent = bench.connect(Some(&token)).await.unwrap();
    agent.say(samples(1, 1, vec![], &[])).await;
    assert_eq!(
        agent.end().await.code(),
        Code::InvalidArgument,
        "hello comes first"
    );
}

#[tokio::test]
async fn samples_reach_the_store_and_those_of_foreign_pods_do_not() {
    let bench = bench().await;
    bench
        .world
        .apply_pod(pod("shop", "mine").uid("mine").node("n1").done());
    bench
        .world
        .apply_pod(pod("shop", "theirs").uid("theirs").node("n2").done());
    let mut agent = bench.agent("n1").await;
    let defined = vec![cpu(1, "mine", "c1"), cpu(2, "theirs", "c2")];
    settle(
        &bench,
        &mut agent,
        1,
        samples(1, 100, defined, &[(1, 1_000_000), (2, 1_000_000)]),
    )
    .await;
    settle(
        &bench,
        &mut agent,
        2,
        samples(2, 101, vec![], &[(1, 1_500_000), (2, 1_900_000)]),
    )
    .await;
    let mean = rate(&bench, "n1", "mine", "c1", 1).expect("a second of samples");
    assert!((mean - 0.5e6).abs() < 1.0, "{mean}");
    assert_eq!(rate(&bench, "n1", "theirs", "c2", 1), None);
    assert_eq!(bench.count(|figures| &figures.foreign_samples), 2);
    assert_eq!(bench.store.figures(bench.clock.boottime()).series, 1);
}

#[tokio::test]
async fn what_is_said_before_the_pod_is_known_counts_once_it_is() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    settle(
        &bench,
        &mut agent,
        1,
        samples(1, 100, vec![cpu(1, "new", "c1")], &[(1, 7_000_000)]),
    )
    .await;
    assert_eq!(bench.store.figures(bench.clock.boottime()).series, 0);
    bench
        .world
        .apply_pod(pod("shop", "new").uid("new").node("n1").done());
    settle(&bench, &mut agent, 2, samples(2, 101, vec![], &[])).await;
    let figures = bench.store.figures(bench.clock.boottime());
    assert_eq!(
        (figures.series, figures.taken),
        (1, 1),
        "the point that waited was taken in"
    );
    assert_eq!(bench.count(|figures| &figures.foreign_samples), 0);
}

#[tokio::test]
async fn a_replay_fills_windows_at_once() {
    let bench = bench().await;
    bench
        .world
        .apply_pod(pod("shop", "mine").uid("mine").node("n1").done());
    let mut agent = bench.agent("n1").await;
    let ages: Vec<u64> = (0..=10).rev().map(|second| second * 1_000_000).collect();
    let values: Vec<u64> = (0..=10).map(|second| second * 250_000).collect();
    agent
        .say(Up::Replay(Replay {
            boottime_ns: 100 * SECOND,
            defined: vec![cpu(1, "mine", "c1")],
            series: vec![ReplaySeries {
                series: 1,
                ages_us: ages,
                values,
                ..ReplaySeries::default()
            }],
            last: true,
        }))
        .await;
    settle(&bench, &mut agent, 1, samples(1, 100, vec![], &[])).await;
    let mean = rate(&bench, "n1", "mine", "c1", 8).expect("eight seconds of history");
    assert!((mean - 0.25e6).abs() < 1.0, "{mean}");

    agent
        .say(Up::Replay(Replay {
            series: vec![ReplaySeries {
                series: 1,
                ages_us: vec![1],
                ..ReplaySeries::default()
            }],
            ..Replay::default()
        }))
        .await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn directives_follow_what_is_wanted_and_who_leads() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    let Down::Leader(hint) = agent.hear().await.unwrap() else {
        panic!("a hint comes first")
    };
    assert!(hint.is_leader);
    assert_eq!(
        hint.address,
        "neap-coordinator-0.neap-coordinator-peers.neap.svc:9700"
    );
    assert_eq!(
        (hint.leader_address.as_str(), hint.term, hint.replicas.len()),
        (hint.address.as_str(), 3, 2)
    );
    let Down::Directives(first) = agent.hear().await.unwrap() else {
        panic!("then directives")
    };
    assert!(first.pods.is_empty());

    let signal = WantedSignal {
        pod: PodUid::new("mine").unwrap(),
        what: Wanted::AcceptQueue { port: 8080 },
        every: Duration::from_millis(100),
    };
    let by_node = [(NodeName::new("n1").unwrap(), Arc::from([signal]))].into();
    bench.wanted.send_replace(Arc::new(WantedSignals {
        by_node,
        ..WantedSignals::default()
    }));
    let Down::Directives(second) = agent.hear().await.unwrap() else {
        panic!()
    };
    assert!(second.generation > first.generation);
    assert_eq!(second.pods.len(), 1);
    assert!(second.pods.iter().all(|pod| pod.pod_ips.is_empty()));

    let address = "10.0.0.9".parse().unwrap();
    bench.world.apply_pod(
        pod("shop", "mine")
            .uid("mine")
            .node("n1")
            .with(|pod| pod.ips = Box::new([address]))
            .done(),
    );
    bench.clock.advance(Duration::from_secs(1));
    let Down::Directives(third) = agent.hear().await.unwrap() else {
        panic!()
    };
    assert_eq!(
        third.pods.first().map(|pod| pod.pod_ips.clone()),
        Some(vec!["10.0.0.9".to_owned()])
    );

    bench.leading.send_replace(leader(false, 4));
    let Down::Leader(hint) = agent.hear().await.unwrap() else {
        panic!()
    };
    assert!(!hint.is_leader);
    assert_eq!(
        hint.leader_address,
        "neap-coordinator-1.neap-coordinator-peers.neap.svc:9700"
    );
    bench.leading.send_replace(leader(true, 5));
    let Down::Leader(hint) = agent.hear().await.unwrap() else {
        panic!()
    };
    assert!(hint.is_leader && hint.term == 5);
    assert!(
        matches!(agent.hear().await.unwrap(), Down::Directives(_)),
        "a new leadership begins with a full set"
    );
}

#[tokio::test]
async fn a_leader_that_stays_without_a_lease_ends_its_streams() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    assert!(matches!(agent.hear().await.unwrap(), Down::Leader(hint) if hint.is_leader));
    assert!(matches!(agent.hear().await.unwrap(), Down::Directives(_)));
    let nobody = || {
        let mut leading = leader(false, 3);
        leading.leadership.leader = None;
        leading
    };
    // Late, and there again: nothing ends.
    for (now, leads) in [(nobody(), false), (leader(true, 3), true)] {
        bench.leading.send_replace(now);
        assert!(
            matches!(agent.hear().await.unwrap(), Down::Leader(hint) if hint.is_leader == leads)
        );
    }
    assert!(matches!(agent.hear().await.unwrap(), Down::Directives(_)));
    bench.leading.send_replace(nobody());
    assert!(matches!(agent.hear().await.unwrap(), Down::Leader(hint) if !hint.is_leader));
    bench.clock.advance(Duration::from_secs(1));
    let status = agent.end().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("lease has ended"), "{status}");
}

#[tokio::test]
async fn a_token_that_the_api_server_refuses_ends_its_stream() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    assert!(matches!(agent.hear().await.unwrap(), Down::Leader(_)));
    // The first stream's review is on its own way: the answer to it must not change any more.
    bench.api.asked(REVIEW, 1).await;
    bench.api.post(
        REVIEW,
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
               "status": {"authenticated": false, "error": "pod has been deleted"}}),
    );
    let mut second = bench.agent("n2").await;
    let status = second.end().await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().contains("pod has been deleted"),
        "{status}"
    );
    assert_eq!(bench.count(|figures| &figures.review_failed), 1);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    assert!(matches!(agent.hear().await.unwrap(), Down::Leader(_)));
    // An idle stream: silence would end an active one first.
    bench.leading.send_replace(leader(false, 4));
    loop {
        if matches!(agent.hear().await.unwrap(), Down::Leader(hint) if !hint.is_leader) {
            break;
        }
    }
    bench.clock.advance(Duration::from_secs(3_610));
    let status = agent.end().await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired at"), "{status}");
}

#[tokio::test]
async fn a_newer_stream_of_a_node_takes_over_and_their_number_is_bounded() {
    let bench = bench().await;
    let mut first = bench.agent("n1").await;
    settle(&bench, &mut first, 1, samples(1, 100, vec![], &[])).await;
    let mut second = bench.agent("n1").await;
    settle(&bench, &mut second, 1, samples(1, 101, vec![], &[])).await;
    first.say(samples(2, 102, vec![], &[])).await;
    assert_eq!(first.end().await.code(), Code::Aborted);

    // The second stream is one of them. Each is let in before the next one comes.
    let mut more = Vec::new();
    for _ in 1..IngestLimits::default().streams_per_node {
        let mut agent = bench.agent("n1").await;
        assert!(matches!(agent.hear().await.unwrap(), Down::Leader(_)));
        more.push(agent);
    }
    let status = bench.agent("n1").await.end().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn spools_are_asked_for_where_the_agent_may_read_them_and_what_it_says_is_kept() {
    let bench = bench().await;
    let token = bench.maker.agent("n1", bench.clock.wall()).sign();
    let mut agent = bench.connect(Some(&token)).await.unwrap();
    let capabilities = Capabilities {
        spool_roots: vec!["/var/spool".into()],
        ..Capabilities::default()
    };
    agent
        .say(Up::Hello(Hello {
            capabilities: Some(capabilities),
            ..hello("n1")
        }))
        .await;
    let spool = |path: &str| Spool {
        path: path.into(),
        max_age: Some(Duration::from_secs(60)),
    };
    let (inside, outside) = (spool("/var/spool/jobs"), spool("/srv/in"));
    bench.wanted.send_replace(Arc::new(WantedSignals {
        spools: [inside.clone(), outside.clone()].into(),
        ..WantedSignals::default()
    }));
    let asked = loop {
        match agent.hear().await.unwrap() {
            Down::Directives(directives) if !directives.spools.is_empty() => {
                break directives.spools;
            }
            _ => {}
        }
    };
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].path.as_str(), asked[0].max_age_ms),
        ("/var/spool/jobs", 60_000)
    );

    let definition = SeriesDefinition {
        id: 1,
        kind: SeriesKind::SpoolFiles.into(),
        interval_ms: 1_000,
        since_agent_start: true,
        spool_path: "/var/spool/jobs".into(),
        spool_max_age_ms: 60_000,
        ..SeriesDefinition::default()
    };
    let point = GaugePoint {
        series: 1,
        last: 7,
        peak: 7,
        ..GaugePoint::default()
    };
    let said = |sequence, gone: &[u32], problem: &str| Samples {
        sequence,
        boottime_ns: sequence * 1_000_000_000,
        gone: gone.to_vec(),
        spool_problems: vec![SpoolProblem {
            path: "/var/spool/jobs".into(),
            max_age_ms: 60_000,
            problem: problem.into(),
        }],
        ..Samples::default()
    };
    let first = Samples {
        defined: vec![definition],
        gauges: vec![point],
        ..said(1, &[], "")
    };
    let now = bench.clock.boottime();
    settle(&bench, &mut agent, 1, Up::Samples(first)).await;
    let reading = bench.store.spool(&inside, now);
    assert_eq!((reading.files, reading.nodes), (7, 1));
    assert_eq!(bench.store.spool(&outside, now).forbidden, 1);
    let second = said(2, &[1], "Permission denied");
    settle(&bench, &mut agent, 2, Up::Samples(second)).await;
    let reading = bench.store.spool(&inside, now);
    assert_eq!(reading.nodes, 0);
    assert_eq!(&*reading.problems[0].1, "Permission denied");
}
