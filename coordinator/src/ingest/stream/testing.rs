//! A server of streams on a real port, and agents that speak to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use neap_consensus::{Leader, LeaderId, Leadership, NodeId};
use neap_proto::node::agent_message::Message as Up;
use neap_proto::node::coordinator_message::Message as Down;
use neap_proto::node::node_service_client::NodeServiceClient;
use neap_proto::node::{
    AgentMessage, CoordinatorMessage, CounterPoint, Hello, Samples, SeriesDefinition, SeriesKind,
};
use neap_units::{NodeName, PodUid};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::clock::{Boottime, Clock, ManualClock, SystemClock};
use crate::identity::testing::{ISSUER, TokenMaker};
use crate::identity::{Identity, IdentityConfig};
use crate::ingest::serve::{Addresses, IngestParts, serve};
use crate::ingest::{IngestFigures, IngestLimits, StreamSlots};
use crate::leading::Leading;
use crate::signals::{ContainerId, SeriesKey, Signal, SignalLimits, SignalStore, WantedSignals};
use crate::testing::api_server::ApiServer;
use crate::world::World;

pub(super) const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// Behind a coordinator's name.
const PEERS: &str = ".neap-coordinator-peers.neap.svc:9700";
/// Long enough for a loaded machine; a condition is waited for, never a time.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    pub(super) api: ApiServer,
    pub(super) clock: ManualClock,
    pub(super) maker: TokenMaker,
    pub(super) world: Arc<World>,
    pub(super) store: Arc<SignalStore>,
    pub(super) wanted: watch::Sender<Arc<WantedSignals>>,
    pub(super) leading: watch::Sender<Leading>,
    pub(super) figures: Arc<IngestFigures>,
    endpoint: Endpoint,
    _stop: DropGuard,
}

pub(super) fn leader(is_self: bool, term: u64) -> Leading {
    let name = if is_self {
        "neap-coordinator-0"
    } else {
        "neap-coordinator-1"
    };
    let leadership = Leadership {
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
    };
    Leading {
        leadership,
        members: Arc::new(["neap-coordinator-1".into(), "neap-coordinator-0".into()]),
    }
}

pub(super) async fn bench() -> Bench {
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
    let (leading, leading_watch) = watch::channel(leader(true, 3));
    let figures = Arc::new(IngestFigures::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let parts = IngestParts {
        identity,
        store: store.clone(),
        world: world.clone(),
        wanted: wanted_watch,
        leading: leading_watch,
        addresses: Addresses {
            own: format!("neap-coordinator-0{PEERS}"),
            expected: Vec::new(),
            of: Arc::new(|name| format!("{name}{PEERS}")),
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
        leading,
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

pub(super) struct Agent {
    pub(super) up: mpsc::Sender<AgentMessage>,
    pub(super) down: Streaming<CoordinatorMessage>,
    _channel: Channel,
}

impl Bench {
    pub(super) async fn connect(&self, token: Option<&str>) -> Result<Agent, Status> {
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

    pub(super) async fn agent(&self, node: &str) -> Agent {
        let token = self.maker.agent(node, self.clock.wall()).sign();
        let agent = self.connect(Some(&token)).await.unwrap();
        agent.say(Up::Hello(hello(node))).await;
        agent
    }

    pub(super) fn count(&self, what: fn(&IngestFigures) -> &std::sync::atomic::AtomicU64) -> u64 {
        what(&self.figures).load(Ordering::Relaxed)
    }
}

pub(super) fn hello(node: &str) -> Hello {
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
    pub(super) async fn say(&self, message: Up) {
        self.up
            .send(AgentMessage {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    pub(super) async fn hear(&mut self) -> Result<Down, Status> {
        let message = tokio::time::timeout(DEADLINE, self.down.message())
            .await
            .expect("nothing was heard")?;
        Ok(message
            .expect("the stream ended without a reason")
            .message
            .unwrap())
    }

    /// The status that ends the stream.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    }
}

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn cpu(id: u32, pod: &str, container: &str) -> SeriesDefinition {
    SeriesDefinition {
        id,
        kind: SeriesKind::CpuUsage.into(),
        pod_uid: pod.into(),
        container_id: container.into(),
        interval_ms: 1_000,
        ..SeriesDefinition::default()
    }
}

pub(super) fn samples(
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
pub(super) async fn settle(bench: &Bench, agent: &mut Agent, sequence: u64, message: Up) {
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
pub(super) fn rate(
    bench: &Bench,
    node: &str,
    pod: &str,
    container: &str,
    seconds: u64,
) -> Option<f64> {
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
