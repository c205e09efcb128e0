//! The `mysql` trigger against a real MariaDB, where one is installed.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use std::time::Duration;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::mariadb::MariaDb;
use support::{poll, poll_within, polled, trigger};

const QUERY: &str = "SELECT COUNT(*) FROM test;";

fn by_text(context: &TriggerContext, database: &MariaDb, query: &str, rest: &str) -> BuiltTrigger {
    let text = format!(
        "neap:s3cret/@:x@tcp({}:{})/test_db{rest}",
        support::host(),
        database.port
    );
    trigger(
        context,
        "mysql",
        &[
            ("query", query),
            ("queryValue", "4"),
            ("activationQueryValue", "3"),
        ],
        &[("connectionString", &text)],
    )
}

fn by_parts(
    context: &TriggerContext,
    database: &MariaDb,
    query: &str,
    password: &str,
) -> BuiltTrigger {
    let (host, port) = (support::host().to_string(), database.port.to_string());
    let metadata = [
        ("host", host.as_str()),
        ("port", &port),
        ("username", "neap"),
        ("dbName", "test_db"),
        ("query", query),
        ("queryValue", "4"),
    ];
    trigger(context, "mysql", &metadata, &[("password", password)])
}

#[tokio::test]
async fn reads_a_real_server() {
    let Some(mut database) = MariaDb::start().await else {
        return;
    };
    database
        .run(
            "CREATE DATABASE test_db; CREATE USER neap IDENTIFIED BY 's3cret/@:x'; GRANT ALL ON test_db.* TO neap; \
             CREATE TABLE test_db.test (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO test_db.test () VALUES (), (), ();",
        )
        .await;
    let context = TriggerContext::default();
    counts_rows(&context, &database).await;
    reads_numbers_of_all_kinds(&context, &database).await;
    says_what_is_wrong(&context, &database).await;
    keeps_few_connections(&context, &database).await;
    survives_cut_connections(&context, &mut database).await;
}

async fn counts_rows(context: &TriggerContext, database: &MariaDb) {
    let counting = by_text(context, database, QUERY, "");
    let reading = poll(&counting).await.expect("three rows");
    assert_eq!(reading.values, [MilliValue::from_units(3)]);
    assert!(!reading.active, "3 is not above 3");
    database
        .run("INSERT INTO test_db.test () VALUES (), (), (), (), ()")
        .await;
    let reading = poll(&counting).await.expect("eight rows");
    assert_eq!(
        (reading.values, reading.active),
        (vec![MilliValue::from_units(8)], true)
    );
    let reading = poll(&by_parts(context, database, QUERY, "s3cret/@:x"))
        .await
        .expect("by parts");
    assert_eq!(reading.values, [MilliValue::from_units(8)]);
    let socket = database.socket().display().to_string();
    let text = format!("root@unix({socket})/test_db");
    let by_socket = trigger(
        context,
        "mysql",
        &[("query", QUERY), ("queryValue", "4")],
        &[("connectionString", &text)],
    );
    assert_eq!(
        poll(&by_socket).await.expect("by socket").values,
        [MilliValue::from_units(8)]
    );
}

async fn reads_numbers_of_all_kinds(context: &TriggerContext, database: &MariaDb) {
    for (query, thousandths) in [
        ("SELECT 2.5", 2_500),
        ("SELECT CAST(7 AS UNSIGNED), 'other column'", 7_000),
        ("SELECT 1.25e3", 1_250_000),
        ("SELECT '12.0004'", 12_000),
        ("SELECT -4", 0),
        ("SELECT id FROM test ORDER BY id", 1_000),
        ("SELECT @@sql_mode = ''", 0),
    ] {
        let reading = poll(&by_text(context, database, query, ""))
            .await
            .expect(query);
        assert_eq!(reading.values, [MilliValue::new(thousandths)], "{query}");
    }
    let reading = poll(&by_text(
        context,
        database,
        "SELECT LENGTH(@@sql_mode)",
        "?sql_mode=%27%27&parseTime=true",
    ))
    .await;
    assert_eq!(
        reading.expect("a variable of the session").values,
        [MilliValue::ZERO]
    );
}

async fn says_what_is_wrong(context: &TriggerContext, database: &MariaDb) {
    for (query, part) in [
        ("SELECT NULL", "NULL"),
        ("SELECT id FROM test WHERE id = 999", "no rows"),
        ("SELECT 'many'", "\"many\""),
        ("DO 1", "no rows"),
    ] {
        let error = poll(&by_text(context, database, query, ""))
            .await
            .expect_err(query);
        assert!(
            matches!(&error, PollError::Answer { source_name: "mysql", reason } if reason.contains(part)),
            "{query}: {error}"
        );
    }
    let error = poll(&by_text(context, database, "SELECT x FROM nowhere", ""))
        .await
        .expect_err("no table");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("nowhere")),
        "{error}"
    );
    let error = poll(&by_parts(context, database, QUERY, "wr0ng"))
        .await
        .expect_err("wrong password");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("Access denied")),
        "{error}"
    );
    assert!(!error.to_string().contains("wr0ng"), "{error}");
    let slow = by_text(context, database, "SELECT SLEEP(30)", "");
    let error = poll_within(&slow, Duration::from_millis(300))
        .await
        .expect_err("slow");
    assert!(matches!(error, PollError::Timeout { .. }), "{error}");
    poll(&by_text(context, database, QUERY, ""))
        .await
        .expect("the next poll is not held up");
    let error = poll(&trigger(
        context,
        "mysql",
        &[("query", QUERY), ("queryValue", "1")],
        &[],
    ))
    .await
    .expect_err("no host");
    assert!(
        matches!(&error, PollError::Config(fault) if fault.field == "host"),
        "{error}"
    );
}

async fn keeps_few_connections(context: &TriggerContext, database: &MariaDb) {
    let triggers: Vec<BuiltTrigger> = (0..12)
        .map(|_| {
            by_text(
                context,
                database,
                "SELECT COUNT(*), SLEEP(0.05) FROM test",
                "",
            )
        })
        .collect();
    let readings = futures::future::join_all(triggers.iter().map(poll)).await;
    assert!(readings.iter().all(Result::is_ok), "{readings:?}");
    let connected = by_text(
        context,
        database,
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'neap' AND info IS NULL",
        "",
    );
    let value = poll(&connected).await.expect("process list").values[0];
    assert!(
        value <= MilliValue::from_units(2),
        "{value} connections of one pool"
    );
    assert_eq!(
        polled(&triggers[0]).query_key(),
        polled(&triggers[1]).query_key()
    );
    assert_ne!(
        polled(&triggers[0]).query_key(),
        polled(&connected).query_key()
    );
}

async fn survives_cut_connections(context: &TriggerContext, database: &mut MariaDb) {
    let counting = by_text(context, database, QUERY, "");
    poll(&counting).await.expect("before");
    database.kill();
    let error = poll(&counting).await.expect_err("no server");
    assert!(matches!(&error, PollError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains("refused"),
        "the reason reaches the user: {error}"
    );
    database.restart().await;
    assert_eq!(
        poll(&counting).await.expect("after").values,
        [MilliValue::from_units(8)]
    );
    // The server cuts every idle connection: the poll after it takes a new one.
    database
        .run("SET @own = CONNECTION_ID(); KILL USER neap;")
        .await;
    assert_eq!(
        poll(&counting).await.expect("after KILL").values,
        [MilliValue::from_units(8)]
    );
}
