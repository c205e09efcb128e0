//! The whole agent on this machine's own cgroups and network namespaces. Without root the
//! tests say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may panic"
)]

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use neap_proto::node::{AcceptQueue, Directives, PodDirective, SeriesKind, UnixSocket};
use support::kernel::{Kubepods, permitted};
use support::{Agent, AgentProcess, Coordinator, Pki};

const PATIENCE: Duration = Duration::from_secs(30);

fn uid(number: usize) -> String {
    format!("{number:08x}-1234-4abc-8def-0123456789ab")
}

/// A listener on port 8080 with room for 50, whose only business is to let others wait.
const SERVER: &str = "ip link set lo up; exec python3 -c '
import socket, time
server = socket.socket(); server.bind((\"0.0.0.0\", 8080)); server.listen(50)
unix = socket.socket(socket.AF_UNIX); unix.bind(\"\\0neap-test\"); unix.listen(9)
clients = [socket.create_connection((\"127.0.0.1\", 8080)) for _ in range(3)]
while True: time.sleep(60)'";

fn python() -> bool {
    let found = std::process::Command::new("python3")
        .arg("-c")
        .arg("")
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!("skipped: no python3 to serve with");
    }
    found
}

#[tokio::test]
async fn a_burning_pod_is_measured_by_cgroups_of_this_machine() {
    if !permitted() {
        return;
    }
    let kubepods = Kubepods::new("burn");
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let agent = Agent::on_this_node(&pki, &kubepods.root(), &leader.address);
    let mut stream = leader.accept(PATIENCE).await;
    let capabilities = stream.hello.capabilities.clone().unwrap();
    assert!(
        capabilities.sockets && capabilities.memory,
        "{capabilities:?}"
    );
    stream.lead(1, &[]);
    stream.direct(Directives {
        generation: 1,
        pods: vec![PodDirective {
            pod_uid: uid(1),
            interval_ms: 500,
            memory_interval_ms: 1_000,
            ..Default::default()
        }],
        ..Default::default()
    });
    let _pod = kubepods.start(&uid(1), "exec sh -c 'while :; do :; done'");
    // 200 ms of CPU time, and some memory: it runs a shell.
    stream
        .value(SeriesKind::CpuUsage, PATIENCE, |micros| micros > 200_000)
        .await;
    stream
        .value(SeriesKind::MemoryWorkingSet, PATIENCE, |bytes| {
            bytes > 4_096
        })
        .await;
    if capabilities.pod_pressure {
        // It shares two CPUs with everything else, so the kernel has at least begun to count.
        stream
            .value(SeriesKind::PressureCpuSome, PATIENCE, |_| true)
            .await;
    }
    stream
        .value(SeriesKind::NodeCpuUsage, PATIENCE, |micros| micros > 0)
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn queues_inside_a_pods_own_namespace_are_seen() {
    if !permitted() || !python() {
        return;
    }
    let kubepods = Kubepods::new("queue");
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let agent = Agent::on_this_node(&pki, &kubepods.root(), &leader.address);
    let mut stream = leader.accept(PATIENCE).await;
    stream.lead(1, &[]);
    stream.direct(Directives {
        generation: 1,
        pods: vec![PodDirective {
            pod_uid: uid(1),
            accept_queues: vec![AcceptQueue {
                port: 8080,
                interval_ms: 0,
            }],
            unix_sockets: vec![UnixSocket {
                path: "@neap-test".into(),
                interval_ms: 0,
            }],
            watch_listen: vec![8080],
            passive_opens: true,
            ..Default::default()
        }],
        ..Default::default()
    });
    // The directive is there before the pod.
    let pod = kubepods.start(&uid(1), SERVER);
    let listening = stream.listening(PATIENCE).await;
    assert_eq!((listening.pod_uid, listening.port), (uid(1), 8080));
    stream
        .value(SeriesKind::AcceptBacklog, PATIENCE, |backlog| backlog == 3)
        .await;
    stream
        .value(SeriesKind::AcceptLimit, PATIENCE, |limit| limit == 50)
        .await;
    stream
        .value(SeriesKind::UnixLimit, PATIENCE, |limit| limit == 9)
        .await;
    stream
        .value(SeriesKind::PassiveOpens, PATIENCE, |opens| opens == 3)
        .await;
    agent
        .metric("neap_agent_network_namespaces", PATIENCE, |namespaces| {
            namespaces == 1.0
        })
        .await;
    // A client that comes later, from inside the namespace.
    let client =
        "import socket,sys; c=socket.create_connection((\"127.0.0.1\",8080)); sys.stdin.read()";
    let mut client = std::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", pod.pid()))
        .args(["python3", "-c", client])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    stream
        .value(SeriesKind::AcceptBacklog, PATIENCE, |backlog| backlog == 4)
        .await;
    client.kill().unwrap();
    client.wait().unwrap();
    drop(pod);
    agent
        .metric("neap_agent_network_namespaces", PATIENCE, |namespaces| {
            namespaces == 0.0
        })
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_pod_whose_processes_are_still_in_the_nodes_namespace_is_not_looked_up() {
    if !permitted() {
        return;
    }
    let kubepods = Kubepods::new("early");
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let agent = Agent::on_this_node(&pki, &kubepods.root(), &leader.address);
    // Something listens on the node itself.
    let on_the_node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = on_the_node.local_addr().unwrap().port();
    let mut stream = leader.accept(PATIENCE).await;
    stream.lead(1, &[]);
    let directive = |number: usize, host_network| PodDirective {
        pod_uid: uid(number),
        accept_queues: vec![AcceptQueue {
            port: port.into(),
            interval_ms: 0,
        }],
        host_network,
        ..Default::default()
    };
    stream.direct(Directives {
        generation: 1,
        pods: vec![directive(1, false), directive(2, true)],
        ..Default::default()
    });
    let _early = kubepods.start_in_the_nodes_namespace(&uid(1), "exec sleep 1000");
    let _host = kubepods.start_in_the_nodes_namespace(&uid(2), "exec sleep 1000");
    // Found for the pod that shares the node's namespace by its specification, and for it alone.
    let definition = stream.defined(SeriesKind::AcceptBacklog, PATIENCE).await;
    assert_eq!(definition.pod_uid, uid(2));
    agent
        .metric("neap_agent_network_namespaces", PATIENCE, |namespaces| {
            namespaces == 1.0
        })
        .await;
    agent
        .metric("neap_agent_pods", PATIENCE, |pods| pods == 2.0)
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn pods_that_come_and_go_ten_a_second_leak_no_descriptor_and_no_namespace() {
    const PODS: usize = 60;
    const EACH: Duration = Duration::from_millis(100);
    if !permitted() {
        return;
    }
    let kubepods = Kubepods::new("churn");
    let pki = Pki::new();
    let mut leader = Coordinator::start(&pki).await;
    let program = env!("CARGO_BIN_EXE_neap-agent");
    let flags = [format!("--kubelet-cgroup-root={}", kubepods.root())];
    let agent = AgentProcess::start(program, &pki, &flags, &leader.address);
    let mut stream = leader.accept(PATIENCE).await;
    stream.lead(1, &[]);
    let directive = |number| PodDirective {
        pod_uid: uid(number),
        interval_ms: 500,
        accept_queues: vec![AcceptQueue {
            port: 8080,
            interval_ms: 0,
        }],
        passive_opens: true,
        ..Default::default()
    };
    stream.direct(Directives {
        generation: 1,
        pods: (0..PODS).map(directive).collect(),
        ..Default::default()
    });
    stream.samples(PATIENCE).await;
    let before = agent.descriptors();

    // Each lives for two seconds, whether the agent has got to it or not.
    let mut alive = VecDeque::new();
    let mut most = 0;
    let mut tick = tokio::time::interval(EACH);
    for number in 0..PODS {
        tick.tick().await;
        alive.push_back(kubepods.start(&uid(number), "exec sleep 1000"));
        if alive.len() > 20 {
            drop(alive.pop_front());
        }
        most = most.max(agent.descriptors());
    }
    drop(alive);
    let pages = agent.pages;
    pages
        .metric("neap_agent_pods", PATIENCE, |pods| pods == 0.0)
        .await;
    // Passive opens come out of the namespace: a pod that has them was entered.
    let entered = stream.pods_with(SeriesKind::PassiveOpens, PATIENCE).await;
    assert!(most > before && entered.len() > PODS / 2, "{entered:?}");
    agent
        .wait_for_descriptors(PATIENCE, |descriptors| descriptors <= before)
        .await;
    assert_eq!(agent.namespaces(), 1, "only its own");
}
