//! `metrics-api`: a number in the answer of any HTTP service.

use std::sync::Arc;
use std::time::Duration;

use neap_units::MilliValue;
use reqwest::Url;

use super::http_value::{Format, value_at};
use super::polled::{external_kind, external_metric, reading};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::http::{
    AUTH_FIELDS, FetchLimits, HttpAuth, TlsOptions, fetch, header_name, secret_value,
};
use crate::metadata::{self, Field, Settings};
use crate::registry::Checked;
use crate::shared::Digest;

const NAME: &str = "metrics-api";

/// Larger answers are no metrics of one service.
const BODY: usize = 4 << 20;

const FIELDS: &[Field] = &[
    Field::float("targetValue"),
    Field::float("activationTargetValue").or_default("0"),
    Field::text("url").required(),
    Field::text("format")
        .or_default("json")
        .one_of(&["prometheus", "json", "xml", "yaml"]),
    Field::text("valueLocation").required(),
    Field::boolean("unsafeSsl").or_default("false"),
    Field::boolean("aggregateFromKubeServiceEndpoints").or_default("false"),
    Field::text("aggregationType")
        .or_default("average")
        .one_of(&["average", "sum", "max", "min"]),
    Field::duration("timeout"),
];

/// A question that is ready to be asked.
struct MetricsApi {
    target: Result<(Url, Arc<reqwest::Client>), FieldError>,
    auth: HttpAuth,
    format: Format,
    location: String,
    timeout: Duration,
    activation: f64,
    key: Digest,
}

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS, AUTH_FIELDS], config);
    let kind = external_kind(config, &mut errors);
    let mut auth = HttpAuth::from_settings(&mut settings, &mut errors);
    let target = settings.float("targetValue");
    if target == 0.0
        && !config.as_metric_source
        && !errors.iter().any(|error| error.field == "targetValue")
    {
        errors.push(FieldError::missing(
            "targetValue",
            "it must be a number other than 0",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if !auth.uses("tls") {
        auth.tls = TlsOptions::default();
    }
    auth.tls.insecure = settings.boolean("unsafeSsl");
    let trigger = MetricsApi::new(&settings, auth, config);
    let location = settings.text("valueLocation");
    let metrics = external_metric(
        config,
        kind,
        &format!("metric-api-{location}"),
        MilliValue::from_metric_f64(target),
    );
    let activation = Activation::Above(trigger.activation);
    let mut warnings: Vec<FieldError> =
        trigger.target.as_ref().err().cloned().into_iter().collect();
    if trigger.auth.uses("oauth") {
        warnings.push(FieldError::invalid(
            "authModes",
            "oauth",
            "the metrics-api trigger does nothing with it, as in KEDA",
        ));
    }
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

impl MetricsApi {
    fn new(settings: &Settings, auth: HttpAuth, config: &TriggerConfig) -> Self {
        let format = match settings.text("format") {
            "prometheus" => Format::Prometheus,
            "yaml" => Format::Yaml,
            "xml" => Format::Xml,
            _ => Format::Json,
        };
        let timeout = Some(settings.duration("timeout"))
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(config.http_timeout);
        let activation = settings.float("activationTargetValue");
        let location = settings.text("valueLocation").to_owned();
        let numbers = format!("{format:?}{timeout:?}{activation}{:x}", auth.digest().0);
        let key = Digest::of([NAME, settings.text("url"), &location, &numbers]);
        let target = usable(settings, format).and_then(|()| {
            let mut url = Url::parse(settings.text("url")).map_err(|_| {
                FieldError::invalid(
                    "url",
                    "<redacted>",
                    "it must be a URL such as http://host:port/path",
                )
            })?;
            if auth.uses("apiKey") && auth.api_key_in_query {
                set_parameter(&mut url, or(&auth.api_key_name, "api_key"), &auth.api_key);
            }
            Ok((url, config.context.http.client(&auth.tls)?))
        });
        Self {
            target,
            auth,
            format,
            location,
            timeout,
            activation,
            key,
        }
    }

    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let (url, client) = self
            .target
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let mut request = client.get(url.clone());
        if self.auth.uses("apiKey") && !self.auth.api_key_in_query {
            let name = header_name("keyParamName", or(&self.auth.api_key_name, "X-API-KEY"))
                .map_err(PollError::Config)?;
            request = request.header(
                name,
                secret_value("apiKey", &self.auth.api_key).map_err(PollError::Config)?,
            );
        }
        let request = self.auth.apply(request).map_err(PollError::Config)?;
        let limits = FetchLimits {
            timeout: self.timeout.min(call.timeout),
            body: BODY,
        };
        let body = fetch(NAME, request, limits).await?;
        let value = value_at(self.format, &body, &self.location);
        Ok(reading(
            value.map_err(|reason| PollError::Answer {
                source_name: NAME,
                reason,
            })?,
            self.activation,
        ))
    }
}

/// Settings that KEDA accepts and that cannot work here.
fn usable(settings: &Settings, format: Format) -> Result<(), FieldError> {
    if settings.boolean("aggregateFromKubeServiceEndpoints") {
        let allowed = "Neap cannot ask the endpoints of a Service one by one yet; leave it false";
        return Err(FieldError::invalid(
            "aggregateFromKubeServiceEndpoints",
            "true",
            allowed,
        ));
    }
    if format == Format::Xml {
        let allowed = "no value can be read from it (KEDA accepts it and fails too); use json, yaml or prometheus";
        return Err(FieldError::invalid("format", "xml", allowed));
    }
    Ok(())
}

fn or<'a>(name: &'a str, default: &'a str) -> &'a str {
    if name.is_empty() { default } else { name }
}

/// Sets a parameter of the URL's query, whatever it was before.
fn set_parameter(url: &mut Url, name: &str, value: &str) {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(own, _)| own != name)
        .map(|(own, value)| (own.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair(name, value);
}

impl PolledTrigger for MetricsApi {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl std::fmt::Debug for MetricsApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsApi")
            .field("format", &self.format)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}
