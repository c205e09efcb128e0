//! The `postgresql` trigger against a real server, where one is installed.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use std::time::Duration;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::postgres::{PASSWORD, Postgres};
use support::{poll, poll_within, polled, trigger};

fn by_parts(
    context: &TriggerContext,
    server: &Postgres,
    query: &str,
    password: &str,
) -> BuiltTrigger {
    let (host, port) = (support::host().to_string(), server.port.to_string());
    let metadata = [
        ("host", host.as_str()),
        ("port", port.as_str()),
        ("userName", "neap"),
        ("dbName", "postgres"),
        ("sslmode", "disable"),
        ("query", query),
        ("targetQueryValue", "5"),
        ("activationTargetQueryValue", "2.5"),
    ];
    trigger(context, "postgresql", &metadata, &[("password", password)])
}

fn by_text(context: &TriggerContext, query: &str, text: &str) -> BuiltTrigger {
    trigger(
        context,
        "postgresql",
        &[("query", query), ("targetQueryValue", "5")],
        &[("connection", text)],
    )
}

#[tokio::test]
async fn reads_a_real_server() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    server.run("CREATE TABLE task (id serial, state text); INSERT INTO task (state) VALUES ('new'), ('new'), ('new'), ('done')").await;
    let context = TriggerContext::default();
    let waiting = by_parts(
        &context,
        &server,
        "SELECT count(*) FROM task WHERE state = 'new'",
        PASSWORD,
    );
    let reading = poll(&waiting).await.expect("three");
    assert_eq!(
        (reading.values, reading.active),
        (vec![MilliValue::from_units(3)], true)
    );
    for (query, thousandths) in [
        ("SELECT 2.5", 2_500),
        ("SELECT 1.25e3::float8, 'other'", 1_250_000),
        ("SELECT '7'::text", 7_000),
        ("SELECT 'NaN'::numeric", 0),
        ("SELECT -3::bigint;", 0),
        ("SELECT id FROM task ORDER BY id", 1_000),
    ] {
        let reading = poll(&by_parts(&context, &server, query, PASSWORD))
            .await
            .expect(query);
        assert_eq!(reading.values, [MilliValue::new(thousandths)], "{query}");
    }
    reads_other_forms_of_the_connection(&context, &server).await;
    says_what_is_wrong(&context, &server).await;
    let many: Vec<BuiltTrigger> = (0..8)
        .map(|_| {
            by_parts(
                &context,
                &server,
                "SELECT count(*) FROM task, pg_sleep(0.05)",
                PASSWORD,
            )
        })
        .collect();
    assert!(
        futures::future::join_all(many.iter().map(poll))
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(polled(&many[0]).query_key(), polled(&many[1]).query_key());
    let clients = by_parts(
        &context,
        &server,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
        PASSWORD,
    );
    let count = poll(&clients).await.expect("count").values[0];
    assert!(
        count <= MilliValue::from_units(6),
        "{count} connections, two for each of three connection texts"
    );
    // The server cuts every idle connection: the poll after it takes a new one.
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'neap'").await;
    assert_eq!(
        poll(&waiting).await.expect("after the cut").values,
        [MilliValue::from_units(3)]
    );
}

async fn reads_other_forms_of_the_connection(context: &TriggerContext, server: &Postgres) {
    let (host, dead) = (support::host(), support::free_port());
    let url = format!(
        "postgres://neap:s3cret%2F%40%3A%20%27%5C@{host}:{dead},{host}:{}/postgres?sslmode=disable&target_session_attrs=read-write&my.own=41",
        server.port
    );
    let reading = poll(&by_text(
        context,
        "SELECT current_setting('my.own')::int + 1",
        &url,
    ))
    .await
    .expect("the second server answers");
    assert_eq!(reading.values, [MilliValue::from_units(42)]);
    let socket = server.socket_directory().display();
    let text = format!(
        r"host={socket} port={} user=neap dbname=postgres password='s3cret/@: \'\\'",
        server.port
    );
    assert_eq!(
        poll(&by_text(context, "SELECT 1", &text))
            .await
            .expect("socket")
            .values,
        [MilliValue::from_units(1)]
    );
    let standby = format!("{text} target_session_attrs=standby");
    let error = poll(&by_text(context, "SELECT 1", &standby))
        .await
        .expect_err("it is no standby");
    assert!(
        error.to_string().contains("target_session_attrs"),
        "{error}"
    );
}

async fn says_what_is_wrong(context: &TriggerContext, server: &Postgres) {
    for (query, part) in [
        ("SELECT NULL", "NULL"),
        ("SELECT id FROM task WHERE id = 999", "no rows"),
        ("SELECT state FROM task WHERE id = 4", "\"done\""),
        ("SELECT", "no columns"),
    ] {
        let error = poll(&by_parts(context, server, query, PASSWORD))
            .await
            .expect_err(query);
        assert!(
            matches!(&error, PollError::Answer { source_name: "postgresql", reason } if reason.contains(part)),
            "{query}: {error}"
        );
    }
    let error = poll(&by_parts(
        context,
        server,
        "SELECT x FROM nowhere",
        PASSWORD,
    ))
    .await
    .expect_err("no table");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("nowhere")),
        "{error}"
    );
    let error = poll(&by_parts(context, server, "SELECT 1", "wr0ng"))
        .await
        .expect_err("wrong password");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("password authentication failed")),
        "{error}"
    );
    assert!(!error.to_string().contains("wr0ng"), "{error}");
    let slow = by_parts(
        context,
        server,
        "SELECT count(*) FROM pg_sleep(30)",
        PASSWORD,
    );
    let error = poll_within(&slow, Duration::from_millis(300))
        .await
        .expect_err("slow");
    assert!(matches!(error, PollError::Timeout { .. }), "{error}");
    poll(&by_parts(context, server, "SELECT 1", PASSWORD))
        .await
        .expect("the next poll is not held up");
    let error = poll(&by_text(
        context,
        "SELECT 1",
        "host=h user=u sslmode=required password=s3cret",
    ))
    .await
    .expect_err("no such mode");
    assert!(
        matches!(&error, PollError::Config(fault) if fault.allowed.contains("sslmode")),
        "{error}"
    );
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
