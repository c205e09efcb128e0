//! Streams over a real port: TLS, tokens, gRPC.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use neap_consensus::{Leader, LeaderId, Leadership, NodeId};
use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_client::NodeServiceClient;
use neap_proto::node::{
    AgentMessage, Capabilities, CoordinatorMessage, CounterPoint, GaugePoint, Hello, Replay,
    ReplaySeries, Samples, SeriesDefinition, SeriesKind, SpoolProblem,
};
use neap_units::{NodeName, PodUid};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::serve::{Addresses, IngestParts, serve};
use super::{IngestFigures, IngestLimits, StreamSlots};
use crate::clock::{Boottime, Clock, ManualClock, SystemClock};
use crate::identity::testing::{ISSUER, TokenMaker};
use crate::identity::{Identity, IdentityConfig};
use crate::signals::{
    ContainerId, SeriesKey, Signal, SignalLimits, SignalStore, Spool, Wanted, WantedSignal,
    WantedSignals,
};
use crate::testing::api_server::ApiServer;
use crate::world::World;
use crate::world::testing::pod;

const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// Long enough for a loaded machine; a condition is waited for, never a time.
const DEADLINE: Duration = Duration::from_secs(60);

struct Bench {
    api: ApiServer,
    clock: ManualClock,
    maker: TokenMaker,
    world: Arc<World>,
    store: Arc<SignalStore>,
    wanted: watch::Sender<Arc<WantedSignals>>,
    leadership: watch::Sender<Leadership>,
    figures: Arc<IngestFigures>,
    endpoint: Endpoint,
    _stop: DropGuard,
}

fn leader(is_self: bool, term: u64) -> Leadership {
    let name = if is_self {
        "neap-coordinator-0"
    } else {
        "neap-coordinator-1"
    };
    Leadership {
        node: Some(NodeId(1)),
        term,
        leader: Some(Leader {
            id: LeaderId {
                term,
                node: NodeId(1),
            },
            name: name.into(),
            address: format!("{name}:9701"),
        }),
        is_self,
    }
}

async fn bench() -> Bench {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (api, client) = ApiServer::new();
    let maker = TokenMaker::es256("k1");
    api.get(
        "/.well-known/openid-configuration",
        json!({"issuer": ISSUER}),
    );
    api.get("/openid/v1/jwks", TokenMaker::jwks(&[&maker]));
    accept_reviews(&api);
    let bundle = Arc::new(std::sync::Mutex::new(String::new()));
    let published = bundle.clone();
    api.handle(
        axum::http::Method::POST,
        "/api/v1/namespaces/neap/secrets",
        |sent| (201, vec![], sent.body.clone()),
    );
    api.handle(
        axum::http::Method::POST,
        "/api/v1/namespaces/neap/configmaps",
        move |sent| {
            *published.lock().unwrap() = sent.body["data"]["ca.crt"].as_str().unwrap().to_owned();
            (201, vec![], sent.body.clone())
        },
    );
    let clock = ManualClock::new(Boottime::from_micros(1_000_000_000), SystemClock.wall());
    let stop = CancellationToken::new();
    let config = IdentityConfig::new("neap", "neap-coordinator-0");
    let identity = Identity::start(client, config, Arc::new(clock.clone()), &stop)
        .await
        .unwrap()
        .unwrap();
    let world = Arc::new(World::new());
    let store = SignalStore::new(SignalLimits::default());
    let (wanted, wanted_watch) = watch::channel(Arc::new(WantedSignals::default()));
    let (leadership, leadership_watch) = watch::channel(leader(true, 3));
    let figures = Arc::new(IngestFigures::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let parts = IngestParts {
        identity,
        store: store.clone(),
        world: world.clone(),
        wanted: wanted_watch,
        leadership: leadership_watch,
        addresses: Addresses {
            name: "neap-coordinator-0".into(),
            suffix: ".neap-coordinator-peers.neap.svc:9700".into(),
            members: Arc::new(|| vec!["neap-coordinator-1".into(), "neap-coordinator-0".into()]),
        },
        clock: Arc::new(clock.clone()),
        limits: IngestLimits::default(),
        figures: figures.clone(),
        slots: StreamSlots::default(),
        stop: stop.clone(),
    };
    tokio::spawn(serve(listener, parts));
    let certificate = Certificate::from_pem(bundle.lock().unwrap().as_str());
    let tls = ClientTlsConfig::new()
        .ca_certificate(certificate)
        .domain_name("neap-coordinator.neap.svc");
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(tls)
        .unwrap();
    Bench {
        api,
        clock,
        maker,
        world,
        store,
        wanted,
        leadership,
        figures,
        endpoint,
        _stop: stop.drop_guard(),
    }
}

fn accept_reviews(api: &ApiServer) {
    api.post(
        REVIEW,
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": {
            "authenticated": true, "audiences": ["neap"], "user": {"username": "system:serviceaccount:neap:neap-agent"}}}),
    );
}

struct Agent {
    up: mpsc::Sender<AgentMessage>,
    down: Streaming<CoordinatorMessage>,
    _channel: Channel,
}

impl Bench {
    async fn connect(&self, token: Option<&str>) -> Result<Agent, Status> {
        let channel = self.endpoint.connect().await.unwrap();
        let (up, messages) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let down = NodeServiceClient::new(channel.clone())
            .connect(request)
            .await?
            .into_inner();
        Ok(Agent {
            up,
            down,
            _channel: channel,
        })
    }

    async fn agent(&self, node: &str) -> Agent {
        let token = self.maker.agent(node, self.clock.wall()).sign();
        let agent = self.connect(Some(&token)).await.unwrap();
        agent.say(Up::Hello(hello(node))).await;
        agent
    }

    fn count(&self, what: fn(&IngestFigures) -> &std::sync::atomic::AtomicU64) -> u64 {
        what(&self.figures).load(Ordering::Relaxed)
    }
}

fn hello(node: &str) -> Hello {
    Hello {
        protocol_version: 1,
        node_name: node.into(),
        boot_id: "boot-1".into(),
        agent_version: "0.1.0".into(),
        agent_start_boottime_ns: 5,
        capabilities: None,
    }
}

impl Agent {
    async fn say(&self, message: Up) {
        self.up
            .send(AgentMessage {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Result<Down, Status> {
        let message = tokio::time::timeout(DEADLINE, self.down.message())
            .await
            .expect("nothing was heard")?;
        Ok(message
            .expect("the stream ended without a reason")
            .message
            .unwrap())
    }

    /// The status that ends the stream.
    async fn end(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    }
}

const SECOND: u64 = 1_000_000_000;

fn cpu(id: u32, pod: &str, container: &str) -> SeriesDefinition {
    SeriesDefinition {
        id,
        kind: SeriesKind::CpuUsage.into(),
        pod_uid: pod.into(),
        container_id: container.into(),
        interval_ms: 1_000,
        ..SeriesDefinition::default()
    }
}

fn samples(
    sequence: u64,
    second: u64,
    defined: Vec<SeriesDefinition>,
    points: &[(u32, u64)],
) -> Up {
    let counters = points
        .iter()
        .map(|(series, value)| CounterPoint {
            series: *series,
            value: *value,
            ..CounterPoint::default()
        })
        .collect();
    Up::Samples(Samples {
        sequence,
        boottime_ns: second * SECOND,
        defined,
        counters,
        ..Samples::default()
    })
}

/// Sends samples and waits until they were taken in.
async fn settle(bench: &Bench, agent: &mut Agent, sequence: u64, message: Up) {
    bench.clock.advance(Duration::from_secs(1));
    agent.say(message).await;
    loop {
        if let Down::Ack(ack) = agent.hear().await.unwrap() {
            assert_eq!(ack.sequence, sequence);
            return;
        }
    }
}

/// CPU time used in the last `seconds`, in microseconds per second.
fn rate(bench: &Bench, node: &str, pod: &str, container: &str, seconds: u64) -> Option<f64> {
    let key = SeriesKey::container(
        &PodUid::new(pod).unwrap(),
        &ContainerId::new(container),
        Signal::CpuUsage,
    );
    bench
        .store
        .read(
            &NodeName::new(node).unwrap(),
            bench.clock.boottime(),
            |view| {
                view.window(&key, Duration::from_secs(seconds))
                    .map(|reading| reading.value)
            },
        )
        .flatten()
}

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

    bench.leadership.send_replace(leader(false, 4));
    let Down::Leader(hint) = agent.hear().await.unwrap() else {
        panic!()
    };
    assert!(!hint.is_leader);
    assert_eq!(
        hint.leader_address,
        "neap-coordinator-1.neap-coordinator-peers.neap.svc:9700"
    );
    bench.leadership.send_replace(leader(true, 5));
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
async fn a_token_that_the_api_server_refuses_ends_its_stream() {
    let bench = bench().await;
    let mut agent = bench.agent("n1").await;
    assert!(matches!(agent.hear().await.unwrap(), Down::Leader(_)));
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
    bench.leadership.send_replace(leader(false, 4));
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

    let mut more = Vec::new();
    for _ in 0..IngestLimits::default().streams_per_node {
        more.push(bench.agent("n1").await);
    }
    let last = more.last_mut().unwrap();
    let status = last.end().await;
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
