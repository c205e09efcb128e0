//! What the coordinator wants read, checked and with the contract's defaults filled in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use neap_proto::node;

/// Pods that one set may name: twice what a kubelet runs at most in practice.
const MAX_PODS: usize = 1024;
/// Ports, sockets or addresses that one pod may name each.
const MAX_PER_POD: usize = 64;
/// Spools of one set.
const MAX_SPOOLS: usize = 64;
/// Bytes of a spool's path, as the contract bounds them.
pub const MAX_SPOOL_PATH: usize = 1_024;
/// sizeof(sockaddr_un.sun_path).
const MAX_SOCKET_PATH: usize = 108;

/// A part of a directive that was not taken. The rest is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("directive for {of}: {field} = {value:?} is left out: {allowed}")]
pub struct Refused {
    /// What it was for: `pod "uid"`, or `the node`.
    pub of: String,
    /// Field of the contract.
    pub field: &'static str,
    /// What it held.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

/// Intervals that hold for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// CPU and pressure of pods without a directive.
    pub pod_interval: Duration,
    /// The node's own series.
    pub node_interval: Duration,
    /// Longest silence.
    pub heartbeat: Duration,
    /// Memory of pods that do not say otherwise.
    pub memory_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from_wire(&node::NodeSettings::default())
    }
}

impl Settings {
    fn from_wire(wire: &node::NodeSettings) -> Self {
        Self {
            pod_interval: millis(wire.default_interval_ms, 10_000, 1_000),
            node_interval: millis(wire.node_interval_ms, 1_000, 500),
            heartbeat: millis(wire.heartbeat_ms, 1_000, 500).min(Duration::from_secs(30)),
            memory_interval: millis(wire.memory_interval_ms, 10_000, 1_000),
        }
    }
}

/// What to read of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// CPU and pressure.
    pub interval: Duration,
    /// Memory.
    pub memory_interval: Duration,
    /// TCP ports whose accept queues are read, and how often.
    pub ports: Vec<(u16, Duration)>,
    /// Unix sockets whose backlogs are read, and how often.
    pub sockets: Vec<(Arc<str>, Duration)>,
    /// PassiveOpens of the namespace is read.
    pub passive_opens: bool,
    /// TCP ports whose first listener is reported.
    pub watch_listen: Vec<u16>,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The pod shares the node's namespace.
    pub host_network: bool,
}

impl PodPlan {
    /// What is read of a pod without a directive.
    pub fn default_of(settings: &Settings) -> Self {
        Self {
            interval: settings.pod_interval,
            memory_interval: settings.memory_interval,
            ports: Vec::new(),
            sockets: Vec::new(),
            passive_opens: false,
            watch_listen: Vec::new(),
            pod_ips: Vec::new(),
            host_network: false,
        }
    }

    /// Whether anything has to be looked up in the pod's network namespace.
    pub fn needs_sockets(&self) -> bool {
        !(self.ports.is_empty() && self.sockets.is_empty() && self.watch_listen.is_empty())
            || self.passive_opens
    }
}

/// Which directory, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spool {
    /// As the node knows it.
    pub path: Arc<str>,
    /// Files that were last written longer ago do not count.
    pub max_age: Option<Duration>,
}

impl Spool {
    /// As on the wire: milliseconds, 0 for none.
    pub fn max_age_ms(&self) -> u64 {
        self.max_age
            .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A full set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The set's number.
    pub generation: u64,
    /// For the node.
    pub settings: Settings,
    /// For pods that are named.
    pub pods: HashMap<Arc<str>, PodPlan>,
    /// Directories whose files are counted, and how often.
    pub spools: Vec<(Arc<Spool>, Duration)>,
}

impl Plan {
    /// Takes a set from the wire. What is out of range is left out and named.
    pub fn from_wire(wire: &node::Directives) -> (Self, Vec<Refused>) {
        let settings = Settings::from_wire(&wire.node.unwrap_or_default());
        let mut refused = Vec::new();
        let mut pods = HashMap::with_capacity(wire.pods.len().min(MAX_PODS));
        for pod in &wire.pods {
            if pods.len() >= MAX_PODS {
                refused.push(Refused {
                    of: of_pod(pod),
                    field: "pods",
                    value: wire.pods.len().to_string(),
                    allowed: "at most 1024 pods",
                });
                break;
            }
            pods.insert(
                Arc::from(pod.pod_uid.as_str()),
                pod_plan(pod, &settings, &mut refused),
            );
        }
        let spools = spools(&wire.spools, &mut refused);
        (
            Self {
                generation: wire.generation,
                settings,
                pods,
                spools,
            },
            refused,
        )
    }

    /// What to read of a pod.
    pub fn pod(&self, uid: &str) -> PodPlan {
        self.pods
            .get(uid)
            .cloned()
            .unwrap_or_else(|| PodPlan::default_of(&self.settings))
    }
}

fn pod_plan(wire: &node::PodDirective, settings: &Settings, refused: &mut Vec<Refused>) -> PodPlan {
    let mut refuse = |field, value: String, allowed| {
        refused.push(Refused {
            of: of_pod(wire),
            field,
            value,
            allowed,
        });
    };
    let mut plan = PodPlan::default_of(settings);
    if wire.interval_ms != 0 {
        plan.interval = millis(wire.interval_ms, 0, 500);
    }
    if wire.memory_interval_ms != 0 {
        plan.memory_interval = millis(wire.memory_interval_ms, 0, 1_000);
    }
    for queue in &wire.accept_queues {
        match port(queue.port) {
            Some(port) if plan.ports.len() < MAX_PER_POD => {
                if !plan.ports.iter().any(|(known, _)| *known == port) {
                    plan.ports.push((port, millis(queue.interval_ms, 100, 50)));
                }
            }
            _ => refuse(
                "accept_queues.port",
                queue.port.to_string(),
                "1 to 65535, at most 64 ports",
            ),
        }
    }
    for socket in &wire.unix_sockets {
        let fits = (1..=MAX_SOCKET_PATH).contains(&socket.path.len());
        if fits && plan.sockets.len() < MAX_PER_POD {
            if !plan
                .sockets
                .iter()
                .any(|(known, _)| **known == *socket.path)
            {
                plan.sockets.push((
                    socket.path.as_str().into(),
                    millis(socket.interval_ms, 100, 50),
                ));
            }
        } else {
            refuse(
                "unix_sockets.path",
                socket.path.clone(),
                "1 to 108 bytes, at most 64 sockets",
            );
        }
    }
    for wanted in &wire.watch_listen {
        match port(*wanted) {
            Some(port) if plan.watch_listen.len() < MAX_PER_POD => {
                if !plan.watch_listen.contains(&port) {
                    plan.watch_listen.push(port);
                }
            }
            _ => refuse(
                "watch_listen",
                wanted.to_string(),
                "1 to 65535, at most 64 ports",
            ),
        }
    }
    for address in &wire.pod_ips {
        match address.parse() {
            Ok(address) if plan.pod_ips.len() < MAX_PER_POD => plan.pod_ips.push(address),
            _ => refuse(
                "pod_ips",
                address.clone(),
                "an IPv4 or IPv6 address, at most 64",
            ),
        }
    }
    plan.host_network = wire.host_network;
    plan.passive_opens = wire.passive_opens && !wire.host_network;
    plan
}

fn of_pod(wire: &node::PodDirective) -> String {
    format!("pod {:?}", wire.pod_uid)
}

fn spools(wire: &[node::Spool], refused: &mut Vec<Refused>) -> Vec<(Arc<Spool>, Duration)> {
    let mut spools: Vec<(Arc<Spool>, Duration)> = Vec::new();
    for spool in wire {
        let plain = Path::new(&spool.path)
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let fits = spool.path.starts_with('/') && spool.path.len() <= MAX_SPOOL_PATH;
        if !(plain && fits) || spools.len() >= MAX_SPOOLS {
            refused.push(Refused {
                of: "the node".into(),
                field: "spools.path",
                value: spool.path.clone(),
                allowed: "an absolute path without \"..\" of at most 1024 bytes, at most 64 spools",
            });
            continue;
        }
        let max_age = Some(Duration::from_millis(spool.max_age_ms)).filter(|age| !age.is_zero());
        let (path, each) = (
            spool.path.as_str().into(),
            millis(spool.interval_ms, 1_000, 200),
        );
        let spool = Spool { path, max_age };
        if !spools.iter().any(|(known, _)| **known == spool) {
            spools.push((Arc::new(spool), each));
        }
    }
    spools
}

fn port(wire: u32) -> Option<u16> {
    u16::try_from(wire).ok().filter(|port| *port != 0)
}

fn millis(wire: u32, default: u64, least: u64) -> Duration {
    Duration::from_millis(if wire == 0 {
        default
    } else {
        u64::from(wire).max(least)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_the_default_and_too_often_means_the_least() {
        let (plan, refused) = Plan::from_wire(&node::Directives::default());
        assert_eq!(refused, []);
        assert_eq!(plan.settings, Settings::default());
        assert_eq!(plan.pod("any").interval, Duration::from_secs(10));
        let wire = node::Directives {
            generation: 4,
            node: Some(node::NodeSettings {
                heartbeat_ms: 90_000,
                node_interval_ms: 1,
                ..Default::default()
            }),
            pods: vec![node::PodDirective {
                pod_uid: "a".into(),
                interval_ms: 1_000,
                accept_queues: vec![
                    node::AcceptQueue {
                        port: 80,
                        interval_ms: 0,
                    },
                    node::AcceptQueue {
                        port: 81,
                        interval_ms: 1,
                    },
                ],
                passive_opens: true,
                ..Default::default()
            }],
            spools: Vec::new(),
        };
        let (plan, refused) = Plan::from_wire(&wire);
        assert_eq!((plan.generation, refused.len()), (4, 0));
        assert_eq!(plan.settings.heartbeat, Duration::from_secs(30));
        assert_eq!(plan.settings.node_interval, Duration::from_millis(500));
        let pod = plan.pod("a");
        assert_eq!(pod.interval, Duration::from_secs(1));
        assert_eq!(pod.memory_interval, Duration::from_secs(10));
        assert_eq!(
            pod.ports,
            [
                (80, Duration::from_millis(100)),
                (81, Duration::from_millis(50))
            ]
        );
        assert!(pod.passive_opens && pod.needs_sockets());
        assert!(!plan.pod("b").needs_sockets());
    }

    #[test]
    fn what_is_out_of_range_is_left_out_by_name_and_the_rest_holds() {
        let wire = node::Directives {
            pods: vec![node::PodDirective {
                pod_uid: "a".into(),
                accept_queues: [0, 80, 70_000]
                    .map(|port| node::AcceptQueue {
                        port,
                        interval_ms: 0,
                    })
                    .to_vec(),
                unix_sockets: vec![
                    node::UnixSocket {
                        path: String::new(),
                        interval_ms: 0,
                    },
                    node::UnixSocket {
                        path: "/run/app.sock".into(),
                        interval_ms: 0,
                    },
                ],
                watch_listen: vec![65_536, 443],
                pod_ips: vec!["10.0.0.1".into(), "nonsense".into()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let (plan, refused) = Plan::from_wire(&wire);
        let pod = plan.pod("a");
        assert_eq!(
            (
                pod.ports.len(),
                pod.sockets.len(),
                pod.watch_listen.len(),
                pod.pod_ips.len()
            ),
            (1, 1, 1, 1)
        );
        let fields: Vec<_> = refused.iter().map(|refused| refused.field).collect();
        assert_eq!(
            fields,
            [
                "accept_queues.port",
                "accept_queues.port",
                "unix_sockets.path",
                "watch_listen",
                "pod_ips"
            ]
        );
        assert_eq!(
            refused[1].to_string(),
            "directive for pod \"a\": accept_queues.port = \"70000\" is left out: 1 to 65535, at most 64 ports"
        );
    }

    #[test]
    fn spools_are_told_apart_by_path_and_age_and_bad_ones_are_named() {
        let spool = |path: &str, max_age_ms, interval_ms| node::Spool {
            path: path.into(),
            max_age_ms,
            interval_ms,
        };
        let wire = node::Directives {
            spools: vec![
                spool("/spool", 0, 0),
                spool("/spool", 0, 1),
                spool("/spool", 500, 1),
                spool("spool", 0, 0),
                spool("/spool/../etc", 0, 0),
            ],
            ..Default::default()
        };
        let (plan, refused) = Plan::from_wire(&wire);
        let taken: Vec<_> = plan
            .spools
            .iter()
            .map(|(spool, each)| (&*spool.path, spool.max_age, each.as_millis()))
            .collect();
        let half = Some(Duration::from_millis(500));
        assert_eq!(taken, [("/spool", None, 1_000), ("/spool", half, 200)]);
        assert_eq!(refused.len(), 2);
        assert_eq!(
            refused[1].to_string(),
            "directive for the node: spools.path = \"/spool/../etc\" is left out: an absolute path without \"..\" of at most 1024 bytes, at most 64 spools"
        );
        let many = (0..100).map(|n| spool(&format!("/{n}"), 0, 0)).collect();
        let wire = node::Directives {
            spools: many,
            ..Default::default()
        };
        let (plan, refused) = Plan::from_wire(&wire);
        assert_eq!((plan.spools.len(), refused.len()), (MAX_SPOOLS, 36));
    }

    #[test]
    fn a_set_is_bounded() {
        let pods = (0..2_000)
            .map(|n| node::PodDirective {
                pod_uid: n.to_string(),
                ..Default::default()
            })
            .collect();
        let (plan, refused) = Plan::from_wire(&node::Directives {
            pods,
            ..Default::default()
        });
        assert_eq!((plan.pods.len(), refused.len()), (MAX_PODS, 1));
    }

    #[test]
    fn passive_opens_of_the_nodes_namespace_are_not_the_pods() {
        let pod = node::PodDirective {
            pod_uid: "a".into(),
            passive_opens: true,
            host_network: true,
            ..Default::default()
        };
        let (plan, _) = Plan::from_wire(&node::Directives {
            pods: vec![pod],
            ..Default::default()
        });
        assert!(!plan.pod("a").passive_opens);
    }
}
