//! The `rabbitmq` trigger against an HTTP server that records what it is asked (a fake).
#![allow(clippy::expect_used, reason = "helpers of a test fail it by panicking")]

mod support;

use neap_triggers::{BuiltTrigger, PollError, TriggerContext};
use neap_units::MilliValue;
use support::fake_http::Fake;
use support::{poll, trigger};

const QUEUE: &str = r#"{"messages":12,"messages_ready":7,"message_stats":{"publish_details":{"rate":3},"deliver_get_details":{"rate":2}}}"#;

fn at(
    context: &TriggerContext,
    host: &str,
    more: &[(&str, &str)],
    auth: &[(&str, &str)],
) -> BuiltTrigger {
    let mut metadata = vec![("queueName", "orders/new")];
    metadata.extend(more);
    let mut auth = auth.to_vec();
    auth.push(("host", host));
    trigger(context, "rabbitmq", &metadata, &auth)
}

#[tokio::test]
async fn finds_the_queue() {
    let fake = Fake::default();
    let address = fake.start().await;
    fake.answers(200, QUEUE);
    let context = TriggerContext::default();
    let server = address.strip_prefix("http://").expect("scheme");
    for (host, more, uri) in [
        (
            format!("http://u:p%40@{server}/shop"),
            &[][..],
            "/api/queues/shop/orders%2Fnew",
        ),
        (
            format!("http://u:p%40@{server}/%2Fshop"),
            &[],
            "/api/queues/%2Fshop/orders%2Fnew",
        ),
        (
            format!("http://u:p%40@{server}"),
            &[],
            "/api/queues/%2F/orders%2Fnew",
        ),
        (
            format!("http://u:p%40@{server}/"),
            &[],
            "/api/queues/%2F/orders%2Fnew",
        ),
        (
            format!("http://u:p%40@{server}/behind/proxy/shop"),
            &[],
            "/behind/proxy/api/queues/shop/orders%2Fnew",
        ),
        (
            format!("http://u:p%40@{server}/shop"),
            &[("vhostName", "a/b")],
            "/api/queues/a%2Fb/orders%2Fnew",
        ),
    ] {
        let reading = poll(&at(&context, &host, more, &[])).await.expect(&host);
        assert_eq!(
            (reading.values, reading.active),
            (vec![MilliValue::from_units(12)], true),
            "{host}"
        );
        let (asked, headers) = fake.last();
        assert_eq!(
            (asked.as_str(), headers["authorization"].as_str()),
            (uri, "Basic dTpwQA=="),
            "{host}"
        );
    }
    let own = [("username", "me"), ("password", "s3cret")];
    poll(&at(
        &context,
        &format!("http://u:p@{server}/shop"),
        &[],
        &own,
    ))
    .await
    .expect("a login of its own");
    assert_eq!(fake.last().1["authorization"], "Basic bWU6czNjcmV0");
}

#[tokio::test]
async fn measures_in_each_mode() {
    let fake = Fake::default();
    let host = fake.start().await;
    fake.answers(200, QUEUE);
    let context = TriggerContext::default();
    for (mode, more, thousandths) in [
        ("QueueLength", ("excludeUnacknowledged", "true"), 7_000),
        ("MessageRate", ("activationValue", "0"), 3_000),
        ("DeliverGetRate", ("activationValue", "0"), 2_000),
        ("PublishedToDeliveredRatio", ("activationValue", "0"), 1_500),
        (
            "ExpectedQueueConsumptionTime",
            ("activationValue", "0"),
            6_500,
        ),
    ] {
        let built = at(
            &context,
            &host,
            &[("mode", mode), ("value", "10"), more],
            &[],
        );
        assert_eq!(
            poll(&built).await.expect(mode).values,
            [MilliValue::new(thousandths)],
            "{mode}"
        );
    }
    fake.answers(
        200,
        format!(r#"{{"page_count":1,"items":[{QUEUE},{QUEUE}]}}"#),
    );
    let regex = [("useRegex", "true"), ("pageSize", "50")];
    assert_eq!(
        poll(&at(&context, &host, &regex, &[]))
            .await
            .expect("two queues")
            .values,
        [MilliValue::from_units(24)]
    );
    assert_eq!(
        fake.last().0,
        "/api/queues/%2F?page=1&use_regex=true&pagination=false&name=orders%2Fnew&page_size=50"
    );
    fake.answers(200, format!(r#"{{"page_count":2,"items":[{QUEUE}]}}"#));
    let error = poll(&at(&context, &host, &regex, &[]))
        .await
        .expect_err("two pages");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("pageSize")),
        "{error}"
    );
    fake.answers(200, r#"{"name":"orders/new"}"#);
    let error = poll(&at(&context, &host, &[], &[]))
        .await
        .expect_err("no count");
    assert!(
        matches!(&error, PollError::Answer { reason, .. } if reason.contains("no count of messages yet")),
        "{error}"
    );
    fake.answers(404, r#"{"error":"Object Not Found"}"#);
    let error = poll(&at(&context, &host, &[], &[])).await.expect_err("404");
    assert!(
        matches!(&error, PollError::Refused { reason, .. } if reason.contains("Object Not Found")),
        "{error}"
    );
}

#[tokio::test]
async fn gets_a_token_and_keeps_it() {
    let (api, tokens) = (Fake::default(), Fake::default());
    let (host, token_url) = (api.start().await, tokens.start().await);
    api.answers(200, QUEUE);
    tokens.answers(200, r#"{"access_token":"t0ken","expires_in":3600}"#);
    let context = TriggerContext::default();
    let auth = [
        ("oauthTokenURI", token_url.as_str()),
        ("clientID", "me"),
        ("clientSecret", "s3cret"),
        ("scopes", "read,write"),
    ];
    let built = at(&context, &host, &[], &auth);
    for _ in 0..3 {
        poll(&built).await.expect("a value");
        assert_eq!(api.last().1["authorization"], "Bearer t0ken");
    }
    assert_eq!(tokens.count(), 1, "the token is kept");
    assert_eq!(tokens.last().1["authorization"], "Basic bWU6czNjcmV0");
    api.answers(401, "expired");
    poll(&built).await.expect_err("refused");
    api.answers(200, QUEUE);
    poll(&built).await.expect("with a new token");
    assert_eq!(tokens.count(), 2);
    assert!(!format!("{built:?}").contains("s3cret"), "{built:?}");
}

#[test]
fn what_cannot_work_is_a_warning() {
    let context = TriggerContext::default();
    let warning = |host: &str, more: &[(&str, &str)]| {
        at(&context, host, more, &[])
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<String>()
    };
    let amqp = warning("amqp://u:s3cret@host/v", &[]);
    assert!(
        amqp.contains("management API") && !amqp.contains("s3cret"),
        "{amqp}"
    );
    assert!(warning("amqp://u:s3cret@host/v", &[("protocol", "http")]).contains("http or https"));
    assert!(
        warning("http://host", &[("useRegex", "true"), ("operation", "min")])
            .contains("sum, avg, max")
    );
    assert_eq!(warning("http://host", &[]), "");
}
