//! `prometheus`: an instant query of Prometheus, or of anything with its HTTP API.

use std::sync::Arc;
use std::time::Duration;

use neap_units::MilliValue;
use serde_json::Value;

use super::polled::{external_kind, external_metric, reading};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::http::{
    AUTH_FIELDS, FetchLimits, HttpAuth, TlsOptions, fetch, header_name, secret_value,
};
use crate::metadata::{self, Field, Kind, Origin, Settings, query_escape};
use crate::registry::Checked;
use crate::shared::Digest;

const NAME: &str = "prometheus";

/// One number needs a few hundred bytes; more than this is a query that selects too much.
const BODY: usize = 1 << 20;

const FIELDS: &[Field] = &[
    Field::text("serverAddress").required(),
    Field::text("query").required(),
    Field::new("queryParameters", Kind::Map),
    Field::float("threshold").required(),
    Field::float("activationThreshold"),
    Field::text("namespace"),
    Field::new("customHeaders", Kind::Map).secret(),
    Field::boolean("ignoreNullValues").or_default("true"),
    Field::boolean("unsafeSsl"),
    Field::text("awsRegion").from(&[Origin::Metadata, Origin::Auth]),
    Field::duration("timeout"),
    Field::text("identityOwner"),
];

/// A query that is ready to be asked.
struct Prometheus {
    /// The URL but for the time.
    url: String,
    headers: Vec<(String, String)>,
    auth: HttpAuth,
    client: Result<Arc<reqwest::Client>, FieldError>,
    timeout: Duration,
    activation: f64,
    ignore_null: bool,
}

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[AUTH_FIELDS, FIELDS], config);
    let kind = external_kind(config, &mut errors);
    let mut auth = HttpAuth::from_settings(&mut settings, &mut errors);
    if !auth.is_disabled() && config.pod_identity.is_enabled() {
        let provider = &config.pod_identity.provider;
        errors.push(FieldError::invalid(
            "podIdentity.provider",
            provider,
            "it cannot be set together with authModes",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // As in KEDA, certificates are used only where an authentication mode is set, and a trigger
    // with its own certificates always checks the server's.
    let own_tls = !auth.is_disabled() && (auth.uses("tls") || !auth.tls.ca.is_empty());
    if !own_tls {
        auth.tls = TlsOptions {
            insecure: settings.boolean("unsafeSsl"),
            ..TlsOptions::default()
        };
    }
    let mut warnings = Vec::new();
    for mode in ["oauth", "apiKey"].iter().filter(|mode| auth.uses(mode)) {
        warnings.push(FieldError::invalid(
            "authModes",
            *mode,
            "the prometheus trigger does nothing with it; it can be basic, bearer, custom or tls",
        ));
    }
    let client = if config.pod_identity.is_enabled() {
        let allowed =
            "Neap cannot yet authenticate to Prometheus with a pod identity; use authModes";
        Err(FieldError::invalid(
            "podIdentity.provider",
            &config.pod_identity.provider,
            allowed,
        ))
    } else {
        config.context.http.client(&auth.tls)
    };
    warnings.extend(client.as_ref().err().cloned());
    let timeout = Some(settings.duration("timeout"))
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(config.http_timeout);
    let trigger = Prometheus {
        url: url(&settings),
        headers: settings
            .map("customHeaders")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        auth,
        client,
        timeout,
        activation: settings.float("activationThreshold"),
        ignore_null: settings.boolean("ignoreNullValues"),
    };
    let metrics = external_metric(
        config,
        kind,
        NAME,
        MilliValue::from_metric_f64(settings.float("threshold")),
    );
    let activation = Activation::Above(trigger.activation);
    let mut built = BuiltTrigger::new(
        NAME,
        config,
        metrics,
        activation,
        Source::Polled(Arc::new(trigger)),
        settings,
    );
    built.warnings = warnings;
    Ok(built)
}

/// The address, the query and the parameters; the time comes last, at each poll.
fn url(settings: &Settings) -> String {
    let address = settings.text("serverAddress").trim_end_matches('/');
    let mut url = format!(
        "{address}/api/v1/query?query={}",
        query_escape(settings.text("query"))
    );
    // Namespaced queries, as of Thanos Querier.
    let namespace =
        Some(("namespace", settings.text("namespace"))).filter(|(_, value)| !value.is_empty());
    for (name, value) in namespace.into_iter().chain(settings.map("queryParameters")) {
        url.push('&');
        url.push_str(&query_escape(name));
        url.push('=');
        url.push_str(&query_escape(value));
    }
    url
}

impl Prometheus {
    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let client = self
            .client
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let url = format!(
            "{}&time={}",
            self.url,
            call.wall.strftime("%Y-%m-%dT%H:%M:%SZ")
        );
        let mut request = client.get(url);
        for (name, value) in &self.headers {
            let (name, value) = (
                header_name("customHeaders", name),
                secret_value("customHeaders", value),
            );
            request = request.header(
                name.map_err(PollError::Config)?,
                value.map_err(PollError::Config)?,
            );
        }
        let request = self.auth.apply(request).map_err(PollError::Config)?;
        let limits = FetchLimits {
            timeout: self.timeout.min(call.timeout),
            body: BODY,
        };
        let body = fetch(NAME, request, limits).await?;
        let value = number(&body)
            .and_then(|value| self.or_null(value))
            .map_err(|reason| PollError::Answer {
                source_name: NAME,
                reason,
            })?;
        Ok(reading(value, self.activation))
    }

    /// A missing, infinite or not-a-number result is 0, or an error where the user says so.
    fn or_null(&self, value: Option<f64>) -> Result<f64, String> {
        match value {
            Some(value) if value.is_finite() => Ok(value),
            _ if self.ignore_null => Ok(0.0),
            Some(value) => Err(format!(
                "its value is {value}, and ignoreNullValues is false"
            )),
            None => Err("its result is empty, and ignoreNullValues is false".to_owned()),
        }
    }
}

/// The one value of an answer: of an instant vector with one element, or of a scalar. `None` where
/// there is none.
fn number(body: &[u8]) -> Result<Option<f64>, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "it is not JSON".to_owned())?;
    let data = &answer["data"];
    let result = data["result"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let sample = match (data["resultType"].as_str(), result) {
        (_, []) => return Ok(None),
        (Some("scalar"), sample) => sample,
        (_, [element]) => match element["value"].as_array() {
            Some(sample) => sample,
            None => return Ok(None),
        },
        (_, elements) => {
            return Err(format!(
                "its result has {} elements; the query must give one",
                elements.len()
            ));
        }
    };
    match sample {
        [] => Ok(None),
        [_, Value::Null, ..] => Ok(None),
        [_, Value::String(text), ..] => match text.as_str() {
            "+Inf" => Ok(Some(f64::INFINITY)),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| format!("its value {text:?} is not a number")),
        },
        _ => Err("its sample is not a time and a value".to_owned()),
    }
}

impl PolledTrigger for Prometheus {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        let numbers = format!("{:?}{}{}", self.timeout, self.activation, self.ignore_null);
        let mut parts = vec![
            NAME.to_owned(),
            self.url.clone(),
            numbers,
            format!("{:x}", self.auth.digest().0),
        ];
        parts.extend(
            self.headers
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        QueryKey(Digest::of(parts).0)
    }
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prometheus")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
