//! The `prometheus` trigger against an HTTP server that records what it is asked (a fake), and
//! against a real Prometheus where one is installed.
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use neap_triggers::{PollError, TriggerConfig, TriggerContext, build};
use neap_units::MilliValue;
use support::fake_http::Fake;
use support::{Process, free_port, host, poll, poll_within, polled, program, trigger};

fn vector(value: &str) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":[1.5,{value}]}}]}}}}"#
    )
}

#[tokio::test]
async fn asks_as_keda_asks() {
    let fake = Fake::default();
    let address = fake.start().await;
    fake.answers(200, vector("\"12.3456\""));
    let context = TriggerContext::default();
    let server = format!("{address}/prefix/");
    let metadata = [
        ("serverAddress", server.as_str()),
        (
            "query",
            "sum(rate(http_requests_total{code=~\"5..\"}[2m])) + 1",
        ),
        ("threshold", "100.5"),
        ("activationThreshold", "12"),
        ("namespace", "team-a"),
        ("queryParameters", "dedup=true,a b=c&d"),
        ("customHeaders", "X-Scope-OrgID=tenant 1,X-Other=2"),
    ];
    let built = trigger(&context, "prometheus", &metadata, &[]);
    let reading = poll(&built).await.expect("a value");
    assert_eq!(
        (reading.values, reading.active),
        (vec![MilliValue::new(12_346)], true)
    );
    let (uri, headers) = fake.last();
    assert_eq!(
        uri,
        "/prefix/api/v1/query?query=sum%28rate%28http_requests_total%7Bcode%3D~%225..%22%7D%5B2m%5D%29%29+%2B+1\
         &namespace=team-a&a+b=c%26d&dedup=true&time=2026-01-02T03:04:05Z"
    );
    assert_eq!(
        (
            headers["x-scope-orgid"].as_str(),
            headers["x-other"].as_str()
        ),
        ("tenant 1", "2")
    );
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn reads_answers_by_the_rules_for_null() {
    let fake = Fake::default();
    let address = fake.start().await;
    let context = TriggerContext::default();
    let ask = |ignore: &'static str| {
        let metadata = [
            ("serverAddress", address.as_str()),
            ("query", "up"),
            ("threshold", "1"),
            ("ignoreNullValues", ignore),
        ];
        trigger(&context, "prometheus", &metadata, &[])
    };
    let (lenient, strict) = (ask("true"), ask("false"));
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned();
    let no_value = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[]}]}}"#.to_owned();
    for body in [
        empty,
        no_value,
        vector("\"NaN\""),
        vector("\"+Inf\""),
        vector("\"-Inf\""),
        vector("null"),
    ] {
        fake.answers(200, &body);
        let reading = poll(&lenient).await.expect(&body);
        assert_eq!(
            (reading.values, reading.active),
            (vec![MilliValue::ZERO], false),
            "{body}"
        );
        let error = poll(&strict).await.expect_err(&body);
        assert!(
            matches!(&error, PollError::Answer { reason, .. } if reason.contains("ignoreNullValues")),
            "{body}: {error}"
        );
    }
    fake.answers(
        200,
        r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"4"]}}"#,
    );
    assert_eq!(
        poll(&strict).await.expect("scalar").values,
        [MilliValue::from_units(4)]
    );
    fake.answers(200, vector("\"-3\""));
    assert_eq!(
        poll(&strict).await.expect("negative").values,
        [MilliValue::ZERO]
    );
    let two = vector("\"1\"").replace("}]}}", r#"},{"metric":{},"value":[1,"2"]}]}}"#);
    for (body, part) in [
        (two.as_str(), "2 elements"),
        ("nonsense", "not JSON"),
        (
            r#"{"data":{"resultType":"vector","result":[{"value":[1]}]}}"#,
            "not a time and a value",
        ),
        (&vector("\"x\""), "not a number"),
    ] {
        fake.answers(200, body);
        let error = poll(&lenient).await.expect_err(body);
        assert!(
            matches!(&error, PollError::Answer { reason, .. } if reason.contains(part)),
            "{body}: {error}"
        );
    }
    fake.answers(200, format!("{{\"padding\":\"{}\"}}", "x".repeat(2 << 20)));
    let error = poll(&lenient).await.expect_err("long");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("longer than")),
        "{error}"
    );
    fake.answers(503, "out of\nmemory");
    let error = poll(&lenient).await.expect_err("503");
    assert_eq!(
        error.to_string(),
        "prometheus refused the request: status 503 Service Unavailable: out of memory"
    );
}

#[tokio::test]
async fn says_who_asks() {
    let fake = Fake::default();
    let address = fake.start().await;
    fake.answers(200, vector("\"1\""));
    let context = TriggerContext::default();
    for (mode, auth, header, expected) in [
        (
            "bearer",
            &[("bearerToken", "t0ken")][..],
            "authorization",
            "Bearer t0ken",
        ),
        (
            "basic",
            &[("username", "u"), ("password", "p")],
            "authorization",
            "Basic dTpw",
        ),
        (
            "custom",
            &[("customAuthHeader", "X-Key"), ("customAuthValue", "k")],
            "x-key",
            "k",
        ),
    ] {
        let metadata = [
            ("serverAddress", address.as_str()),
            ("query", "up"),
            ("threshold", "1"),
            ("authModes", mode),
        ];
        let built = trigger(&context, "prometheus", &metadata, auth);
        poll(&built).await.expect(mode);
        assert_eq!(fake.last().1[header], expected, "{mode}");
        assert!(!format!("{built:?}").contains("t0ken"), "{built:?}");
    }
}

#[tokio::test]
async fn gives_up_in_time_and_says_why() {
    let fake = Fake::default();
    let address = fake.start().await;
    fake.answers(0, "");
    let context = TriggerContext::default();
    let metadata = [
        ("serverAddress", address.as_str()),
        ("query", "up"),
        ("threshold", "1"),
        ("timeout", "150ms"),
    ];
    let slow = trigger(&context, "prometheus", &metadata, &[]);
    let error = poll(&slow).await.expect_err("slow");
    assert_eq!(
        error,
        PollError::Timeout {
            source_name: "prometheus",
            waited: Duration::from_millis(150)
        }
    );
    let error = poll_within(&slow, Duration::from_millis(50))
        .await
        .expect_err("slow");
    assert_eq!(
        error,
        PollError::Timeout {
            source_name: "prometheus",
            waited: Duration::from_millis(50)
        }
    );
    let gone = format!("http://user:hunter2@{}:{}", host(), free_port());
    let metadata = [
        ("serverAddress", gone.as_str()),
        ("query", "up"),
        ("threshold", "1"),
    ];
    let error = poll(&trigger(&context, "prometheus", &metadata, &[]))
        .await
        .expect_err("nobody there");
    assert!(matches!(&error, PollError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().to_lowercase().contains("refused")
            && !error.to_string().contains("hunter2"),
        "{error}"
    );
}

#[test]
fn equal_questions_have_equal_keys() {
    let context = TriggerContext::default();
    let key = |query: &str, token: &str| {
        let metadata = [
            ("serverAddress", "http://p:9090"),
            ("query", query),
            ("threshold", "1"),
            ("authModes", "bearer"),
        ];
        polled(&trigger(
            &context,
            "prometheus",
            &metadata,
            &[("bearerToken", token)],
        ))
        .query_key()
    };
    assert_eq!(key("up", "a"), key("up", "a"));
    assert_ne!(key("up", "a"), key("down", "a"));
    assert_ne!(key("up", "a"), key("up", "b"), "another's credentials");
}

#[test]
fn faults_that_keda_lets_pass_are_warnings() {
    let mut config = TriggerConfig::new("prometheus", TriggerContext::default());
    for (key, value) in [
        ("serverAddress", "http://p"),
        ("query", "up"),
        ("threshold", "1"),
        ("authModes", "tls"),
    ] {
        config.metadata.insert(key.to_owned(), value.to_owned());
    }
    config.auth_params = [("cert", "ceert"), ("key", "keey")].into_iter().collect();
    let built = build(&config).expect("KEDA accepts it");
    assert_eq!(built.warnings.len(), 1, "{:?}", built.warnings);
    assert_eq!(built.warnings[0].field, "cert and key");
    assert!(!format!("{:?}", built.warnings).contains("keey"));
}

#[tokio::test]
async fn reads_a_real_prometheus() {
    let Some(server) = program(&["prometheus"]) else {
        println!("skipped: prometheus is not installed (Debian: prometheus)");
        return;
    };
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = directory.path().join("prometheus.yml");
    let served = format!("{}:{}", host(), free_port());
    let text = format!(
        "scrape_configs: [{{job_name: self, scrape_interval: 1s, static_configs: [{{targets: ['{served}']}}]}}]\n"
    );
    std::fs::write(&config, text).expect("configuration");
    let child = Command::new(server)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={served}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let _process = Process(child);
    let context = TriggerContext::default();
    let address = format!("http://{served}");
    let ask = async |query: &str, ignore: &str| {
        let metadata = [
            ("serverAddress", address.as_str()),
            ("query", query),
            ("threshold", "1"),
            ("ignoreNullValues", ignore),
        ];
        let wall = jiff::Timestamp::from_second(
            std::time::UNIX_EPOCH
                .elapsed()
                .expect("after 1970")
                .as_secs() as i64,
        )
        .expect("in range");
        let call = neap_triggers::PollCall {
            wall,
            timeout: Duration::from_secs(20),
        };
        polled(&trigger(&context, "prometheus", &metadata, &[]))
            .poll(call)
            .await
    };
    let up = async {
        while ask("up{job=\"self\"}", "false")
            .await
            .ok()
            .is_none_or(|reading| reading.values != [MilliValue::from_units(1)])
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up)
        .await
        .expect("it scrapes itself");
    assert_eq!(
        ask("vector(42.5)", "false").await.expect("vector").values,
        [MilliValue::new(42_500)]
    );
    assert_eq!(
        ask("scalar(vector(3))", "false")
            .await
            .expect("scalar")
            .values,
        [MilliValue::from_units(3)]
    );
    assert_eq!(
        ask("nothing_at_all", "true").await.expect("ignored").values,
        [MilliValue::ZERO]
    );
    assert!(matches!(
        ask("nothing_at_all", "false").await,
        Err(PollError::Answer { .. })
    ));
    assert!(matches!(
        ask("vector(1) / 0", "false").await,
        Err(PollError::Answer { .. })
    ));
    let error = ask("sum(", "true").await.expect_err("a bad query");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("400") && reason.contains("parse error")),
        "{error}"
    );
    let error = ask(
        "vector(1) or label_replace(vector(2), \"a\", \"b\", \"\", \"\")",
        "true",
    )
    .await
    .expect_err("many series");
    assert!(error.to_string().contains("2 elements"), "{error}");
}
