//! A load from a range query of Prometheus, or of anything with its HTTP API.

use std::time::Duration;

use jiff::Timestamp as Wall;
use neap_units::{MilliValue, Timestamp};
use serde::Deserialize;

use super::series::{MAX_POINTS, Point, Series, SeriesError};
use crate::error::innermost;

/// Prometheus refuses a range query with more points than this for a series.
pub const MAX_POINTS_PER_QUERY: i64 = 11_000;

/// An answer with more bytes than this is no single series of that many points.
const MAX_ANSWER: usize = 4 << 20;

/// How long one query may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The server's address, as in a trigger's `serverAddress`.
    pub address: String,
    /// The query. It must give one series.
    pub query: String,
    /// The first instant.
    pub from: Wall,
    /// The last instant.
    pub to: Wall,
    /// The time between two values; whole milliseconds, above 0.
    pub step: Duration,
    /// Headers to send, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// What stands for an instant without a value; `None`: the source gave no answer.
    pub gap: Option<MilliValue>,
}

/// Why there is no series. Texts carry no headers.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The question cannot be asked.
    #[error("prometheus: {field}: {value:?} is not allowed: {allowed}")]
    Question {
        /// Which part of it.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: String,
    },
    /// No answer.
    #[error("prometheus: {address} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        address: String,
        /// What the transport said.
        reason: String,
    },
    /// The server refused.
    #[error("prometheus: the server refused the query {query:?}: {reason}")]
    Refused {
        /// The query.
        query: String,
        /// What the server said.
        reason: String,
    },
    /// The answer is not one series.
    #[error("prometheus: the answer to {query:?} cannot be used: {reason}")]
    Answer {
        /// The query.
        query: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No series can be made of the answers.
    #[error("prometheus: {0}")]
    Series(#[from] SeriesError),
}

/// The ranges that a range from `from` to `to` (milliseconds, both included) is asked in: each of at
/// most [`MAX_POINTS_PER_QUERY`] points `step` apart, together all of them once.
pub fn chunks(from: i64, to: i64, step: i64) -> impl Iterator<Item = (i64, i64)> {
    let span = step.saturating_mul(MAX_POINTS_PER_QUERY);
    let mut next = Some(from).filter(|from| *from <= to && step > 0);
    std::iter::from_fn(move || {
        let first = next?;
        let last = to.min(first.saturating_add(span).saturating_sub(step));
        next = last.checked_add(step).filter(|next| *next <= to);
        Some((first, last))
    })
}

/// Asks for `question`, in as many queries as it needs, one after the other.
///
/// # Errors
/// [`PrometheusError`] for the first that fails.
pub async fn fetch(question: &RangeQuery) -> Result<Series, PrometheusError> {
    let wrong = |field, value: String, allowed: &str| PrometheusError::Question {
        field,
        value,
        allowed: allowed.to_owned(),
    };
    let step = i64::try_from(question.step.as_millis()).unwrap_or(i64::MAX);
    if step == 0 {
        return Err(wrong("step", "0".to_owned(), "it must be at least 1ms"));
    }
    let (from, to) = (question.from.as_millisecond(), question.to.as_millisecond());
    if to < from {
        return Err(wrong(
            "to",
            question.to.to_string(),
            "it must not be before from",
        ));
    }
    let count = usize::try_from((to - from) / step + 1).unwrap_or(usize::MAX);
    if count > MAX_POINTS {
        return Err(SeriesError::TooMany.into());
    }
    let base = format!(
        "{}/api/v1/query_range",
        question.address.trim_end_matches('/')
    );
    let base = reqwest::Url::parse(&base)
        .map_err(|error| wrong("address", question.address.clone(), &error.to_string()))?;
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| unreachable(&base, &error))?;
    let mut values = vec![question.gap; count];
    for (first, last) in chunks(from, to, step) {
        let mut url = base.clone();
        url.query_pairs_mut()
            .append_pair("query", &question.query)
            .append_pair("start", &seconds(first))
            .append_pair("end", &seconds(last))
            .append_pair("step", &seconds(step));
        let mut request = client.get(url);
        for (name, value) in &question.headers {
            request = request.header(name, value);
        }
        let body = answer(request, &base, &question.query).await?;
        for (at, value) in read(&body, &question.query)? {
            let index = (at - from + step / 2).div_euclid(step);
            let slot = usize::try_from(index)
                .ok()
                .and_then(|index| values.get_mut(index));
            if let Some(slot) = slot
                && value.is_finite()
            {
                *slot = Some(MilliValue::from_metric_f64(value));
            }
        }
    }
    let points = values.into_iter().enumerate().map(|(index, value)| Point {
        at: Timestamp::from_millis(from + step * index as i64),
        value,
    });
    Ok(Series::new(points.collect())?)
}

async fn answer(
    request: reqwest::RequestBuilder,
    base: &reqwest::Url,
    query: &str,
) -> Result<Vec<u8>, PrometheusError> {
    let mut response = request
        .send()
        .await
        .map_err(|error| unreachable(base, &error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| unreachable(base, &error))?
    {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            let reason = format!(
                "it is larger than {} MiB; the query must give one series",
                MAX_ANSWER >> 20
            );
            return Err(PrometheusError::Answer {
                query: query.to_owned(),
                reason,
            });
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.error);
    let reason = said.unwrap_or_else(|_| status.to_string());
    Err(PrometheusError::Refused {
        query: query.to_owned(),
        reason,
    })
}

/// The address without credentials, and what the transport said.
fn unreachable(base: &reqwest::Url, error: &reqwest::Error) -> PrometheusError {
    let port = base
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    PrometheusError::Unreachable {
        address: format!("{}{port}", base.host_str().unwrap_or_default()),
        reason: innermost(error).to_string(),
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    values: Vec<(f64, String)>,
}

/// The values of an answer with their times in milliseconds.
fn read(body: &[u8], query: &str) -> Result<Vec<(i64, f64)>, PrometheusError> {
    let wrong = |reason: String| PrometheusError::Answer {
        query: query.to_owned(),
        reason,
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let mut result = answer.data.result;
    if result.len() > 1 {
        return Err(wrong(format!(
            "it has {} series; the query must give one, for example with sum()",
            result.len()
        )));
    }
    let Some(stream) = result.pop() else {
        return Ok(Vec::new());
    };
    let values = stream.values.into_iter().map(|(second, text)| {
        let value = text
            .parse::<f64>()
            .map_err(|_| wrong(format!("{text:?} is no number")))?;
        Ok(((second * 1000.0).round() as i64, value))
    });
    values.collect()
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_asked_in_chunks_that_prometheus_answers() {
        let minute = 60_000;
        let year = 525_600 * minute;
        let asked: Vec<(i64, i64)> = chunks(0, year - minute, minute).collect();
        assert_eq!(asked.len(), 48);
        let points = |(first, last): &(i64, i64)| (last - first) / minute + 1;
        assert!(
            asked
                .iter()
                .all(|chunk| points(chunk) <= MAX_POINTS_PER_QUERY)
        );
        assert_eq!(asked.iter().map(points).sum::<i64>(), 525_600);
        assert!(asked.windows(2).all(|pair| pair[1].0 == pair[0].1 + minute));
        assert_eq!(chunks(5, 5, minute).collect::<Vec<_>>(), [(5, 5)]);
        assert_eq!(chunks(5, 4, minute).count(), 0);
    }

    #[test]
    fn answers_that_are_not_one_series_are_refused() {
        let fault = |body: &str| read(body.as_bytes(), "up").unwrap_err().to_string();
        let two = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[]},{"metric":{},"values":[]}]}}"#;
        assert!(fault(two).contains("it has 2 series"), "{}", fault(two));
        assert!(
            fault("<html>").contains("\"up\" cannot be used"),
            "{}",
            fault("<html>")
        );
        let none = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert_eq!(read(none.as_bytes(), "up").unwrap(), []);
    }
}
