//! Services: a port of this machine that is forwarded, connection by connection, to the ready replicas
//! in turn.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pod::PodPort;
use super::report::{Fault, Place, Report, Reports};
use crate::clock::Clock;
use crate::keys::TargetKey;
use crate::world::Labels;

/// Connections of one port at once. Beyond them new ones wait in the kernel's queue.
const CONNECTIONS: usize = 4_096;
/// A port in use is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A replica that may get connections.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoint {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) ports: Vec<PodPort>,
    /// Names of the declared ports.
    pub(super) names: Vec<(String, u16)>,
}

impl Endpoint {
    fn port(&self, target: &IntOrString) -> Option<u16> {
        let declared = match target {
            IntOrString::Int(number) => u16::try_from(*number).ok()?,
            IntOrString::String(name) => self.names.iter().find(|(known, _)| known == name)?.1,
        };
        self.ports
            .iter()
            .find(|port| port.declared == declared)
            .map(|port| port.actual)
    }
}

pub(super) type Endpoints = watch::Receiver<Arc<Vec<Endpoint>>>;

/// The ports that are listened on.
pub(super) struct Forwarders {
    clock: Arc<dyn Clock>,
    reports: Reports,
    endpoints: Endpoints,
    running: BTreeMap<(TargetKey, u16), (Forward, DropGuard)>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq)]
struct Forward {
    service: TargetKey,
    place: Place,
    port: u16,
    target: IntOrString,
    selector: BTreeMap<String, String>,
}

impl Forwarders {
    pub(super) fn new(clock: Arc<dyn Clock>, reports: Reports, endpoints: Endpoints) -> Self {
        Self {
            clock,
            reports,
            endpoints,
            running: BTreeMap::new(),
        }
    }

    /// Listens on the ports of `services`, and on no others.
    pub(super) fn arrange(&mut self, services: &[(TargetKey, Arc<Service>, Place)]) {
        let mut wanted = BTreeMap::new();
        for (key, service, place) in services {
            let spec = service.spec.clone().unwrap_or_default();
            for port in spec.ports.unwrap_or_default() {
                if let Some(forward) = self.forward(key, &port, &spec.selector, place) {
                    wanted.insert((key.clone(), forward.port), forward);
                }
            }
        }
        self.running
            .retain(|key, (forward, _)| wanted.get(key) == Some(forward));
        for (key, forward) in wanted {
            self.running.entry(key).or_insert_with(|| {
                let stop = CancellationToken::new();
                let run = serve(
                    forward.clone(),
                    self.clock.clone(),
                    self.reports.clone(),
                    self.endpoints.clone(),
                );
                tokio::spawn(stop.clone().run_until_cancelled_owned(run));
                (forward, stop.drop_guard())
            });
        }
    }

    fn forward(
        &self,
        key: &TargetKey,
        port: &ServicePort,
        selector: &Option<BTreeMap<String, String>>,
        place: &Place,
    ) -> Option<Forward> {
        if port
            .protocol
            .as_deref()
            .is_some_and(|protocol| protocol != "TCP")
        {
            self.reports.note(format!(
                "{place}: Service {key}: port {} is not TCP and is not forwarded",
                port.port
            ));
            return None;
        }
        Some(Forward {
            service: key.clone(),
            place: place.clone(),
            port: u16::try_from(port.port).ok()?,
            target: port
                .target_port
                .clone()
                .unwrap_or(IntOrString::Int(port.port)),
            selector: selector.clone().filter(|selector| !selector.is_empty())?,
        })
    }
}

async fn serve(forward: Forward, clock: Arc<dyn Clock>, reports: Reports, endpoints: Endpoints) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, forward.port));
    let subject = format!("Service {} port {}", forward.service, forward.port);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let (message, advice) = refusal(forward.port, &error);
                reports.fault(Fault {
                    subject: subject.clone(),
                    place: forward.place.clone(),
                    field: Some("spec.ports.port".to_owned()),
                    message,
                    advice,
                });
            }
        }
        clock.sleep_until(clock.boottime() + TRY_AGAIN).await;
    };
    reports.mended(&subject);
    reports.say(Report::Listening {
        service: forward.service.to_string(),
        address: address.to_string(),
    });
    let (permits, turn) = (Arc::new(Semaphore::new(CONNECTIONS)), AtomicUsize::new(0));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors or the like: the condition passes, spinning does not help it.
            clock
                .sleep_until(clock.boottime() + Duration::from_millis(100))
                .await;
            continue;
        };
        let Some(port) = next(&forward, &endpoints, &turn) else {
            // Nobody is ready: as in a cluster, the connection is refused.
            continue;
        };
        tokio::spawn(async move {
            let _permit = permit;
            let replica = (Ipv4Addr::LOCALHOST, port);
            let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(replica)).await;
            if let Ok(Ok(mut replica)) = connected {
                let mut client = client;
                let _ = (client.set_nodelay(true), replica.set_nodelay(true));
                // Ends when both sides have; which of them broke is for them to see.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
            }
        });
    }
}

/// The port of the next replica in turn.
fn next(forward: &Forward, endpoints: &Endpoints, turn: &AtomicUsize) -> Option<u16> {
    let endpoints = endpoints.borrow();
    let ports: Vec<u16> = endpoints
        .iter()
        .filter(|endpoint| endpoint.namespace == *forward.service.namespace)
        .filter(|endpoint| {
            let mut wanted = forward.selector.iter();
            wanted.all(|(key, value)| endpoint.labels.get(key) == Some(value))
        })
        .filter_map(|endpoint| endpoint.port(&forward.target))
        .collect();
    let at = turn.fetch_add(1, Ordering::Relaxed);
    ports.get(at.checked_rem(ports.len())?).copied()
}

fn refusal(port: u16, error: &std::io::Error) -> (String, String) {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            format!("another program listens on port {port} of 127.0.0.1"),
            format!(
                "write another port, or end that program (ss -ltnp 'sport = :{port}' shows it); it is tried again, and the rest keeps running"
            ),
        ),
        std::io::ErrorKind::PermissionDenied => (
            format!("port {port} needs the right to use ports below 1024"),
            "write a port of 1024 or above".to_owned(),
        ),
        _ => (
            format!("cannot listen on port {port} of 127.0.0.1: {error}"),
            "it is tried again, and the rest keeps running".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::SystemClock;

    fn service(port: u16) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": port, "targetPort": "http"}]},
            }))
            .unwrap(),
        )
    }

    fn endpoint(app: &str, actual: u16) -> Endpoint {
        Endpoint {
            namespace: "default".into(),
            labels: [("app", app)].into_iter().collect(),
            ports: vec![PodPort {
                declared: 8080,
                actual,
            }],
            names: vec![("http".into(), 8080)],
        }
    }

    async fn replica(word: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                client.write_all(word).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn ready_replicas_get_connections_in_turn_and_a_port_in_use_is_said() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let (reports, clock) = (Reports::default(), Arc::new(SystemClock));
        let mut heard = reports.subscribe();
        let endpoints = vec![
            endpoint("web", replica(b"a").await),
            endpoint("web", replica(b"b").await),
            endpoint("other", replica(b"x").await),
        ];
        let (_send, receive) = watch::channel(Arc::new(endpoints));
        let mut forwarders = Forwarders::new(clock, reports.clone(), receive);
        let key = TargetKey::new("default", "web");
        let place = Place {
            file: "web.yaml".into(),
            line: Some(3),
        };
        forwarders.arrange(&[(key, service(port), place)]);
        let Ok(Report::Fault(fault)) = heard.recv().await else {
            panic!("no fault");
        };
        assert!(
            fault
                .to_string()
                .starts_with("web.yaml:3: Service default/web")
                && fault.message.contains(&port.to_string()),
            "{fault}"
        );
        drop(taken);
        while !matches!(heard.recv().await, Ok(Report::Listening { .. })) {}
        assert!(reports.standing().is_empty());
        let mut answers = String::new();
        for _ in 0..4 {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap();
            client.read_to_string(&mut answers).await.unwrap();
        }
        assert!(answers == "abab" || answers == "baba", "{answers}");
    }
}
