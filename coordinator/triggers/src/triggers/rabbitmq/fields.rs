//! The fields of `rabbitmq` and what their combinations allow.

use super::measure::Mode;
use crate::error::FieldError;
use crate::metadata::{Field, Kind, Origin, Settings, Value};

const AUTH: &[Origin] = &[Origin::Auth];
const AUTH_OR_ENV: &[Origin] = &[Origin::Auth, Origin::Env];
const METADATA_OR_AUTH: &[Origin] = &[Origin::Metadata, Origin::Auth];

/// The mode where none is named.
const UNKNOWN: &str = "Unknown";
/// Messages per replica where neither value nor queueLength is given.
const DEFAULT_LENGTH: f64 = 20.0;

pub(super) const FIELDS: &[Field] = &[
    Field::text("queueName").required(),
    Field::text("mode").or_default(UNKNOWN),
    Field::float("queueLength"),
    Field::float("value"),
    Field::float("activationValue"),
    Field::text("host")
        .from(&[Origin::Metadata, Origin::Auth, Origin::Env])
        .required()
        .secret(),
    Field::text("protocol")
        .from(METADATA_OR_AUTH)
        .or_default("auto"),
    Field::text("vhostName").from(METADATA_OR_AUTH),
    Field::boolean("useRegex"),
    Field::boolean("excludeUnacknowledged"),
    Field::integer("pageSize").or_default("100"),
    Field::text("operation").or_default("sum"),
    Field::duration("timeout"),
    Field::text("username").from(AUTH_OR_ENV),
    Field::text("password").from(AUTH_OR_ENV).secret(),
    Field::text("ca").from(AUTH).secret(),
    Field::text("cert").from(AUTH).secret(),
    Field::text("key").from(AUTH).secret(),
    Field::text("keyPassword").from(AUTH).secret(),
    Field::text("tls").from(AUTH).or_default("disable"),
    Field::boolean("unsafeSsl"),
    Field::text("workloadIdentityResource").from(AUTH),
    Field::text("oauthTokenURI").from(AUTH),
    Field::list("scopes").or_named(&["scope"]).from(AUTH),
    Field::text("clientID").from(AUTH),
    Field::text("clientSecret").from(AUTH).secret(),
    Field::new("endpointParams", Kind::Query)
        .from(AUTH)
        .secret(),
];

/// Checks the fields together, and replaces `protocol: auto`, an absent mode and `queueLength` by
/// what they stand for.
pub(super) fn check(settings: &mut Settings, errors: &mut Vec<FieldError>) {
    protocol(settings, errors);
    let has = |name: &str| !settings.text(name).is_empty();
    let mut refuse = |field: &str, value: &str, allowed: &str| {
        errors.push(FieldError::invalid(field, value, allowed))
    };
    let protocol = settings.text("protocol");
    if !matches!(settings.text("tls"), "enable" | "disable") {
        refuse("tls", "<redacted>", "it must be enable or disable");
    }
    if has("cert") != has("key") {
        refuse("cert and key", "<redacted>", "they must be given together");
    }
    if settings.integer("pageSize") < 1 {
        refuse(
            "pageSize",
            &settings.integer("pageSize").to_string(),
            "it must be a whole number of at least 1",
        );
    }
    if has("username") != has("password") {
        refuse(
            "username and password",
            "<redacted>",
            "they must be given together",
        );
    }
    if protocol == "amqp" {
        if has("workloadIdentityResource") {
            refuse(
                "workloadIdentityResource",
                "<redacted>",
                "it cannot be used with AMQP",
            );
        }
        for field in ["useRegex", "excludeUnacknowledged"]
            .iter()
            .filter(|field| settings.boolean(field))
        {
            refuse(field, "true", "it can be true only with the HTTP protocol");
        }
    }
    let oauth = ["oauthTokenURI", "clientID", "clientSecret"];
    if oauth.iter().any(|field| has(field)) {
        if !oauth.iter().all(|field| has(field)) {
            refuse(
                "oauthTokenURI, clientID and clientSecret",
                "<redacted>",
                "they must be given together",
            );
        }
        if protocol == "amqp" {
            refuse(
                "oauthTokenURI",
                "<redacted>",
                "OAuth works only with the HTTP protocol",
            );
        }
        if (has("username") && has("password")) || has("workloadIdentityResource") {
            refuse(
                "oauthTokenURI",
                "<redacted>",
                "OAuth cannot be used together with a user name or a workload identity",
            );
        }
    }
    trigger(settings, errors);
}

/// `auto` becomes what the scheme of the host says.
fn protocol(settings: &mut Settings, errors: &mut Vec<FieldError>) {
    let protocol = settings.text("protocol");
    if !matches!(protocol, "amqp" | "http" | "auto") {
        let fault = FieldError::invalid("protocol", protocol, "it must be auto, amqp or http");
        errors.push(settings.redacted(fault));
        return;
    }
    if protocol != "auto" || errors.iter().any(|error| error.field == "host") {
        return;
    }
    let found = match scheme(settings.text("host")).as_deref() {
        Some("amqp" | "amqps") => "amqp",
        Some("http" | "https") => "http",
        _ => {
            let allowed = "it must be a URL whose scheme is amqp, amqps, http or https";
            errors.push(FieldError::invalid("host", "<redacted>", allowed));
            return;
        }
    };
    settings.replace("protocol", Value::Text(found.to_owned()));
}

/// The scheme of a URL in lower case; `None` where it has none or its port is not a number.
fn scheme(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let well_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && !url.contains(|c: char| c.is_ascii_control());
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let server = authority.rsplit('@').next().unwrap_or_default();
    let after_host = server.rsplit(']').next().unwrap_or_default();
    let port = after_host.rsplit_once(':').map_or("", |(_, port)| port);
    (well_formed && port.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| scheme.to_ascii_lowercase())
}

/// Mode and value, or the older `queueLength`.
fn trigger(settings: &mut Settings, errors: &mut Vec<FieldError>) {
    let (length, value, mode) = (
        settings.float("queueLength"),
        settings.float("value"),
        settings.text("mode").to_owned(),
    );
    let mut set = |value: f64| {
        settings.replace("mode", Value::Text("QueueLength".to_owned()));
        settings.replace("value", Value::Float(value));
    };
    if length == 0.0 && value == 0.0 && mode == UNKNOWN {
        return set(DEFAULT_LENGTH);
    }
    if length != 0.0 {
        if mode != UNKNOWN || value != 0.0 {
            errors.push(FieldError::invalid(
                "queueLength",
                length.to_string(),
                "it cannot be set together with mode or value; use those",
            ));
        }
        return set(length);
    }
    let names = || format!("it must be one of {}", Mode::NAMES.join(", "));
    if mode == UNKNOWN {
        errors.push(FieldError::missing("mode", names()));
        return;
    }
    if value == 0.0 && !errors.iter().any(|error| error.field == "value") {
        errors.push(FieldError::missing(
            "value",
            "it must be a number other than 0",
        ));
    }
    let amqp = settings.text("protocol") == "amqp";
    match Mode::named(&mode) {
        None => errors.push(FieldError::invalid("mode", mode, names())),
        Some(Mode::QueueLength) => {}
        Some(_) if amqp => errors.push(FieldError::invalid(
            "mode",
            mode,
            "with AMQP it must be QueueLength",
        )),
        Some(_) => {}
    }
    if amqp && !settings.duration("timeout").is_zero() {
        let timeout = format!("{:?}", settings.duration("timeout"));
        errors.push(FieldError::invalid(
            "timeout",
            timeout,
            "it can be set only with the HTTP protocol",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_those_of_a_url() {
        for (url, expected) in [
            ("http://", Some("http")),
            ("HTTPS://user:p%40ss@host:15672/vhost", Some("https")),
            ("amqp://user:secret@[::1]:5672/%2F", Some("amqp")),
            ("something://", Some("something")),
            ("http://host:port/", None),
            ("host:5672", Some("host")),
            ("://host", None),
            ("host", None),
            ("", None),
        ] {
            assert_eq!(scheme(url).as_deref(), expected, "{url}");
        }
    }
}
