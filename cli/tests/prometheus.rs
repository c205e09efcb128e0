//! Range queries against a server that speaks Prometheus' protocol and keeps its limits.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use neap::load::{MAX_POINTS_PER_QUERY, PrometheusError, RangeQuery, fetch_prometheus};
use neap_units::MilliValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What was asked: start, end and step in seconds, and the whole head of the request.
type Asked = Arc<Mutex<Vec<(f64, f64, f64, String)>>>;

/// A server whose metric is the second of the day, with no value in the first minute of an hour.
async fn server() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/prefix/", listener.local_addr().unwrap());
    let asked = Asked::default();
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, seen.clone()));
        }
    });
    (address, asked)
}

async fn serve(mut stream: TcpStream, asked: Asked) {
    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let (status, body) = answer(&text, &asked);
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

fn answer(head: &str, asked: &Asked) -> (&'static str, String) {
    let target = head.split(' ').nth(1).unwrap();
    assert!(
        target.starts_with("/prefix/api/v1/query_range?"),
        "{target}"
    );
    let parameter = |name: &str| {
        let pairs = target.split_once('?').unwrap().1.split('&');
        let found = pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name);
        found.unwrap().1.to_owned()
    };
    let number = |name: &str| parameter(name).parse::<f64>().unwrap();
    let (start, end, step) = (number("start"), number("end"), number("step"));
    asked
        .lock()
        .unwrap()
        .push((start, end, step, head.to_owned()));
    if parameter("query") == "bad" {
        let body = r#"{"status":"error","errorType":"bad_data","error":"1:1: parse error"}"#;
        return ("400 Bad Request", body.to_owned());
    }
    let points = ((end - start) / step) as i64 + 1;
    if points > MAX_POINTS_PER_QUERY {
        let body = r#"{"status":"error","error":"exceeded maximum resolution of 11,000 points per timeseries"}"#;
        return ("400 Bad Request", body.to_owned());
    }
    let values = (0..points)
        .map(|point| start + point as f64 * step)
        .filter(|at| at % 3600.0 >= 60.0);
    let values: Vec<String> = values
        .map(|at| format!("[{at},\"{}\"]", at % 86_400.0))
        .collect();
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{}]}}]}}}}"#,
        values.join(",")
    );
    ("200 OK", body)
}

fn question(address: &str, query: &str) -> RangeQuery {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    RangeQuery {
        address: address.to_owned(),
        query: query.to_owned(),
        from: "2026-10-01T00:00:00Z".parse().unwrap(),
        to: "2026-10-31T23:59:00Z".parse().unwrap(),
        step: Duration::from_secs(60),
        headers: vec![("Authorization".to_owned(), "Bearer abc".to_owned())],
        gap: None,
    }
}

#[tokio::test]
async fn a_month_of_minutes_comes_in_five_answers() {
    let (address, asked) = server().await;
    let series = fetch_prometheus(&question(&address, "up")).await.unwrap();
    let points = series.points();
    assert_eq!(points.len(), 31 * 1440);
    let at = |minute: usize| points[minute].value.map(MilliValue::as_f64);
    assert_eq!(
        (at(0), at(1), at(60), at(1439)),
        (None, Some(60.0), None, Some(86_340.0))
    );
    // The first value of every further answer is in its place.
    assert_eq!(at(11_000), Some((11_000 * 60 % 86_400) as f64));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 5);
    assert!(
        asked
            .iter()
            .all(|asked| asked.3.to_lowercase().contains("authorization: bearer abc"))
    );
    let first: Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    assert_eq!((asked[0].0, asked[0].2), (first.as_second() as f64, 60.0));
}

#[tokio::test]
async fn gaps_take_the_place_they_are_given() {
    let (address, _) = server().await;
    let question = RangeQuery {
        gap: Some(MilliValue::ZERO),
        ..question(&address, "up")
    };
    let series = fetch_prometheus(&question).await.unwrap();
    assert_eq!(series.points()[60].value, Some(MilliValue::ZERO));
}

#[tokio::test]
async fn what_the_server_says_is_passed_on() {
    let (address, _) = server().await;
    let error = fetch_prometheus(&question(&address, "bad"))
        .await
        .unwrap_err();
    assert!(matches!(error, PrometheusError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("parse error"), "{error}");
    // A port that was just free: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = fetch_prometheus(&question(&format!("http://{free}"), "up"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, PrometheusError::Unreachable { .. }),
        "{error}"
    );
    let nowhere = fetch_prometheus(&question("not a url", "up"))
        .await
        .unwrap_err();
    assert!(
        nowhere
            .to_string()
            .contains("address: \"not a url\" is not allowed"),
        "{nowhere}"
    );
}
