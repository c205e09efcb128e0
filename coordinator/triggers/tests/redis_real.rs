//! The Redis triggers against real servers, where redis-server is installed.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use std::time::Duration;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::redis::Redis;
use support::{poll, poll_within, trigger};

fn list(context: &TriggerContext, server: &Redis, name: &str) -> BuiltTrigger {
    let address = server.address();
    let metadata = [
        ("address", address.as_str()),
        ("listName", name),
        ("activationListLength", "2"),
        ("databaseIndex", "3"),
    ];
    trigger(context, "redis", &metadata, &[("password", "s3cret")])
}

fn stream(context: &TriggerContext, server: &Redis, more: &[(&str, &str)]) -> BuiltTrigger {
    let (host, port) = (support::host().to_string(), server.port.to_string());
    let mut metadata = vec![
        ("host", host.as_str()),
        ("port", port.as_str()),
        ("stream", "orders"),
        ("activationLagCount", "1"),
    ];
    metadata.extend(more);
    trigger(
        context,
        "redis-streams",
        &metadata,
        &[("password", "s3cret")],
    )
}

async fn value(built: &BuiltTrigger) -> (MilliValue, bool) {
    let reading = poll(built).await.expect("a value");
    (reading.values[0], reading.active)
}

const fn units(count: i64) -> MilliValue {
    MilliValue::from_units(count)
}

#[tokio::test]
async fn counts_elements_of_each_kind_of_key() {
    let Some(mut server) = Redis::start(&[]).await else {
        return;
    };
    let context = TriggerContext::default();
    let script = "redis.call('SELECT', 3); redis.call('RPUSH', 'l', 1, 2, 3); redis.call('SADD', 's', 1, 2); \
                  redis.call('ZADD', 'z', 1, 'a'); redis.call('HSET', 'h', 'a', 1, 'b', 2, 'c', 3, 'd', 4); redis.call('SET', 't', 'x')";
    server.run(&["EVAL", script, "0"]).await;
    for (name, count, active) in [
        ("l", 3, true),
        ("s", 2, false),
        ("z", 1, false),
        ("h", 4, true),
        ("nothing", 0, false),
    ] {
        assert_eq!(
            value(&list(&context, &server, name)).await,
            (units(count), active),
            "{name}"
        );
    }
    let error = poll(&list(&context, &server, "t"))
        .await
        .expect_err("a string");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("is a string")),
        "{error}"
    );

    let address = server.address();
    let metadata = [
        ("address", address.as_str()),
        ("listName", "l"),
        ("password", "wr0ng"),
    ];
    let error = poll(&trigger(&context, "redis", &metadata, &[]))
        .await
        .expect_err("wrong password");
    assert!(matches!(&error, PollError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("wr0ng"), "{error}");

    let counting = list(&context, &server, "l");
    server.kill();
    let error = poll(&counting).await.expect_err("no server");
    assert!(matches!(&error, PollError::Unreachable { .. }), "{error}");
    server.restart().await;
    assert_eq!(
        value(&counting).await,
        (units(0), false),
        "a new connection to a new server"
    );
}

#[tokio::test]
async fn counts_entries_of_a_stream() {
    let Some(server) = Redis::start(&[]).await else {
        return;
    };
    let context = TriggerContext::default();
    let length = stream(&context, &server, &[]);
    let pending = stream(&context, &server, &[("consumerGroup", "workers")]);
    let lag = stream(
        &context,
        &server,
        &[("consumerGroup", "workers"), ("lagCount", "2")],
    );
    assert_eq!(value(&length).await, (units(0), false));
    assert_eq!(value(&lag).await, (units(0), false), "no stream yet");
    for entry in ["1-1", "2-1", "3-1"] {
        server.run(&["XADD", "orders", entry, "k", "v"]).await;
    }
    assert_eq!(value(&length).await, (units(3), true));
    assert_eq!(
        value(&lag).await,
        (units(3), true),
        "no group yet: every entry waits"
    );
    let error = poll(&pending).await.expect_err("no group");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("NOGROUP")),
        "{error}"
    );
    server
        .run(&["XGROUP", "CREATE", "orders", "workers", "0"])
        .await;
    server
        .run(&[
            "XREADGROUP",
            "GROUP",
            "workers",
            "w1",
            "COUNT",
            "2",
            "STREAMS",
            "orders",
            ">",
        ])
        .await;
    assert_eq!(value(&pending).await, (units(2), true));
    assert_eq!(value(&lag).await, (units(1), false));
    server
        .run(&["XACK", "orders", "workers", "1-1", "2-1"])
        .await;
    assert_eq!(value(&pending).await, (units(0), false));
    server.run(&["XADD", "orders", "4-1", "k", "v"]).await;
    server.run(&["XDEL", "orders", "3-1"]).await;
    let error = poll(&lag)
        .await
        .expect_err("an entry that was not read is gone");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("cannot tell the lag")),
        "{error}"
    );
}

#[tokio::test]
async fn finds_the_servers_of_a_cluster_and_of_sentinels() {
    let Some(node) = Redis::start(&["--cluster-enabled", "yes"]).await else {
        return;
    };
    let context = TriggerContext::default();
    node.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let (port, address) = (node.port.to_string(), node.address());
    let host = support::host().to_string();
    let metadata = [
        ("hosts", host.as_str()),
        ("ports", port.as_str()),
        ("listName", "l"),
    ];
    let clustered = trigger(
        &context,
        "redis-cluster",
        &metadata,
        &[("password", "s3cret")],
    );
    // The node believes in its slots only a moment after they were added.
    let served = async {
        while poll_within(&clustered, Duration::from_secs(5))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served)
        .await
        .expect("the cluster serves");
    node.run(&["RPUSH", "l", "1", "2"]).await;
    assert_eq!(value(&clustered).await, (units(2), true));
    let metadata = [("addresses", address.as_str()), ("stream", "orders")];
    assert_eq!(
        value(&trigger(
            &context,
            "redis-cluster-streams",
            &metadata,
            &[("password", "s3cret")]
        ))
        .await,
        (units(0), false)
    );

    let Some(master) = Redis::start(&[]).await else {
        return;
    };
    master.run(&["RPUSH", "l", "1", "2", "3"]).await;
    let host = support::host().to_string();
    let configuration = tempfile::NamedTempFile::new().expect("file");
    let text = format!(
        "sentinel monitor main {host} {} 1\nsentinel auth-pass main s3cret\n",
        master.port
    );
    std::fs::write(configuration.path(), text).expect("configuration");
    let Some(server) = support::program(&["redis-server"]) else {
        return;
    };
    let port = support::free_port();
    let child = std::process::Command::new(server)
        .arg(configuration.path())
        .args(["--sentinel", "--bind", &host, "--port"])
        .arg(port.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("sentinel starts");
    let _sentinel = support::Process(child);
    let address = format!("{host}:{port}");
    let metadata = [
        ("addresses", address.as_str()),
        ("listName", "l"),
        ("sentinelMaster", "main"),
    ];
    let watched = trigger(
        &context,
        "redis-sentinel",
        &metadata,
        &[("password", "s3cret")],
    );
    let served = async {
        while poll_within(&watched, Duration::from_secs(5)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served)
        .await
        .expect("the sentinel answers");
    assert_eq!(value(&watched).await, (units(3), true));
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_no_more_than_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("address").to_string();
    let context = TriggerContext::default();
    let metadata = [("address", address.as_str()), ("listName", "l")];
    let error = poll_within(
        &trigger(&context, "redis", &metadata, &[]),
        Duration::from_millis(200),
    )
    .await
    .expect_err("silence");
    assert_eq!(
        error,
        PollError::Timeout {
            source_name: "redis",
            waited: Duration::from_millis(200)
        }
    );
}

#[test]
fn what_cannot_work_is_a_warning() {
    let context = TriggerContext::default();
    let warning = |trigger_type: &str, metadata: &[(&str, &str)], auth: &[(&str, &str)]| {
        let built = trigger(&context, trigger_type, metadata, auth);
        assert_eq!(built.warnings.len(), 1, "{built:?}");
        built.warnings[0].to_string()
    };
    assert!(
        warning("redis", &[("address", "redis"), ("listName", "l")], &[]).contains("host:port")
    );
    assert!(
        warning(
            "redis-sentinel",
            &[("address", "redis:1"), ("listName", "l")],
            &[]
        )
        .contains("sentinelMaster")
    );
    let shown = warning(
        "redis",
        &[("address", "redis:1"), ("listName", "l")],
        &[("tls", "enable"), ("keyPassword", "hunter2")],
    );
    assert!(
        shown.contains("encrypted") && !shown.contains("hunter2"),
        "{shown}"
    );
}
