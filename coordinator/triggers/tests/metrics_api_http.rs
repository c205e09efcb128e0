//! The `metrics-api` trigger against an HTTP server that records what it is asked (a fake).
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::fake_http::Fake;
use support::{poll, trigger};

fn at(
    context: &TriggerContext,
    url: &str,
    more: &[(&str, &str)],
    auth: &[(&str, &str)],
) -> BuiltTrigger {
    let mut metadata = vec![
        ("url", url),
        ("valueLocation", "stats.waiting"),
        ("targetValue", "5"),
        ("activationTargetValue", "1.5"),
    ];
    metadata.extend(more);
    trigger(context, "metrics-api", &metadata, auth)
}

#[tokio::test]
async fn reads_each_format() {
    let fake = Fake::default();
    let url = format!("{}/metrics?a=b", fake.start().await);
    let context = TriggerContext::default();
    for (format, body, location) in [
        ("json", r#"{"stats":{"waiting":"2500m"}}"#, "stats.waiting"),
        ("yaml", "stats:\n  waiting: 2.5\n", "stats.waiting"),
        (
            "prometheus",
            "waiting{queue=\"a\"} 2.5\n",
            "waiting{queue=\"a\"}",
        ),
    ] {
        fake.answers(200, body);
        let metadata = [
            ("url", url.as_str()),
            ("valueLocation", location),
            ("targetValue", "5"),
            ("format", format),
        ];
        let reading = poll(&trigger(&context, "metrics-api", &metadata, &[]))
            .await
            .expect(format);
        assert_eq!(
            (reading.values, reading.active),
            (vec![MilliValue::new(2_500)], true),
            "{format}"
        );
        assert_eq!(fake.last().0, "/metrics?a=b");
    }
    fake.answers(200, "{}");
    let error = poll(&at(&context, &url, &[], &[]))
        .await
        .expect_err("nothing there");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("stats.waiting")),
        "{error}"
    );
    fake.answers(404, "no such page");
    let error = poll(&at(&context, &url, &[], &[])).await.expect_err("404");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("404")),
        "{error}"
    );
}

#[tokio::test]
async fn says_who_asks() {
    let fake = Fake::default();
    let url = format!("{}/metrics?a=b&api_key=old", fake.start().await);
    fake.answers(200, r#"{"stats":{"waiting":1}}"#);
    let context = TriggerContext::default();
    let asked = async |modes: &str, auth: &[(&str, &str)]| {
        let reading = poll(&at(&context, &url, &[("authModes", modes)], auth))
            .await
            .expect(modes);
        assert_eq!(
            (reading.values, reading.active),
            (vec![MilliValue::from_units(1)], false)
        );
        fake.last()
    };
    let (uri, headers) = asked("apiKey", &[("apiKey", "k"), ("method", "header")]).await;
    assert_eq!(
        (uri.as_str(), headers["x-api-key"].as_str()),
        ("/metrics?a=b&api_key=old", "k")
    );
    let (_, headers) = asked(
        "apiKey,basic",
        &[
            ("apiKey", "k"),
            ("keyParamName", "X-Own"),
            ("username", "u"),
            ("password", "p"),
        ],
    )
    .await;
    assert_eq!(
        (headers["x-own"].as_str(), headers["authorization"].as_str()),
        ("k", "Basic dTpw")
    );
    let (uri, headers) = asked(
        "apiKey,bearer",
        &[("apiKey", "k&y"), ("method", "query"), ("token", "t")],
    )
    .await;
    assert_eq!(
        (uri.as_str(), headers["authorization"].as_str()),
        ("/metrics?a=b&api_key=k%26y", "Bearer t")
    );
}

#[test]
fn what_cannot_work_is_a_warning() {
    let context = TriggerContext::default();
    let warning = |url: &str, more: &[(&str, &str)]| {
        at(&context, url, more, &[])
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    };
    assert!(warning("not a url", &[]).contains("must be a URL"));
    assert!(
        warning("http://a", &[("aggregateFromKubeServiceEndpoints", "true")])
            .contains("endpoints of a Service")
    );
    assert!(warning("http://a", &[("format", "xml")]).contains("json, yaml or prometheus"));
    assert_eq!(warning("http://a", &[]), "");
}
