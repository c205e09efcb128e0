//! From what the decider wants to what an agent is told.

use std::collections::BTreeMap;
use std::time::Duration;

use neap_proto::node::{self, AcceptQueue, Directives, NodeSettings, PodDirective, UnixSocket};
use neap_units::PodUid;

use crate::signals::{Wanted, WantedSignal};
use crate::world::World;

/// The directives of one node, and whether some pod with a port has no address yet: they are then made
/// again when it may have one.
pub(super) struct Made {
    pub(super) pods: Vec<PodDirective>,
    pub(super) lacks_addresses: bool,
}

/// Makes the directives for the readings wanted of one node, in the order of the pods.
pub(super) fn directives(wanted: &[WantedSignal], world: &World) -> Made {
    let mut pods: BTreeMap<&PodUid, PodDirective> = BTreeMap::new();
    for signal in wanted {
        let directive = pods.entry(&signal.pod).or_insert_with(|| PodDirective {
            pod_uid: signal.pod.to_string(),
            ..PodDirective::default()
        });
        let every = millis(signal.every);
        match &signal.what {
            Wanted::Resources => directive.interval_ms = sooner(directive.interval_ms, every),
            Wanted::Memory => {
                directive.memory_interval_ms = sooner(directive.memory_interval_ms, every)
            }
            Wanted::AcceptQueue { port } => {
                let port = u32::from(*port);
                match directive
                    .accept_queues
                    .iter_mut()
                    .find(|queue| queue.port == port)
                {
                    Some(queue) => queue.interval_ms = sooner(queue.interval_ms, every),
                    None => directive.accept_queues.push(AcceptQueue {
                        port,
                        interval_ms: every,
                    }),
                }
            }
            Wanted::PassiveOpens => directive.passive_opens = true,
            Wanted::UnixQueue { path } => {
                match directive
                    .unix_sockets
                    .iter_mut()
                    .find(|socket| socket.path == path.as_ref())
                {
                    Some(socket) => socket.interval_ms = sooner(socket.interval_ms, every),
                    None => {
                        directive.unix_sockets.push(UnixSocket {
                            path: path.to_string(),
                            interval_ms: every,
                        });
                    }
                }
            }
        }
    }
    let mut lacks_addresses = false;
    let pods = pods
        .into_iter()
        .map(|(uid, mut directive)| {
            if !directive.accept_queues.is_empty() {
                let facts = world.pod_by_cgroup_uid(uid);
                directive.host_network = facts.as_ref().is_some_and(|pod| pod.shape.host_network);
                directive.pod_ips = facts
                    .iter()
                    .flat_map(|pod| &pod.ips)
                    .map(ToString::to_string)
                    .collect();
                let is_over = facts.is_some_and(|pod| !pod.is_current());
                lacks_addresses |= directive.pod_ips.is_empty() && !is_over;
            }
            directive
        })
        .collect();
    Made {
        pods,
        lacks_addresses,
    }
}

/// The message that carries them.
pub(super) fn message(
    pods: Vec<PodDirective>,
    spools: Vec<node::Spool>,
    generation: u64,
) -> Directives {
    // Zero settings stand for the defaults that the contract names.
    Directives {
        generation,
        node: Some(NodeSettings::default()),
        pods,
        spools,
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// The shorter of two intervals; 0 means none is set.
fn sooner(known: u32, new: u32) -> u32 {
    match (known, new) {
        (0, new) => new,
        (known, 0) => known,
        (known, new) => known.min(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::testing::pod;

    fn want(uid: &str, what: Wanted, every_ms: u64) -> WantedSignal {
        WantedSignal {
            pod: PodUid::new(uid).unwrap(),
            what,
            every: Duration::from_millis(every_ms),
        }
    }

    #[test]
    fn readings_of_one_pod_become_one_directive() {
        let world = World::new();
        world.apply_pod(
            pod("x", "a")
                .uid("a")
                .node("n")
                .with(|pod| pod.ips = Box::new(["10.0.0.7".parse().unwrap()]))
                .done(),
        );
        let wanted = [
            want("a", Wanted::Resources, 5_000),
            want("a", Wanted::Resources, 1_000),
            want("a", Wanted::Memory, 10_000),
            want("a", Wanted::AcceptQueue { port: 8080 }, 100),
            want("a", Wanted::PassiveOpens, 1_000),
            want(
                "a",
                Wanted::UnixQueue {
                    path: "/run/a.sock".into(),
                },
                200,
            ),
            want("b", Wanted::Resources, 1_000),
        ];
        let made = directives(&wanted, &world);
        assert!(!made.lacks_addresses);
        let [a, b] = made.pods.as_slice() else {
            panic!("{:?}", made.pods)
        };
        assert_eq!(
            (a.interval_ms, a.memory_interval_ms, a.passive_opens),
            (1_000, 10_000, true)
        );
        assert_eq!(
            a.accept_queues,
            [AcceptQueue {
                port: 8080,
                interval_ms: 100
            }]
        );
        assert_eq!(
            a.unix_sockets.first().map(|socket| socket.path.as_str()),
            Some("/run/a.sock")
        );
        assert_eq!(a.pod_ips, ["10.0.0.7"]);
        assert_eq!((b.pod_uid.as_str(), b.interval_ms), ("b", 1_000));
    }

    #[test]
    fn a_port_without_an_address_is_made_again() {
        let world = World::new();
        let wanted = [want("a", Wanted::AcceptQueue { port: 80 }, 100)];
        assert!(directives(&wanted, &world).lacks_addresses);
        world.apply_pod(pod("x", "a").uid("a").node("n").deleting().done());
        assert!(
            !directives(&wanted, &world).lacks_addresses,
            "a pod on its way out gets no address any more"
        );
    }
}
